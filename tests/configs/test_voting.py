"""What sizes want a field of a configuration to be follows from how they change with it."""

from __future__ import annotations

import pytest

from surgery.configs.voting import TRIED, Sizes, Slopes, slopes_between, wanted

A, B, C, D = (("weight", 0), ("weight", 1), ("bias", 0), ("other", 0))

VOTES: dict[str, tuple[int, Sizes, Sizes, Slopes, list[int]]] = {
    # a field's value, sizes, what they are to be, how fast they grow with the field, and what they want it to be
    "a width": (8, {A: 8}, {A: 5}, {A: 1.0}, [5]),
    "three of a width": (8, {A: 24}, {A: 15}, {A: 3.0}, [5]),
    "a width and more": (8, {A: 12}, {A: 9}, {A: 1.0}, [5]),
    "heads of which each gets narrower": (2, {A: 8}, {A: 4}, {A: -2.0}, [4]),
    "no whole number": (8, {A: 24}, {A: 16}, {A: 3.0}, []),
    "none": (8, {A: 16}, {A: 4}, {A: 1.0}, []),
    "what is not to be known stays": (8, {A: 8}, {}, {A: 1.0}, [8]),
    "the most votes first": (8, {A: 8, B: 8, C: 8}, {A: 6, B: 5, C: 5}, {A: 1.0, B: 1.0, C: 1.0}, [5, 6]),
}


@pytest.mark.parametrize("name", VOTES)
def test_sizes_vote_by_how_they_grow(name: str) -> None:
    value, sizes, target, slopes, expected = VOTES[name]
    assert wanted(value, sizes, target, slopes) == expected


def test_few_values_are_tried() -> None:
    places = [("weight", i) for i in range(9)]
    found = wanted(
        8, dict.fromkeys(places, 8), {place: i + 1 for i, place in enumerate(places)}, dict.fromkeys(places, 1.0)
    )
    assert len(found) == TRIED


def test_slopes_are_of_what_changes() -> None:
    assert slopes_between({A: 4, B: 4, C: 9, D: 1}, {A: 8, B: 4, C: 7}, 2) == {A: 2.0, C: -1.0}
