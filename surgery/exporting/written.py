"""Classes and functions that cannot be imported elsewhere, as those of a script: their source, with what it needs."""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import sys
import textwrap
import types
from collections.abc import Callable, Container, Mapping
from typing import Any

from surgery.errors import InputError
from surgery.exporting.code import Replaced, assigned_outside, outside
from surgery.exporting.layout import Source, flat
from surgery.exporting.names import Names

Definition = ast.ClassDef | ast.FunctionDef


class Written:
    """What a module holds of other modules, in an order in which each comes after what it needs."""

    def __init__(self, names: Names, value: Callable[[object, str], Source]):
        self.names, self.value = names, value
        self.parts: list[str] = []
        self._names: dict[int, tuple[object, str]] = {}

    def reference(self, value: Any, where: str) -> str:
        """An expression for a class, a function or a module: of what is imported, or of what is written out."""
        imported = self.names.reference(value)
        if imported is not None:
            return imported
        if isinstance(value, types.ModuleType):
            raise InputError(f"{where}: the module {value.__name__} cannot be imported without this library")
        if id(value) not in self._names:
            tree, source = _definition(value, where)
            name, before = self.names.unique(tree.name), ast.unparse(tree)
            self._names[id(value)] = value, name  # first: it may name itself
            tree.name = name
            origin, variables = _surroundings(value)
            self.renamed(tree, variables, origin, where)
            after = ast.unparse(ast.fix_missing_locations(tree))
            self.parts.append(source if after == before else after)
        return self._names[id(value)][1]

    def renamed(
        self, tree: Definition, variables: Mapping[str, object], origin: str, where: str, ours: Container[str] = ()
    ) -> None:
        """Change copied code in place, so that it finds what its own module holds under its names.

        Names that are `ours` stay.
        """
        assigned = assigned_outside(tree)
        if assigned is not None:
            raise InputError(f"{where}: {tree.name} cannot be written out: it assigns the global {assigned}")
        changes = {}
        for name in outside(tree):
            if name in ours or (name not in variables and hasattr(builtins, name)):
                continue
            if name not in variables:
                raise InputError(f"{where}: {tree.name} cannot be written out: {name} is not a name of its module")
            new = self._outside(name, variables[name], origin, where)
            if new != name:
                changes[name] = new
        local = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        local |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and not isinstance(n.ctx, ast.Load)}
        if clash := local & changes.keys():
            raise InputError(f"{where}: {tree.name} cannot be written out: {clash.pop()} means two things in it")
        Replaced(changes).visit(tree)

    def _outside(self, name: str, value: object, origin: str, where: str) -> str:
        """The name of what copied code looks up: it is imported, written out, or written as a constant."""
        bound = self.names.bind(name, value, origin)
        if bound is not None:
            return bound
        if isinstance(value, type | types.FunctionType | types.ModuleType):
            return self.reference(value, f"{where}, which needs {name}")
        key = id(value)
        if key not in self._names:
            source = self.value(value, f"{where}, whose code needs {name}")
            self._names[key] = value, self.names.unique(name)
            self.parts.append(f"{self._names[key][1]} = {flat(source)}")
        return self._names[key][1]


def _definition(value: Any, where: str) -> tuple[Definition, str]:
    """The syntax tree of a class or function from its file, and its lines. Raises InputError where it is not there."""
    name = getattr(value, "__name__", type(value).__name__)
    kind = ast.ClassDef if isinstance(value, type) else ast.FunctionDef
    codes = [member.__code__ for member in _functions(value)]
    file = codes[0].co_filename if codes else getattr(sys.modules.get(value.__module__), "__file__", None)
    source = "".join(linecache.getlines(file)) if file else ""
    found = [node for node in ast.walk(_parsed(source)) if isinstance(node, kind) and node.name == name]
    lines = [code.co_firstlineno for code in codes if code.co_filename == file]
    fits = [node for node in found if all(_first(node) <= line <= (node.end_lineno or 0) for line in lines)]
    if len(fits) != 1:
        raise InputError(
            f"{where}: {name} cannot be imported where this library is not, and its source is not found: put it into a "
            "module of its own, without surgery"
        )
    whole = source.splitlines()[_first(fits[0]) - 1 : fits[0].end_lineno]
    return fits[0], textwrap.dedent("\n".join(whole))


def _parsed(source: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError:  # a cell of a notebook may hold more than Python
        return ast.Module([], [])


def _first(node: Definition) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _functions(value: Any) -> list[types.FunctionType]:
    """The functions that a class defines in its own body, or the function itself."""
    if not isinstance(value, type):
        return [value] if isinstance(value, types.FunctionType) else []
    members = [inspect.unwrap(getattr(member, "__func__", member)) for member in vars(value).values()]
    members += [member.fget for member in vars(value).values() if isinstance(member, property)]
    plain = [member for member in members if isinstance(member, types.FunctionType)]
    return [member for member in plain if member.__code__.co_qualname.startswith(f"{value.__qualname__}.")]


def _surroundings(value: Any) -> tuple[str, Mapping[str, object]]:
    """The name of a definition's module, and what code in it finds: globals, and what functions have closed over."""
    functions = _functions(value)
    module = value.__module__
    variables: dict[str, object] = dict(vars(sys.modules[module])) if module in sys.modules else {}
    if functions:
        variables |= functions[0].__globals__
    for function in functions:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":
                variables[name] = cell.cell_contents
    return module, variables
