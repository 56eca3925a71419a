"""What calls in the code of a constructor come to: integers, lists that grow, modules, functions that are followed."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import FunctionType

from torch import nn

from surgery.axes.formulas import Field, Origin
from surgery.modules.code.source import NoSource
from surgery.modules.constructor.expressions import Expressions
from surgery.modules.constructor.scope import Unreadable, constant
from surgery.modules.constructor.values import OTHER, Built, Given, Items, Value, item, joined, listed

Arguments = dict[str, Value]


class Calls(Expressions):
    """Expressions, calls among them. What has a method of its own is known by its name."""

    def value_call(self, node: ast.Call) -> Value:
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        known = getattr(self, f"call_{name}", None)
        found: Value = None if known is None else known(node)
        if found is not None:
            return found
        function = self.outer(node.func)
        if isinstance(function, type) and issubclass(function, nn.Module):
            container = issubclass(function, nn.Sequential | nn.ModuleList)
            given = None if container else self.arguments(node, function.__init__, bound=True)
            return Built(function, given or {}, self.listed(node.args) if container else Items())
        if isinstance(function, FunctionType) and not self.loops:
            return self.called(node, function)
        if any(function is one for one in (setattr, delattr, vars)):
            raise Unreadable("attributes are set by their names")
        return self.unlike(node)

    def called(self, node: ast.Call, function: FunctionType) -> Value:
        """What a function returns that is followed, if it can be."""
        own = self.is_own(node.func)
        static = isinstance(inspect.getattr_static(self.cls, function.__name__, None), staticmethod)
        try:
            given = self.arguments(node, function, bound=own and not static)
            if given is not None:
                return self.follow(function, given, self.cls.__mro__ if own else ())
        except NoSource:
            pass
        return self.unlike(node)

    def follow(self, function: FunctionType, given: Mapping[str, Value], mro: Sequence[type]) -> Value:
        """Follow the code of a function. Raises NoSource where that cannot be had."""
        raise NotImplementedError

    def arguments(self, node: ast.Call, function: object, bound: bool) -> Arguments | None:
        """What a call gives the parameters of a function, apart from a `bound` first; None where that is not said."""
        written = list(itertools.takewhile(lambda one: not isinstance(one, ast.Starred), node.args))
        named = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg is not None}
        whole = len(written) == len(node.args) and len(named) == len(node.keywords)
        try:
            signature = inspect.signature(function)  # type: ignore[arg-type]
            places = signature.bind_partial(*[None] * bound, *written, **named)
        except (TypeError, ValueError):
            return None
        found: Arguments = {}
        for name, parameter in list(signature.parameters.items())[bound:]:
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found[name] = None
            elif name in places.arguments:
                found[name] = self.value(places.arguments[name])
            else:
                found[name] = constant(parameter.default) if whole else None
        return found

    def call_int(self, node: ast.Call) -> Value:
        if len(node.args) != 1 or node.keywords:
            return None
        inner = node.args[0]
        if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Div):  # of two integers
            return self.arithmetic(ast.FloorDiv(), self.value(inner.left), self.value(inner.right))
        value = self.value(inner)
        return value if isinstance(value, Origin) and not isinstance(inner, ast.BinOp) else None

    def call_tuple(self, node: ast.Call) -> Value:
        return self.value(node.args[0]) if len(node.args) == 1 and isinstance(node.func, ast.Name) else None

    call_list = call_tuple

    def call_getattr(self, node: ast.Call) -> Value:
        if len(node.args) not in (2, 3) or not isinstance(node.args[1], ast.Constant):
            return None
        found = item(self.value(node.args[0]), Field(str(node.args[1].value)))
        return self.one_of(ast.unparse(node), found, *map(self.value, node.args[2:]))

    def call_get(self, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Attribute) or not node.args or not isinstance(node.args[0], ast.Constant):
            return None
        found = item(self.value(node.func.value), node.args[0].value)
        return self.one_of(ast.unparse(node), found, *map(self.value, node.args[1:]))

    def call_pop(self, node: ast.Call) -> Value:
        """Of keyword arguments, what lies there; a list is another one afterwards."""
        base = self.value(node.func.value) if isinstance(node.func, ast.Attribute) else None
        return self.call_get(node) if isinstance(base, Given) else None

    def call_append(self, node: ast.Call) -> Value:
        """A list that grows."""
        return self.changed(node, self.grown)

    def call_extend(self, node: ast.Call) -> Value:
        """A list that grows by another one."""
        return self.changed(
            node, lambda old, new: joined([old, new]) if isinstance(old, Items) and not self.loops else None
        )

    def changed(self, node: ast.Call, how: Callable[[Value, Value], Value]) -> Value:
        """Nothing that is returned: what a method is called of is another value afterwards."""
        key = self.key(node.func.value) if isinstance(node.func, ast.Attribute) else None
        if key is not None and key in self.names and len(node.args) == 1:
            self.names[key] = how(self.names[key], self.value(node.args[0]))
        return OTHER

    def grown(self, value: Value, new: Value) -> Value:
        if isinstance(value, Built) and issubclass(value.cls, nn.Sequential | nn.ModuleList):
            more = self.grown(listed(value), new)
            assert isinstance(more, Items)
            return replace(value, items=more if issubclass(value.cls, nn.Sequential) else Items((more,)))
        if not isinstance(value, Items):
            return None
        if not self.loops and not value.open:
            return Items((*value.items, new))
        return Items(value.items, None if value.open else new, open=True)
