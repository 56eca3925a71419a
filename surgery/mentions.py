"""Reading, without running it, which names the code of a class uses."""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType

from torch import nn

# Methods that no forward calls.
_APART = frozenset(
    "__init__ __repr__ extra_repr _init_weights init_weights initialize_weights reset_parameters _reset_parameters "
    "load_state_dict _load_from_state_dict state_dict _save_to_state_dict".split()
)


def mentions(cls: type, names: set[str]) -> bool:
    """Whether the code of a module class, what makes and stores it apart, uses one of these names."""
    return not names.isdisjoint(_names(cls))


@functools.cache
def assigned(cls: type) -> frozenset[str]:
    """The names of the attributes that the code of a module class, its constructor apart, assigns."""
    codes = (code for function in _functions(cls) for code in _codes(function.__code__))
    steps = (step for code in codes for step in dis.get_instructions(code))
    return frozenset(step.argval for step in steps if step.opname == "STORE_ATTR")


def overwrites(module: nn.Module, name: str) -> bool:
    """Whether every function of a module's class that reads this attribute has assigned it before."""
    readers = [function for function in _functions(type(module)) if name in _used(function)]
    try:
        trees = [ast.parse(textwrap.dedent(inspect.getsource(function))).body[0] for function in readers]
    except (OSError, TypeError, SyntaxError):
        return False
    return all(isinstance(tree, ast.FunctionDef) and not _block(tree.body, name, False, module)[0] for tree in trees)


def _block(statements: list[ast.stmt], name: str, known: bool, module: nn.Module) -> tuple[bool, bool]:
    """Whether statements may read what an attribute held before; and whether it is assigned behind them."""
    for statement in statements:
        before = statement.test if isinstance(statement, ast.If) else statement
        if not known and _reads(before, name):
            return True, known
        if isinstance(statement, ast.If):
            ways = [_block(way, name, known, module) for way in (statement.body, statement.orelse)]
            if any(reads for reads, _ in ways):
                return True, known
            leaves = [_leaves(way) for way in (statement.body, statement.orelse)]
            other = _holds(statement.test, module) or leaves[1] or ways[1][1]
            known = (leaves[0] or ways[0][1]) and other
        elif isinstance(statement, ast.Assign):
            known = known or any(_own(target, name) for target in statement.targets)
    return False, known


def _reads(node: ast.AST, name: str) -> bool:
    """Whether code names the attribute other than to assign it."""
    found = (item for item in ast.walk(node) if getattr(item, "attr", getattr(item, "value", None)) == name)
    kept = node.targets if isinstance(node, ast.Assign) else []
    return any(item not in kept or not _own(item, name) for item in found)


def _own(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Attribute) and ast.unparse(node) == f"self.{name}"


def _leaves(statements: list[ast.stmt]) -> bool:
    return bool(statements) and isinstance(statements[-1], ast.Return | ast.Raise)


def _holds(test: ast.expr, module: nn.Module) -> bool:
    """Whether a test asks for a parameter that the module has: `self.bias is not None`."""
    return any(ast.unparse(test) == f"self.{name} is not None" for name, _ in module.named_parameters(recurse=False))


@functools.cache
def _names(cls: type) -> frozenset[str]:
    return frozenset(name for function in _functions(cls) for name in _used(function))


def _used(function: FunctionType) -> set[str]:
    found: set[str] = set()
    for code in _codes(function.__code__):
        used = set(code.co_names)
        if "getattr" in used and not _computes_names(code):
            used.remove("getattr")  # the names are strings in the code
        found |= used | {constant for constant in code.co_consts if isinstance(constant, str)}
    return found


def _computes_names(code: CodeType) -> bool:
    """Whether code calls `getattr` with a name that is not simply written out."""
    steps = list(dis.get_instructions(code))
    for i, step in enumerate(steps):
        if step.opname.startswith("LOAD_") and step.argval == "getattr":
            call = itertools.takewhile(lambda later: not later.opname.startswith("CALL"), steps[i + 1 :])
            arguments = [later for later in call if later.opname != "PRECALL"]
            named = any(later.opname == "LOAD_CONST" and isinstance(later.argval, str) for later in arguments)
            if not named or any(later.opname.startswith(("BUILD", "FORMAT", "BINARY")) for later in arguments):
                return True
    return False


def _functions(cls: type) -> Iterator[FunctionType]:
    """The functions of a module class, its constructor apart."""
    for base in cls.__mro__:
        if base is nn.Module:
            break
        for name, value in vars(base).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            function = getattr(function, "__wrapped__", function)
            if isinstance(function, FunctionType) and name not in _APART:
                yield function


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of every function inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
