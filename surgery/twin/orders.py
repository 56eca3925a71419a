"""Which modules of a twin are the most important: those that small depths keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from surgery.twin.setting import plan_of, ready


def set_depth_order(wrapped: nn.Module, orders: Mapping[str, Sequence[int] | Tensor]) -> None:
    """Say which modules of a list are kept at small depths, from here on: in training, scores, and what is cut.

    At depth d the first d units of the order are there, and run in their own order. Weights stay where they are.

    Args:
        wrapped: a wrapped model, with `depth=`.
        orders: for each group of kind "depth", by name, glob or kind, the units from the most to the least important:
            what `surgery.depth_order` gives. Units that must stay come first in any case.

    Raises InputError for what is no order of such a group, WidthError for a name that no group has; nothing has changed
    then.
    """
    state, plan = ready(wrapped), plan_of(wrapped)
    state.put_order(plan.ordered(orders))


def depth_orders(wrapped: nn.Module) -> dict[str, list[int]]:
    """The order of each group of modules that run one after another, as `set_depth_order` takes it."""
    return plan_of(wrapped).units.orders
