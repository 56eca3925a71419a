"""Copied code: the names that it looks up outside, and its syntax tree with other names for them."""

from __future__ import annotations

import ast
import copy
import symtable
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T", bound=ast.AST)


def outside(tree: ast.stmt) -> list[str]:
    """The names that a definition looks up in its module, in order; those of annotations are left out."""
    bare = ast.fix_missing_locations(_Bare().visit(copy.deepcopy(tree)))
    table = symtable.symtable(ast.unparse(bare), "<copied>", "exec")
    own = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}
    return [name for name in dict.fromkeys(_looked_up(table, True)) if name not in own]


def _looked_up(table: symtable.SymbolTable, top: bool) -> Iterator[str]:
    for symbol in table.get_symbols():
        if symbol.is_referenced() and (symbol.is_global() or top):
            yield symbol.get_name()
    for inside in table.get_children():
        yield from _looked_up(inside, False)


def assigned_outside(tree: ast.AST) -> str | None:
    """A name that code assigns outside of itself, by `global` or `nonlocal`."""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal))
    return next((node.names[0] for node in found), None)


class _Bare(ast.NodeTransformer):
    """Without annotations, which are texts in the written module."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        self.generic_visit(node)
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node


def unannotated(tree: ast.FunctionDef) -> ast.FunctionDef:
    """Without annotations of arguments, whose names would mean nothing in another module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return tree


class Replaced(ast.NodeTransformer):
    """With expressions in place of names. No local name may be among them."""

    def __init__(self, expressions: Mapping[str, str]):
        self.expressions = expressions

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return parsed(self.expressions[node.id]) if node.id in self.expressions else node


class Mangled(ast.NodeTransformer):
    """With the names that Python gives to private ones inside of a class, written out."""

    def __init__(self, owner: str):
        self.owner = owner.lstrip("_")

    def generic_visit(self, node: Any) -> Any:
        for field in ("id", "attr", "arg", "name"):
            value = getattr(node, field, None)
            if isinstance(value, str) and value.startswith("__") and not value.endswith("__") and "." not in value:
                setattr(node, field, f"_{self.owner}{value}")
        return super().generic_visit(node)


class WithoutSuper(ast.NodeTransformer):
    """With a name for the class that `super()` and `__class__` mean: in another class they would mean another one."""

    def __init__(self, cls: str):
        self.cls, self.first = cls, ""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        before = self.first
        arguments = [*node.args.posonlyargs, *node.args.args]
        self.first = arguments[0].arg if arguments else before
        self.generic_visit(node)
        self.first = before
        return node

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args:
            node.args = [ast.Name(self.cls, ast.Load()), ast.Name(self.first, ast.Load())]
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.cls if node.id == "__class__" else node.id
        return node


def parsed(expression: str) -> ast.expr:
    """The syntax tree of an expression."""
    return ast.parse(expression, mode="eval").body
