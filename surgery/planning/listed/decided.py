"""Runs in which what a router chooses does not depend on data, so that runs of other modules choose the same.

Where tokens are sent to experts, how many each gets depends on what is computed before. A shorter run is compared with
the whole one call by call, so both choose the same: what the shape of the scores says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode

from surgery.capture.frames import info
from surgery.capture.record import Capture, capture
from surgery.capture.recorder import call_name
from surgery.modules.inputs import Inputs
from surgery.modules.tensors import Parts
from surgery.planning.listed.calls import Run

CHOOSING = frozenset(("topk", "argmax", "argmin", "max", "min"))


class Decided(TorchFunctionMode):
    """Inside, what is chosen is told by shapes alone: each in turn, from position to position."""

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if call_name(func) in CHOOSING and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
            chosen = result if isinstance(result, Tensor) else result[1]
            if chosen.dtype == torch.int64 and chosen.dim():
                _decide(args[0], chosen)
        return result


def _decide(given: Tensor, chosen: Tensor) -> None:
    """Write places into `chosen`: of a dimension in which it is shorter than what it was chosen from, or lacks."""
    if chosen.dim() < given.dim():
        lacking = [i for i in range(given.dim()) if given.shape[:i] + given.shape[i + 1 :] == chosen.shape]
        if lacking:
            chosen.copy_((torch.arange(chosen.numel()) % given.shape[lacking[0]]).view(chosen.shape))
        return
    shorter = [i for i in range(given.dim()) if given.shape[i] != chosen.shape[i]]
    if len(shorter) == 1:
        moved = chosen.movedim(shorter[0], -1)
        rows, picked = torch.arange(moved[..., 0].numel())[:, None], torch.arange(moved.shape[-1])
        moved.copy_(((rows + picked) % given.shape[shorter[0]]).view(moved.shape))


def decided(parts: Parts, examples: Sequence[Inputs], whole: Sequence[Capture]) -> list[Run] | None:
    """Recordings of the whole model with such choices; None where nothing is chosen in it."""
    if not any(_chooses(one) for one in whole):
        return None
    with Decided():
        made = zip(examples, whole, strict=True)
        return [Run(capture(parts, run, outputs=known.root.names)) for run, known in made]


def _chooses(run: Capture) -> bool:
    """Whether places are chosen among values."""
    found = (node for node in run.graph.nodes if call_name(node.target) in CHOOSING and node.args)
    return any(isinstance(node.args[0], fx.Node) and _is_float(node.args[0]) for node in found)


def _is_float(node: fx.Node) -> bool:
    dtype = info(node).dtype
    return dtype is not None and dtype.is_floating_point


def as_recorded(work: Mapping[fx.Node, int], steady: Sequence[Run], whole: Sequence[Run]) -> dict[fx.Node, int] | None:
    """Work of runs with such choices, as calls of those without; None where these make more or fewer of such calls."""
    found: dict[fx.Node, int] = {}
    for one, other in zip(steady, whole, strict=True):
        there = _alike(other)
        for key, nodes in _alike(one).items():
            ours = [work.get(node) for node in nodes]
            if any(unit is not None for unit in ours):
                if len(nodes) != len(there.get(key, ())):
                    return None
                found.update({b: unit for b, unit in zip(there[key], ours, strict=True) if unit is not None})
    return found


def _alike(run: Run) -> dict[tuple[str, str], list[fx.Node]]:
    """The calls of one function in the code of one module, in their order."""
    found: dict[tuple[str, str], list[fx.Node]] = defaultdict(list)
    for node in run.nodes:
        found[run.path(node), str(node.target)].append(node)
    return found
