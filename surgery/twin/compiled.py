"""A compiled twin: at widths that come again and again, its forward is a compiled skeleton."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

from surgery.errors import SurgeryError
from surgery.twin.skeleton import Skeleton, Stale, Unfit, unfit
from surgery.twin.state import State, Widths

WIDTHS = 8  # that are compiled: each takes seconds, and widths that are drawn for each group by itself never end
Key: TypeAlias = "frozenset[tuple[str, int]]"
_NOTED = 4096  # widths that are counted
UNCOMPILED = "compile: {model} runs uncompiled, since no plain model can run in its place: {reason}"
TRACED = (
    "torch.compile leaves a wrapped model uncompiled, since its code would be traced anew at each width and be slower "
    "then: call wrapped.compile(...) on the wrapped model itself, with the same options. Each width is compiled once"
)


class Compiled:
    """What runs a twin at its widths, for as long as it is compiled. It belongs to one twin, and is never copied.

    Args:
        options: of `torch.compile`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.compile = functools.partial(torch.compile, **options)
        self.compile(_nothing)  # says now what is wrong with the options
        self.skeletons: dict[Key, Skeleton] = {}
        self.seen: Counter[Key] = Counter()
        self.last: Skeleton | None = None
        self.unfit: str | None = None
        self.renewed = 0

    def at(self, twin: nn.Module, state: State, widths: Widths) -> Callable[..., Any] | None:
        """What runs in place of the root's forward; None where that runs itself."""
        if self.unfit is not None or not _plainly():
            return None
        key = frozenset(widths.items())
        if len(self.seen) > _NOTED:
            self.seen.clear()
        self.seen[key] += 1
        try:
            found = self._skeleton(twin, state, widths, key)
        except (Unfit, SurgeryError) as error:
            found = None
            self._tell(twin, state, str(error))
        if self.last is not None and self.last is not found:
            self.last.let_go()
        self.last = found
        return found

    def _skeleton(self, twin: nn.Module, state: State, widths: Widths, key: Key) -> Skeleton | None:
        """The skeleton of these widths as the twin is now. Raises Unfit where it is of no use."""
        known = self.skeletons.get(key)
        try:
            if known is not None:
                known.follow()
                return known
        except Stale:
            self.skeletons.clear()
            self.renewed += 1
        if self.seen[key] < 2 or len(self.skeletons) >= WIDTHS:
            return None
        try:
            made = self._made(twin, state, widths)
        except (Unfit, SurgeryError) as error:
            self.unfit = str(error)
            raise
        self.skeletons[key] = made
        return made

    def _made(self, twin: nn.Module, state: State, widths: Widths) -> Skeleton:
        with state.whole():  # all modules of the twin, of which the skeleton has those that are there
            reason = "its modules change again and again" if self.renewed > WIDTHS else unfit(twin, state)
            if reason is not None:
                raise Unfit(reason)
            return Skeleton(twin, state, widths, self.compile)

    def forget(self) -> None:
        """The same widths mean other modules from now on."""
        self.skeletons.clear()
        self.seen.clear()

    def _tell(self, twin: nn.Module, state: State, reason: str) -> None:
        message = UNCOMPILED.format(model=type(twin).__name__, reason=reason)
        if message not in state.warned:
            state.warned.add(message)
            warnings.warn(message, UserWarning, stacklevel=8)


def _nothing() -> None: ...


def _plainly() -> bool:
    """Whether nobody looks at the operations of a forward that compiled code would hide from them."""
    traced = torch._C._get_tracing_state() is not None or torch.compiler.is_compiling()
    functorch: Any = torch._C._functorch
    return (
        not (traced or _has_any_global_hook())
        and functorch.peek_interpreter_stack() is None
        and forward_ad._current_level < 0
    )


def note_traced(state: State) -> None:
    """Say once that `torch.compile` around a twin does nothing, unless the twin is compiled."""
    if state.compiled is None and TRACED not in state.warned:
        state.warned.add(TRACED)
        warnings.warn(TRACED, UserWarning, stacklevel=3)
