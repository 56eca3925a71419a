"""The laws on one real architecture, once more, with all its lists of modules elastic: depth and experts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import nn

import surgery
from surgery.modules.inputs import Inputs
from tests.laws import laws
from tests.laws.without import leaving_out_is_handing_on

from .entry import Built
from .record import Record

RANDOM = 2  # mixed vectors of widths and depths


def check_modules(
    built: Built, record: Record, tolerance: float, macs: bool, trained: Callable[[nn.Module, Inputs], None] | None
) -> None:
    """Wrap a model with every list of modules that it has, and hold the laws at some depths.

    `trained` runs one training step, where the model can be trained on its inputs.
    """
    model, given, others = built.model, built.inputs(0), built.inputs(1)
    generator = torch.Generator().manual_seed(1)
    wrapped = surgery.wrap(model, given, depth=True, experts=True, generator=generator)
    plan = surgery.inspect(wrapped)
    lists = {name: group for name, group in plan.groups.items() if group.kind in ("depth", "experts")}
    record.lists = {name: [group.kind, group.size, group.least] for name, group in lists.items()}
    record.stay = [note for note in plan.notes if "stay" in note]
    if not lists:
        return
    laws.everything_is_accounted_for(plan, model)
    surgery.verify(model, wrapped, others, tolerance=tolerance)
    laws.order_is_free(wrapped, plan, others, generator, tolerance)
    if trained is not None:
        trained(wrapped, given)
    for widths in _vectors(plan, lists, generator):
        small = laws.shrunk_is_wrapped(wrapped, widths, others, tolerance)
        laws.cost_is_counted(wrapped, small, widths, given, macs)
        record.left_out += leaving_out_is_handing_on(model, small, plan, widths, others, tolerance)


def _vectors(
    plan: surgery.Plan, lists: Mapping[str, surgery.Group], generator: torch.Generator
) -> Iterator[dict[str, int]]:
    """Half of the modules, the fewest, the fewest at the smallest widths, and mixed ones."""
    yield plan.widths(dict.fromkeys(lists, 0.5))
    yield plan.widths({name: group.smallest for name, group in lists.items()})
    yield laws.smallest(plan)
    for _ in range(RANDOM):
        yield laws.random_widths(plan, generator)
