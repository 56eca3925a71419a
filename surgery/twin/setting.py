"""The widths that a twin runs at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn

from surgery.errors import InputError
from surgery.modules.inputs import Batches, followed, placed, tensors
from surgery.plan.plan import Plan
from surgery.plan.widths import WidthSpec
from surgery.twin.elastic import state_of
from surgery.twin.foreign import without_autocast
from surgery.twin.state import State
from surgery.twin.writing import stored_kept


def ready(wrapped: nn.Module) -> State:
    """The state of a wrapped model whose plan is made. Raises InputError before the first forward of a deferred one."""
    state = state_of(wrapped)
    if state.plan is None:
        raise InputError(
            f"{type(wrapped).__name__} was wrapped without example inputs and has not run yet: call it once, "
            "or wrap it with example inputs"
        )
    return state


def examples_of(wrapped: nn.Module) -> Batches | None:
    """The inputs that a model was wrapped with, of the float type and on the device that it has now."""
    state = state_of(wrapped)
    with state.whole():
        now = placed(wrapped.parameters())
    return None if state.examples is None else followed(state.examples, state.placed, now)


def runnable(wrapped: nn.Module) -> Batches | None:
    """`examples_of`, for a model to run on. Raises InputError where they are on the meta device, and it is not."""
    found = examples_of(wrapped)
    given = () if found is None else found.runs
    hollow = any(x.is_meta for run in given for x in tensors((run.args, run.kwargs)))
    with state_of(wrapped).whole():
        if hollow and not any(parameter.is_meta for parameter in wrapped.parameters()):
            raise InputError(
                f"{type(wrapped).__name__} was wrapped on the meta device, so that its example inputs hold no numbers: "
                "give others here"
            )
    return found


def plan_of(wrapped: nn.Module) -> Plan:
    """The plan of a wrapped model."""
    plan = ready(wrapped).plan
    assert plan is not None
    return plan


def widths(wrapped: nn.Module) -> dict[str, int]:
    """The widths that are set: what eval mode runs at."""
    return dict(ready(wrapped).setting.chosen)


def set_widths(wrapped: nn.Module, widths: WidthSpec) -> None:
    """Set the widths of eval mode: a fraction, a mapping of group names or globs, or a point of a curve.

    Raises WidthError for a width that a group cannot have; nothing is changed then.
    """
    state = ready(wrapped)
    state.setting.chosen = chosen = plan_of(wrapped).widths(widths)
    state.set_current(chosen)


@contextlib.contextmanager
def at_widths(wrapped: nn.Module, widths: WidthSpec) -> Iterator[None]:
    """Run at these widths, in training mode too: nothing is drawn inside. Afterwards everything is as before."""
    state, chosen = ready(wrapped), plan_of(wrapped).widths(widths)
    before, state.setting.chosen = state.setting.chosen, chosen
    state.setting.pinned += 1
    try:
        with state.using(chosen):
            yield
    finally:
        state.setting.pinned -= 1
        state.setting.chosen = before


@contextlib.contextmanager
def proven_at(wrapped: nn.Module, widths: WidthSpec) -> Iterator[None]:
    """`at_widths`, from where a small model starts; what forwards leave on modules is as before afterwards.

    A twin that is compiled runs as its modules are written.
    """
    state = ready(wrapped)
    compiled, state.compiled = state.compiled, None
    try:
        with stored_kept(wrapped, state, cleared=True), at_widths(wrapped, widths):
            yield
    finally:
        state.compiled = compiled


@contextlib.contextmanager
def own_precision(wrapped: nn.Module) -> Iterator[None]:
    """Inside, autocast that others have put around forwards is off, and so is one around the call."""
    if not any("forward" in vars(module) for module in wrapped.modules()):
        yield
        return
    setting = ready(wrapped).setting
    setting.uncast += 1
    try:
        with without_autocast():
            yield
    finally:
        setting.uncast -= 1
