"""The names that the code of a constructor knows while it is followed."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Mapping, Sequence
from types import FunctionType

from surgery.axes.formulas import Constant, Origin
from surgery.modules.constructor.values import OTHER, Built, Choice, Given, Other, Value


class Unreadable(Exception):
    """A constructor sets attributes in a way that cannot be followed."""


SELF = "self."  # before the names of attributes


class Scope:
    """Variables and attributes, of the function that is being followed and of the module that is being made."""

    def __init__(self, cls: type):
        self.cls = cls
        self.names: dict[str, Value] = {}
        self.function: FunctionType | None = None
        self.me = "self"
        self.mro: Sequence[type] = cls.__mro__
        self.loops = self.fresh_ones = 0
        self.either: dict[Given, tuple[Origin, ...]] = {}

    def key(self, node: ast.AST) -> str | None:
        """The name of a variable, or of an attribute of the module."""
        if isinstance(node, ast.Name):
            return node.id
        return f"{SELF}{node.attr}" if isinstance(node, ast.Attribute) and self.is_own(node) else None

    def is_own(self, node: ast.expr) -> bool:
        """Whether an expression is an attribute of the module."""
        own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self.me
        return own and bool(self.me)

    def fresh(self, name: str, *either: Value) -> Value:
        """A value of which nothing is known but that it is one, or one of several. In a loop it is many."""
        if self.loops:
            return None
        self.fresh_ones += 1
        one = Given(f"{name} #{self.fresh_ones}")
        if either and all(isinstance(value, Origin) for value in either):
            self.either[one] = tuple(value for value in either if isinstance(value, Origin))
        return one

    def one_of(self, name: str, *values: Value) -> Value:
        """What is one of these values, as a condition says."""
        different = [value for i, value in enumerate(values) if value not in values[:i]]
        real = [value for value in different if not isinstance(value, Other)]
        if len(real) <= 1:
            return (real or different)[0]
        objects = [v for value in real for v in (value.values if isinstance(value, Choice) else (value,))]
        if all(isinstance(value, Built) for value in objects):
            return Choice(tuple(value for value in objects if isinstance(value, Built)))
        return self.fresh(name, *real)

    def forget(self, nodes: Iterable[ast.AST]) -> None:
        """Know no more of what code sets that is not followed: variables, attributes, what methods are called of."""
        for one in (one for node in nodes for one in ast.walk(node)):
            target: ast.AST | None = one if isinstance(getattr(one, "ctx", None), ast.Store | ast.Del) else None
            if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute):
                target = one.func.value
            while isinstance(target, ast.Subscript):
                target = target.value
            key = None if target is None else self.key(target)
            if key is not None and (key.startswith(SELF) or key in self.names):
                self.names[key] = None

    def merge(self, *branches: Mapping[str, Value]) -> None:
        """Know what holds after several ways through the code."""
        names = dict.fromkeys(name for branch in branches for name in branch)
        self.names = {name: self.one_of(name, *(b[name] for b in branches if name in b)) for name in names}

    def outer(self, node: ast.expr) -> object:
        """What a name, dotted or not, means outside of the function: a class, a function, a number."""
        if isinstance(node, ast.Attribute):
            base = self.cls if self.is_own(node) else self.outer(node.value)
            return None if base is None else getattr(base, node.attr, None)
        if not isinstance(node, ast.Name) or node.id in self.names or self.function is None:
            return None
        cells = dict(zip(self.function.__code__.co_freevars, self.function.__closure__ or (), strict=False))
        if node.id not in cells:
            return self.function.__globals__.get(node.id, getattr(builtins, node.id, None))
        try:
            return cells[node.id].cell_contents
        except ValueError:  # an empty cell
            return None


def constant(value: object) -> Value:
    """The value of a Python object that stands in the code, or is a default."""
    if type(value) is int:
        return Constant(value)
    return OTHER if value is None or isinstance(value, str | float | bool | type) else None
