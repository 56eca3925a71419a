"""Which modules of a twin are the most important: those that small depths keep."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import Tensor, nn

from surgery.twin.setting import at_widths, plan_of, ready


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


@contextlib.contextmanager
def keeping(wrapped: nn.Module, group: str, units: Collection[int]) -> Iterator[None]:
    """Run at full width, without those modules of a group that are not in `units`: whole steps. Nothing is drawn."""
    state, plan = ready(wrapped), plan_of(wrapped)
    others = [unit for unit in range(plan.groups[group].size) if unit not in units]
    estimated = state.estimated
    state.put_order(plan.ordered({group: [*sorted(units), *others]}))
    try:
        with at_widths(wrapped, {group: len(units)}):
            yield
    finally:
        state.put_order(plan)
        state.estimated = estimated
