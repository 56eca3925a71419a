"""A function of the user's that is told how training goes: TensorBoard, wandb, or a list."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from surgery.errors import InputError
from surgery.plan.plan import Plan
from surgery.twin.elastic import state_of
from surgery.twin.state import Log, State


def log_to(wrapped: nn.Module, log: Log | None, *, step: int = 0) -> None:
    """Call `log(values, step)` as a wrapped model is trained, with numbers by name; None ends it.

    Each training step tells `surgery/width`, the mean share of their sizes that groups had (`surgery/width 1` and so on
    where `train_step` has several narrow passes), and, of `train_step`, `surgery/loss` of the full width and
    `surgery/narrow loss`. `surgery.progress` tells `surgery/score` of each of its widths. The function belongs to this
    model: copies and pickles of it have none.

    Args:
        wrapped: a wrapped model.
        log: such as `wandb.log`, or `lambda values, step: writer.add_scalars("surgery", values, step)`.
        step: what the next step is counted as.

    Raises InputError for what is no function, and for a model that is not wrapped.
    """
    if log is not None and not callable(log):
        raise InputError(f"log_to takes a function (values, step), such as wandb.log, got {type(log).__name__}")
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise InputError(f"step is what the next step is counted as, an int of at least 0, got {step!r}")
    state = state_of(wrapped)
    state.log, state.steps = log, step


def tell(state: State, values: Mapping[str, float], *, step: bool = True) -> None:
    """Hand numbers to the function, if there is one. With `step`, a step has ended by that."""
    if state.log is not None:
        state.log({f"surgery/{name}": float(value) for name, value in values.items()}, state.steps)
    state.steps += step


def share(plan: Plan, widths: Mapping[str, int]) -> float:
    """The mean share of their sizes that groups have."""
    return sum(widths[name] / group.size for name, group in plan.groups.items()) / len(plan.groups)
