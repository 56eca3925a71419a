"""What of a training neither the model's `state_dict` nor the optimizer's holds: how far the draws are.

A wrapped model's `state_dict` stays that of the plain model, so that either can load the other's.
"""

from __future__ import annotations

import base64
import io
import pickle
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import nn

from surgery.errors import InputError, WidthError
from surgery.plan.plan import Plan
from surgery.training.remembered import restored, taken
from surgery.training.step import twin_in
from surgery.twin.elastic import state_of
from surgery.twin.orders import depth_orders
from surgery.twin.state import State

FORMAT = "surgery.training/1"
FIELDS = {"format", "plan", "generator", "draw", "widths", "statistics", "dims"}


def training_state(wrapped: nn.Module) -> dict[str, Any]:
    """How far the draws of a wrapped model are, to be saved beside its `state_dict` and that of the optimizer.

    A training that goes on from all of them draws what it would have drawn without a break. It holds the generator of
    the draws, the counters of `surgery.sandwich`, `surgery.warmup` and of draws of your own, the widths that are set,
    and what `surgery.train_step` has found out of the loss. It is plain data, which `torch.load` reads with
    `weights_only=True`.

    Args:
        wrapped: a wrapped model, or a module around one, such as DistributedDataParallel.

    Raises InputError for a model that is not wrapped, and for a draw that keeps something else than plain data.
    """
    state = state_of(twin_in(wrapped))
    dims = state.class_dims.items()
    orders = {} if state.plan is None else depth_orders(twin_in(wrapped))
    return {
        "format": FORMAT,
        "plan": None if state.plan is None else state.plan.fingerprint,
        "generator": state.generator.get_state(),
        "draw": taken(state.draw),
        "widths": dict(state.setting.chosen),
        "statistics": None if state.estimated is None else dict(state.estimated),
        "dims": [[file, line, code.hex(), list(names), known] for (file, line, code, names), known in dims],
        **({"orders": orders} if orders else {}),
    }


def load_training_state(wrapped: nn.Module, saved: dict[str, Any]) -> None:
    """Go on where `training_state` was called. Load the `state_dict` of model and optimizer as always.

    Args:
        wrapped: a model that is wrapped as the one was, with the same `draw`.
        saved: what `training_state` gave.

    Raises InputError for a state of another model, or of another draw; nothing has changed then.
    """
    if not isinstance(saved, dict) or saved.get("format") != FORMAT or set(saved) - {"orders"} != FIELDS:
        raise InputError("this is no state of a training: pass what surgery.training_state(wrapped) gave")
    twin = twin_in(wrapped)
    state = state_of(twin)
    settle = _settled(twin, state.plan, state, saved)
    if not isinstance(saved["draw"], dict):
        raise InputError(f"the draw in this state of a training cannot be read: {saved['draw']!r}")
    _, puts = restored(state.draw, saved["draw"])
    dims = _dims(saved["dims"])
    try:
        state.generator.set_state(saved["generator"].cpu())
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"the generator in this state of a training cannot be read: {error}") from error
    for put in puts:
        put()
    if state.plan is None:
        state.waiting = saved
    settle()
    state.class_dims = dims


class TrainingState:
    """How far the draws of a wrapped model are, as an object that checkpoints ask: `state_dict`, `load_state_dict`.

    It is what torch.distributed.checkpoint calls a Stateful, at the top of what is saved, beside model and optimizer:
    `dcp.save({"model": ..., "draws": surgery.TrainingState(wrapped)})`, and `dcp.load` of the same. So it is for
    `accelerator.register_for_checkpointing`.

    What it gives is one text: such checkpoints are read into the place of what is there, piece by piece, and how many
    numbers a draw keeps may differ. All ranks draw alike, so one state is that of all.

    Args:
        wrapped: a wrapped model, or a module around one, such as DistributedDataParallel.
    """

    def __init__(self, wrapped: nn.Module):
        state_of(twin_in(wrapped))
        self.wrapped = wrapped

    def state_dict(self) -> dict[str, str]:
        """What `training_state` gives, as a text. Raises InputError as that does."""
        file = io.BytesIO()
        torch.save(training_state(self.wrapped), file)
        return {FORMAT: base64.b64encode(file.getvalue()).decode()}

    def load_state_dict(self, state: dict[str, str]) -> None:
        """What `load_training_state` does, and as it raises InputError."""
        try:
            file = io.BytesIO(base64.b64decode(state[FORMAT], validate=True))
            saved = torch.load(file, weights_only=True)
        except (KeyError, TypeError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                "this is no state of a training: pass what surgery.TrainingState(wrapped).state_dict() gave"
            ) from error
        load_training_state(self.wrapped, saved)

    def __reduce__(self) -> NoReturn:
        raise InputError(
            "a TrainingState is asked for its state, not pickled: put it at the top of what is saved, "
            "dcp.save({'draws': surgery.TrainingState(wrapped)}), or its state_dict() into a dict of yours"
        )


def check_waiting(twin: nn.Module, plan: Plan, state: State) -> None:
    """Raises InputError where a twin got the state of another plan before it had its own."""
    if state.waiting is not None:
        _settled(twin, plan, state, state.waiting)


def settle_waiting(twin: nn.Module, state: State) -> None:
    """For a twin that has its plan now, and got a state before: what only a plan can tell."""
    if state.waiting is not None:
        saved, state.waiting = state.waiting, None
        _settled(twin, state.plan, state, saved)()


def _dims(saved: Any) -> dict[Any, Any]:
    """What is known of losses, as a twin keeps it. Raises InputError for what is nothing of the kind."""
    try:
        return {
            (file, line, bytes.fromhex(code), tuple(names)): known if isinstance(known, int) else tuple(known)
            for file, line, code, names, known in saved
        }
    except (TypeError, ValueError) as error:
        raise InputError(f"what this state of a training says of losses cannot be read: {error}") from error


def _settled(twin: nn.Module, plan: Plan | None, state: State, saved: dict[str, Any]) -> Callable[[], None]:
    """What sets the widths of a saved state. Raises InputError where it is of another plan."""
    if plan is None or saved["plan"] is None:
        return lambda: None
    if saved["plan"] != plan.fingerprint:
        raise InputError(
            f"the state is of another model than this {type(twin).__name__}, or of one with other groups: wrap the "
            "model that it was saved of, with the same fixed= and only="
        )
    orders = saved.get("orders", {})
    if not isinstance(orders, dict) or not all(isinstance(order, list) for order in orders.values()):
        raise InputError(f"the orders of modules in this state of a training cannot be read: {orders!r}")
    try:
        plan = plan.ordered(orders)
        chosen = plan.widths(saved["widths"])
        estimated = None if saved["statistics"] is None else plan.widths(saved["statistics"])
    except WidthError as error:
        raise InputError(f"the state has widths that this {type(twin).__name__} cannot have: {error}") from error

    def settle() -> None:
        state.setting.chosen = chosen
        state.put_order(plan)
        state.estimated = estimated
        state.sync()

    return settle
