"""What expressions in the code of a constructor come to."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from surgery.axes.formulas import Arithmetic, Field, Origin
from surgery.modules.constructor.scope import SELF, Scope, constant
from surgery.modules.constructor.values import Given, Items, Value, item, joined

PURE = frozenset("int float abs min max len round sum bool str isinstance hasattr tuple list sorted range".split())
SIGNS: Mapping[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//", ast.Mod: "%",
}  # fmt: skip


class Expressions(Scope):
    """A scope in which expressions have values. A kind of expression without a method of its own is `unlike`."""

    def value(self, node: ast.expr) -> Value:
        """What an expression comes to."""
        follow = getattr(self, f"value_{type(node).__name__.lower()}", self.unlike)
        found: Value = follow(node)
        return found

    def unlike(self, node: ast.expr) -> Value:
        """A value that is computed by a way that is not followed: the same code over the same values is the same.

        Calls may have effects: each gives another value, and what their methods are called of is known no more.
        """
        calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
        if any(not isinstance(one.func, ast.Name) or one.func.id not in PURE for one in calls):
            self.forget(calls)
            return self.fresh(ast.unparse(node))
        used = [self.names.get(key) for key in map(self.key, ast.walk(node)) if key in self.names]
        known = tuple(value for value in used if isinstance(value, Origin))
        if used and len(known) == len(used):
            return Given(ast.unparse(node), (), known)
        return self.fresh(ast.unparse(node))

    def value_constant(self, node: ast.Constant) -> Value:
        return constant(node.value)

    def value_name(self, node: ast.Name) -> Value:
        return self.names[node.id] if node.id in self.names else constant(self.outer(node))

    def value_attribute(self, node: ast.Attribute) -> Value:
        if self.is_own(node):
            key = f"{SELF}{node.attr}"
            return self.names[key] if key in self.names else constant(getattr(self.cls, node.attr, ...))
        return item(self.value(node.value), Field(node.attr))

    def value_subscript(self, node: ast.Subscript) -> Value:
        key = node.slice
        if isinstance(key, ast.Constant) and type(key.value) in (int, str):
            return item(self.value(node.value), key.value)
        return self.unlike(node)

    def value_binop(self, node: ast.BinOp) -> Value:
        left, right = self.value(node.left), self.value(node.right)
        if isinstance(node.op, ast.Add) and isinstance(left, Items) and isinstance(right, Items):
            return joined([left, right])
        return self.arithmetic(node.op, left, right) or self.unlike(node)

    def arithmetic(self, op: ast.operator, left: Value, right: Value) -> Value:
        """The result of an operator on two integers; None where they are none, or it is another operator."""
        sign = SIGNS.get(type(op))
        if sign is None or not isinstance(left, Origin) or not isinstance(right, Origin):
            return None
        return Arithmetic(sign, left, right)

    def value_ifexp(self, node: ast.IfExp) -> Value:
        return self.one_of(ast.unparse(node), self.value(node.body), self.value(node.orelse))

    def value_boolop(self, node: ast.BoolOp) -> Value:
        return self.one_of(ast.unparse(node), *map(self.value, node.values))

    def value_namedexpr(self, node: ast.NamedExpr) -> Value:
        self.names[node.target.id] = value = self.value(node.value)
        return value

    def value_tuple(self, node: ast.Tuple | ast.List) -> Value:
        return self.listed(node.elts)

    value_list = value_tuple

    def listed(self, nodes: Sequence[ast.expr]) -> Items:
        """Items as they are written out, some of them starred."""
        return joined([self.value(n.value) if isinstance(n, ast.Starred) else Items((self.value(n),)) for n in nodes])

    def value_listcomp(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
        before = dict(self.names)
        for part in node.generators:
            self.names |= {one.id: None for one in ast.walk(part.target) if isinstance(one, ast.Name)}
        self.loops += 1
        each = self.value(node.elt)
        self.loops -= 1
        self.names = before
        return Items(each=each, open=True)

    value_generatorexp = value_listcomp
