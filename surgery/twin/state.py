"""What all modules of one twin share: the widths, how they are drawn, and which forwards are under way."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.weak import WeakTensorKeyDictionary

from surgery.modules.inputs import Batches
from surgery.plan.plan import Draw, Plan
from surgery.training.draws import DEFAULT


@dataclass
class State:
    """What all modules of one twin share: the plan, the widths that are set, and how widths are drawn."""

    plan: Plan | None
    examples: Batches | None
    draw: Draw = DEFAULT
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    minimum: Mapping[str, int] = field(default_factory=dict)
    pending: Any = None  # what a twin without example inputs does at its first forward
    chosen: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    full: bool = True
    version: int = 0
    held: int = 0
    running: int = 0  # forwards of the root under way
    depth: int = 0  # forwards of any module under way
    outside: int = 0  # calls that mean whole parameters wherever they are made
    recompute: dict[str, int] | None = None
    blind: int = 0  # forwards without gradients since the last one with them
    storing: list[nn.Module] = field(default_factory=list)
    owing: list[nn.Module] = field(default_factory=list)  # modules with tensors that are to be written back
    classes: dict[Any, int] = field(default_factory=dict)  # for each loss that told it, the dimension of the logits
    lent: Any = None  # the whole tensor of each slice that was read; only where a module holds tensors in a container

    @property
    def inside(self) -> bool:
        """Whether a forward is under way, or recomputed: a backward pass has gradients switched on only for that."""
        if self.outside:
            return False
        recomputing = self.recompute is not None and in_backward() and torch.is_grad_enabled()
        return bool(self.running or self.depth) or recomputing

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        self.outside += 1
        try:
            yield
        finally:
            self.outside -= 1

    def use(self, widths: dict[str, int]) -> None:
        """Make `widths` the current ones."""
        self.version += widths != self.current
        self.current = widths
        self.full = self.plan is None or all(widths[name] == group.size for name, group in self.plan.groups.items())

    def settle(self) -> None:
        """Outside a forward: the widths that are set, or in a backward pass those of the forward that is recomputed."""
        if not self.running:
            widths = self.recompute if self.recompute is not None and in_backward() else self.chosen
            if widths is not self.current:  # every read of an attribute comes here
                self.use(widths)

    @contextlib.contextmanager
    def using(self, widths: dict[str, int]) -> Iterator[None]:
        before = self.current
        self.use(widths)
        try:
            yield
        finally:
            self.use(before)

    def drawn(self, draw: Draw | None = None) -> dict[str, int]:
        """Widths for one training forward, of the twin's own draw or another one."""
        assert self.plan is not None
        widths = self.plan.widths((draw or self.draw)(self.plan, self.generator))
        return {name: max(width, self.minimum.get(name, 1)) for name, width in widths.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        memo[id(self)] = new = State.__new__(State)
        shared = ("plan", "pending")
        new.__setstate__({k: v if k in shared else copy.deepcopy(v, memo) for k, v in self.__getstate__().items()})
        return new

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        state["generator"] = (str(self.generator.device), self.generator.get_state())
        state.update(running=0, depth=0, outside=0, held=0, recompute=None, owing=[], lent=self.lent is not None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        device, generator = state["generator"]
        vars(self).update(state, generator=torch.Generator(device))
        self.generator.set_state(generator)
        self.lent = WeakTensorKeyDictionary() if state["lent"] else None


def in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1
