"""Layers inside of a layer, as those of a recurrence: its adapter says that any but the first may be left out."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence

from torch import fx, nn

from surgery.adapters.base import adapter_for
from surgery.adapters.stack import Stack
from surgery.capture.callsites import line
from surgery.capture.frames import info
from surgery.capture.record import Capture
from surgery.modules.tensors import Parts
from surgery.nested import fold
from surgery.plan.groups import DEPTH, Listed
from surgery.planning.listed.candidates import ROOT
from surgery.planning.listed.found import Found


def stacks(parts: Parts, captures: Sequence[Capture]) -> tuple[list[Found], list[str]]:
    """The stacks that models call as one layer, and notes of those that stay as they are."""
    found: list[Found] = []
    notes: list[str] = []
    for path, module, stack in _candidates(parts):
        calls = [n for run in captures for n in run.graph.nodes if n.op == "call_module" and n.target == path]
        returned = {node for run in captures for node in run.root.returned}
        reasons = [reason for node in calls for reason in _reasons(node, module, returned)]
        if reasons:
            notes.append(f"{path}: its layers stay, since {reasons[0]}")
        elif calls:
            found.append(_found(path, module, stack, frozenset(calls)))
    return found, notes


def _candidates(parts: Parts) -> Iterator[tuple[str, nn.Module, Stack]]:
    for path, module in parts.modules.items():
        adapter = adapter_for(module)
        stack = None if adapter is None else adapter.stack
        if stack is not None and len(stack.tensors) > 1:
            yield path, module, stack


def _found(path: str, module: nn.Module, stack: Stack, calls: frozenset[fx.Node]) -> Found:
    attributes = [
        (name, of_first) for of_first in (False, True) for name in (stack.names if of_first else stack.entries)
    ]
    size = len(stack.tensors)
    return Found(
        name=f"{path or ROOT}.depth",
        kind=DEPTH,
        size=size,
        lists=(Listed(path, stack.tensors, renumbered=False, own=True),),
        required={0: "it reads the input"},
        counts=(((path, (stack.count,)), 0),),
        entries=tuple(((path, (name,)), len(vars(module)[name]) // size, first) for name, first in attributes),
        stacked=calls,
    )


def _reasons(node: fx.Node, module: nn.Module, returned: set[fx.Node]) -> Iterator[str]:
    """Why the layers of a call must stay: states of each that come in, or that are read by others than the last."""
    if len(list(fold((node.args, node.kwargs), fx.Node))) > 1 + _packed(node):
        yield f"states of each layer are given to it at {line(info(node).where)}"
    outputs = [user for user in node.users if user.target is operator.getitem and user.args[1] == 1]
    states = [user for output in outputs for user in _parts(output)]
    last = 2 if getattr(module, "bidirectional", False) else 1
    for state in states:
        for user in state.users:
            if not _of_last(user, last):
                yield f"the states of its layers are read at {line(info(user).where)}"
        if state in returned:
            yield "the states of its layers are an output of the model"


def _parts(output: fx.Node) -> list[fx.Node]:
    """The tensors of a state: one, or those of a pair."""
    pair = isinstance(info(output).shape, list)
    return [user for user in output.users if user.target is operator.getitem] if pair else [output]


def _of_last(user: fx.Node, last: int) -> bool:
    """Whether a call reads the state of the last layer alone, counted from the end."""
    index = user.args[1] if len(user.args) > 1 and user.target is not operator.getitem else None
    first = index[0] if isinstance(index, tuple) and index else index
    return isinstance(first, int) and not isinstance(first, bool) and -last <= first < 0


def _packed(node: fx.Node) -> int:
    """How many nodes a packed sequence has beside its data."""
    first = node.args[0] if node.args else None
    return len(list(fold(first, fx.Node))) - 1 if isinstance(first, tuple | list) else 0
