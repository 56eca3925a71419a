"""What a model's configuration says of a list of modules, in every module that keeps it: told by the class itself.

A forward may never read how many layers there are, where it goes through the list; a cache is made from that number all
the same. So the class is built, on the meta device, from the configuration with one module less, and what its modules
keep is compared.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import nn

from surgery.configs.fewer import Fewer
from surgery.configs.fitting import Fit, Unfit
from surgery.configs.followed import Pair
from surgery.configs.kept import config_of
from surgery.modules.tensors import Parts
from surgery.plan.units import Units
from surgery.planning.listed.found import Found, Place
from surgery.planning.listed.frozen import formulas_of, group_of


def told(parts: Parts, one: Found) -> Found:
    """A list with the counts and the lists by module that follow it in configurations, beside those that are known."""
    group, widths = group_of(one, 1), {one.name: one.size - 1}
    numbers: dict[Place, None] = {}
    entries: dict[Place, None] = {}
    for gone in dict.fromkeys((group.order[-1], group.order[len(group.stays)])):  # one of them may be of a kind alone
        order = [*(unit for unit in group.order if unit != gone), gone]
        units = Units({one.name: group.ordered(order)})
        try:
            built = _built(parts.model, one, units, widths)
        except Unfit:
            continue
        if built is None:
            return one
        fewer = dict(built.named_modules(remove_duplicate=False))
        pair = Pair(parts.modules, fewer, functools.partial(units.name, widths=widths))
        for found, listed in ((numbers, pair.numbers(one.size)), (entries, pair.lists(one.size))):
            found.update({place: None for place in _in_all(one, list(listed)) if _holds(parts, place)})
    known = {place for place, _ in one.counts}
    counts = tuple((place, 0) for place in numbers if place not in known)
    picks = tuple(place for place in entries if place not in one.picks)
    return replace(one, counts=(*one.counts, *counts), picks=(*one.picks, *picks))


def _holds(parts: Parts, place: Place) -> bool:
    path, steps = place
    return path in parts.modules and steps[0] in vars(parts.modules[path])


def _in_all(one: Found, places: Sequence[Place]) -> list[Place]:
    """Places, those in a unit as they would be in all: one unit is not there in the shorter model."""
    found: dict[Place, None] = {}
    for path, steps in places:
        found[path, steps] = None
        for listed in one.lists:
            for names in zip(*listed.units, strict=False):
                for child in map(listed.child, names):
                    if path == child or path.startswith(f"{child}."):
                        found.update({(f"{listed.child(n)}{path[len(child) :]}", steps): None for n in names})
    return list(found)


def _built(model: nn.Module, one: Found, units: Units, widths: Mapping[str, int]) -> nn.Module | None:
    """What the class makes of the configuration with fewer modules; None where it is not built from one.

    Raises Unfit where no number of it says how many there are.
    """
    config, formulas = config_of(model, ()), tuple(formulas_of(one))
    if config is None:
        return None
    shorter, _ = Fewer(model, "", units, formulas, widths).start(config, {})
    return Fit(model, (), config).hollow(shorter)
