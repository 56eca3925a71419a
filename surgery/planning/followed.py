"""Lists of modules of which a model's configuration can say how many there are, whichever of them are kept."""

from __future__ import annotations

from collections.abc import Iterator

from surgery.configs.building import built_over, unlike
from surgery.configs.fewer import Fewer, named_now
from surgery.configs.fitting import Fit
from surgery.configs.kept import config_of
from surgery.modules.inputs import Examples
from surgery.modules.tensors import Parts
from surgery.modules.verify import compare
from surgery.plan.groups import DEPTH, Group
from surgery.plan.plan import Plan
from surgery.twin.install import twin_of
from surgery.twin.plain import plain_at


def follows(parts: Parts, plan: Plan, examples: Examples) -> Iterator[str]:
    """The groups of modules that the class of a model leaves out as well when its configuration tells it to.

    Tried are one module less and as few as can be, the first ones and the last ones.
    """
    for name, group in plan.units.groups.items():
        few, many = group.smallest, group.at_least(group.size - 1)
        widths = {width for width in (few, many, group.size - group.granularity) if 0 < width < group.size}
        if all(_holds(parts, one, examples, {**plan.full(), name: w}) for one in _orders(plan, group) for w in widths):
            yield name


def _orders(plan: Plan, group: Group) -> Iterator[Plan]:
    yield plan
    if group.kind == DEPTH:
        yield plan.ordered({group.name: list(reversed(range(group.size)))})


def _holds(parts: Parts, plan: Plan, examples: Examples, widths: dict[str, int]) -> bool:
    """Whether the model that the class builds with so many modules says what a small model says."""
    try:
        small = plain_at(twin_of(parts, plan, examples), plan, lambda _, tensor: tensor, widths).model
        fewer = Fewer(parts.model, "", plan.units, plan.formulas, widths)
        config, _ = fewer.start(config_of(parts.model, plan.formulas), {})
        fit = Fit(small, named_now(plan.formulas, plan.units, widths), config)
        built = built_over(fit.make, config, small.state_dict(), small.training)
        if unlike(dict(small.named_buffers()), built) is not None or fewer.unlike(small, built) is not None:
            return False
        compare(small, built, examples, None, ("the small model", "the model that its config builds"))
    except Exception:  # classes of configurations check themselves wherever they are touched
        return False
    return True
