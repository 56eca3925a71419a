"""Autograd functions by what their forward does, where that is all that they do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from surgery.capture import autograd
from surgery.capture.callsites import Location
from surgery.capture.trace import Checkpoint, Trace, foreign
from surgery.modules.inputs import tensors
from surgery.nested import all_tensors


@dataclass(frozen=True)
class Given:
    """What a function was given: its tensors as they are and as they were, by node, and the random state."""

    tensors: Mapping[fx.Node, tuple[torch.Tensor, torch.Tensor]]
    random: torch.Tensor

    def restore(self) -> None:
        """Make the tensors what they were."""
        for tensor, before in self.tensors.values():
            if not autograd.alike(tensor, before):
                tensor.copy_(before)
        torch.set_rng_state(self.random)


def inlined(
    trace: Trace, mute: Callable[[], AbstractContextManager[None]], cls: Any, args: Any, kwargs: Any, where: Location
) -> tuple[Any, bool]:
    """The result of a function whose inside is recorded, and True; or nothing and False, where it needs to run whole.

    Where it has done more than was seen, the record has it as one node. Inside of `mute`, nothing is recorded.
    """
    mark = trace.checkpoint()
    lifted = trace.lift(args), trace.lift(kwargs)
    with mute():
        tensors_ = {trace.node_of(tensor): (tensor, tensor.clone()) for tensor in tensors((args, kwargs))}
        given = Given(tensors_, torch.get_rng_state())
    try:
        result = autograd.run(cls, args, kwargs, mute)
    except Exception:  # it needs more than it was given here: it is run as it is, on what it was given
        with mute():
            given.restore()
        trace.forget(mark)
        return None, False
    with mute():
        if not _is_all(trace, mark, given, result):
            trace.forget(mark)
            trace.register(result, trace.node("call_function", cls, *lifted, result, where))
    return result, True


def _is_all(trace: Trace, mark: Checkpoint, given: Given, result: Any) -> bool:
    """Whether what was recorded since a mark is all that was done to what was given, and in the result."""
    made = trace.since(mark)
    found = [*all_tensors(result, {}, {}), *(tensor for tensor, _ in given.tensors.values())]
    known = all(id(tensor) in trace.tensors or id(tensor) in trace.parameters for tensor in found)
    if not known or any(node.target is foreign for node in made):
        return False
    modules = {path: module for module in trace.model.modules() if (path := trace.paths.get(id(module)))}
    values: dict[fx.Node, Any] = {node: trace.names[name] for name, node in trace.attributes.items()}
    values |= {node: before for node, (_, before) in given.tensors.items()}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(given.random)
            autograd.repeated(made, values, modules.__getitem__)
        return all(autograd.alike(tensor, values[trace.node_of(tensor)]) for tensor in found)
    except Exception:
        return False  # it used what was not given to it
