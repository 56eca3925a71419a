"""What a side of a rectangle shows as cut away is what slicing cuts away."""

from __future__ import annotations

import itertools

import pytest
import torch

from surgery.axes.layout import Layout, Sum, Unit, positions, width
from surgery.plan.page.sides import LEAST, MOST, side

A, B, TWO = Unit(6, "a"), Unit(4, "b"), Unit(2)
LAYOUTS: dict[str, Layout] = {
    "fixed": (Unit(5),),
    "one": (A,),
    "none": (),
    "product": (A, B),
    "three": (Unit(3), A, B),
    "sum": (Sum(((A,), (B,), (TWO,))),),
    "sum of one group": (Sum(((A,), (A,))),),
    "product with a sum inside": (B, Sum(((A,), (A,)))),
    "sum with a factor": (Sum(((A,), (TWO,))), B),
    "sums in sums": (Sum(((Sum(((A,), (TWO,))), TWO), (B,))),),
}


@pytest.mark.parametrize("dim", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("widths", [{"a": a, "b": b} for a, b in itertools.product((1, 3, 6), (1, 2, 4))], ids=str)
def test_gaps_are_what_is_not_kept(dim: Layout, widths: dict[str, int]) -> None:
    size = width(dim, {})
    kept = set(positions(dim, {name: torch.arange(w) for name, w in widths.items()}).tolist())
    shown = side(dim, 64, widths)
    gone = {at for start, end in shown.gaps for at in range(round(start * size), round(end * size))}
    assert gone == set(range(size)) - kept


@pytest.mark.parametrize("dim", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_stretches_go_from_one_end_to_the_other(dim: Layout) -> None:
    found = side(dim, 64, {}).stretches
    assert found[0].start == 0 and found[-1].end == pytest.approx(1)
    assert all(one.end == pytest.approx(other.start) for one, other in itertools.pairwise(found))
    assert all(one.groups != other.groups for one, other in itertools.pairwise(found))
    assert {name for item in found for name in item.groups} == {n for n in "ab" if f"'{n}'" in repr(dim)}


def test_what_is_cut_in_very_many_places_is_drawn_as_one() -> None:
    shown = side((Unit(200, "a"), Unit(4, "b")), 800, {"a": 200, "b": 1})
    assert shown.gaps == ((0.25, 1.0),)


def test_lengths_go_with_the_logarithm() -> None:
    lengths = [side((Unit(size),), 4096, {}).length for size in (1, 8, 64, 512, 4096)]
    assert lengths[0] == LEAST and lengths[-1] == MOST
    steps = [after - before for before, after in itertools.pairwise(lengths)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.1)
