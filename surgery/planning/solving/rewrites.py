"""Which sizes in the code of forwards must follow the widths, and where they stand."""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import fx

from surgery.axes.formulas import Origin
from surgery.capture.recorder import call_name
from surgery.modules.code.rewritten import SEEN, SIZE, Edit, Routine
from surgery.modules.code.source import Chain, NoSource, Span, Text, at, collapsed, expression, text
from surgery.plan.groups import Rewrite
from surgery.rules.base import Caller


class Blocked(Exception):
    """The code in which a size stands cannot be changed."""

    def __init__(self, change: Change, reason: str):
        super().__init__(reason)
        self.change = change


@dataclass(frozen=True)
class Change:
    """A size in the code of a forward: what the code computes, and what it must be at every width.

    `site` is where it is an argument of a recorded call; None for a comparison, of which it is one side; or the number
    of the operand that leaves the arithmetic of sizes. A comparison comes out as it did, `equal` or not; where not,
    `seen` and `now` are its two sides. Changes of one `key` are the same. One that is not `needed` is left out where it
    cannot be made.
    """

    frame: Caller
    chain: Chain
    site: tuple[fx.Node, tuple[Any, ...]] | int | None
    seen: Origin
    now: Origin
    scales: bool
    key: Any
    needed: bool = True
    equal: bool = True


@dataclass
class _Draft:
    """A function while its changes are collected."""

    code: CodeType
    edits: dict[tuple[Any, ...], Edit] = field(default_factory=dict)
    calls: dict[Span, dict[int, _Draft]] = field(default_factory=dict)

    def routine(self) -> Routine:
        calls = tuple(
            (where, tuple(draft.routine() for draft in drafts.values())) for where, drafts in self.calls.items()
        )
        return Routine(text(self.code), tuple(self.edits.values()), calls)


def plan_rewrites(changes: Iterable[Change]) -> dict[str, Rewrite]:
    """New forwards for the modules in which sizes must change. Raises Blocked where one cannot be changed."""
    writers: dict[str, _Writer] = {}
    for change in changes:
        try:
            _write(writers, change)
        except Blocked:
            if change.needed:
                raise
    return {path: Rewrite(writer.root.routine(), writer.sizes) for path, writer in writers.items()}


def _write(writers: dict[str, _Writer], change: Change) -> None:
    path = change.frame.path
    if path is None:
        raise Blocked(change, "it is computed in a module that is not registered in the model")
    if path not in writers:
        writers[path] = _Writer(_forward(change))
    try:
        writers[path].add(change)
    except NoSource as error:
        raise Blocked(change, str(error)) from error


def is_literal(change: Change) -> bool:
    """Whether a size stands in the code as a number, and not as something that the code has computed."""
    try:
        steps = collapsed(change.chain)
        node = _expression(*steps[-1]) if steps else None
        if node is None:
            return False
        route, inside = _route(node, change)
        return not inside and isinstance(ast.literal_eval(at(node, route)), int)
    except (Blocked, NoSource, ValueError):
        return False


def _expression(code: CodeType, where: Span | None) -> ast.expr | None:
    return _standing(text(code), where)


@functools.lru_cache(maxsize=1024)
def _standing(function: Text, where: Span | None) -> ast.expr | None:
    """The expression at a span; to be read only, as blocks of one class share their code."""
    return expression(function.tree(), where)


def _forward(change: Change) -> CodeType:
    module = change.frame.module
    forward = type(module).forward
    if "forward" in vars(module) or not isinstance(forward, FunctionType):
        raise Blocked(change, f"the forward of {change.frame.path or 'the model'} is not that of its class")
    return forward.__code__


class _Writer:
    """Collects the changes in the forward of one module, and in the functions that it calls."""

    def __init__(self, forward: CodeType):
        self.root = _Draft(forward)
        self.sizes: dict[str, Origin] = {}
        self.numbers: dict[Any, int] = {}

    def add(self, change: Change) -> None:
        steps = collapsed(change.chain)
        if not steps or steps[0][0] is not self.root.code:
            raise Blocked(change, "it is computed outside a forward")
        draft = self.root
        for (code, where), (called, _) in itertools.pairwise(steps):
            if where is None or not isinstance(_expression(code, where), ast.Call):
                raise Blocked(change, f"{code.co_qualname} does not call {called.co_qualname} by name")
            draft = draft.calls.setdefault(where, {}).setdefault(id(called), _Draft(called))
        self._edit(draft, change, steps[-1][1])

    def _edit(self, draft: _Draft, change: Change, where: Span | None) -> None:
        node = _expression(draft.code, where)
        if where is None or node is None:
            raise Blocked(change, "it is no argument of a call")
        route, inside = _route(node, change)
        edit = Edit(where, route, inside, self._number(change), change.scales, change.equal)
        if draft.edits.setdefault((where, route, inside), edit) != edit:
            raise Blocked(change, "the same code runs with several widths")

    def _number(self, change: Change) -> int:
        if change.key not in self.numbers:
            self.numbers[change.key] = number = len(self.numbers)
            self.sizes |= {f"{SEEN}{number}": change.seen, f"{SIZE}{number}": change.now}
        return self.numbers[change.key]


Route = tuple[tuple[str | int, ...], tuple[Any, ...]]


def _route(expr: ast.expr, change: Change) -> Route:
    """Where in an expression an argument of the recorded call stands; then where in the value of that."""
    if change.site is None:
        if isinstance(expr, ast.Compare) and len(expr.ops) == 1 and isinstance(expr.ops[0], ast.Eq | ast.NotEq):
            return (), ()
        raise Blocked(change, "it is no plain comparison")
    if isinstance(change.site, int):
        return _operand(expr, change)
    node, (kind, key, *rest) = change.site
    if isinstance(expr, ast.Subscript) and (kind, key) == (0, 1):
        return _into(expr.slice, ("slice",), node.args[1], rest)
    found = _argument(expr, node, kind, key) if isinstance(expr, ast.Call) else None
    if found is None:
        raise Blocked(change, "it is no argument of a call that stands in the code")
    recorded = node.args[key] if kind == 0 else node.kwargs[key]
    route, inside = found
    return (route, (*inside, *rest)) if inside else _into(at(expr, route), route, recorded, rest)


def _operand(expr: ast.expr, change: Change) -> Route:
    """The place of an operand of `**` or `/`, or of an argument of a call such as `range` or `float`."""
    if isinstance(expr, ast.BinOp):
        return (("right" if change.site else "left"),), ()
    if isinstance(expr, ast.Call) and not expr.keywords and not any(isinstance(a, ast.Starred) for a in expr.args):
        assert isinstance(change.site, int)
        if change.site < len(expr.args):
            return ("args", change.site), ()
    raise Blocked(change, "it is no operand or argument that stands in the code")


def _argument(call: ast.Call, node: fx.Node, kind: int, key: Any) -> Route | None:
    """The place of a recorded argument, 0 for positions and 1 for names, in the call as it is written."""
    method = _is_method(call, node)
    index: int | None = key - method if kind == 0 else None
    name: str | None = key if kind == 1 else None
    parameters = _parameters(node.target)
    if index is None and name in parameters:
        index = parameters.index(name) - method
    elif name is None and key < len(parameters):
        name = parameters[key]
    for i, keyword in enumerate(call.keywords):
        if keyword.arg is not None and keyword.arg == name:
            return ("keywords", i, "value"), ()
    return None if index is None else _item(call.args, "args", index, len(node.args) - method)


def _is_method(call: ast.Call, node: fx.Node) -> bool:
    """Whether a call is written as `x.view(...)`, which torch records as `Tensor.view(x, ...)`."""
    name = call_name(node.target)
    if getattr(torch.Tensor, name, None) is not node.target or not isinstance(call.func, ast.Attribute):
        return False
    return not (
        isinstance(call.func.value, ast.Name | ast.Attribute) and ast.unparse(call.func).endswith(f"Tensor.{name}")
    )


def _parameters(target: Any) -> list[str]:
    if not isinstance(target, FunctionType) or not isinstance(inspect.unwrap(target), FunctionType):
        return []  # a builtin is recorded as it is written
    return list(inspect.signature(target).parameters)


def _item(items: Sequence[ast.expr], place: str, index: int, count: int) -> Route | None:
    """The place of item `index` of `count` in items as they are written, of which one may be starred."""
    stars = [i for i, item in enumerate(items) if isinstance(item, ast.Starred)]
    if not stars or index < stars[0]:
        return ((place, index), ()) if index < len(items) else None
    after = len(items) - 1 - stars[0]
    if len(stars) == 1 and index >= count - after:
        return (place, len(items) - (count - index)), ()
    return ((place, stars[0], "value"), (index - stars[0],)) if len(stars) == 1 else None


_ENDS = {"start": "lower", "stop": "upper", "step": "step"}


def _into(expr: Any, route: tuple[str | int, ...], recorded: Any, keys: Sequence[Any]) -> Route:
    """Follow keys into tuples, lists and slices that are written out."""
    if not keys:
        return route, ()
    key, *rest = keys
    if isinstance(expr, ast.Tuple | ast.List) and isinstance(key, int):
        found = _item(expr.elts, "elts", key, len(recorded))
        if found is not None and found[1]:
            return (*route, *found[0]), (*found[1], *rest)
        if found is not None:
            return _into(at(expr, found[0]), (*route, *found[0]), recorded[key], rest)
    if isinstance(expr, ast.Slice) and getattr(expr, _ENDS[key]) is not None:
        return _into(getattr(expr, _ENDS[key]), (*route, _ENDS[key]), getattr(recorded, key), rest)
    return route, tuple(keys)
