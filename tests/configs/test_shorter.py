"""What a configuration says of lists of modules is found by what its class builds, not by names of fields."""

from __future__ import annotations

import types
from collections.abc import Collection
from fractions import Fraction
from typing import Any

import pytest

from surgery.axes.formulas import Field
from surgery.configs.fitting import Unfit
from surgery.configs.shorter import Names, Shortening, Shorter


def names(**lists: int) -> Names:
    return frozenset(f"{name}.{i}.weight" for name, count in lists.items() for i in range(count))


def two_stacks(config: Any) -> Names:
    """Two stacks of four, one entry for each layer of the first, and a list of tokens that is as long by chance."""
    if len(config.kinds) < config.layers:
        raise Unfit("list index out of range")
    return names(first=config.layers, second=config.others)


def stages(config: Any) -> Names:
    return names(**{f"stage{i}": count for i, count in enumerate(config.depths)})


def by_list(config: Any) -> Names:
    return names(blocks=len(config.inner))


def both(config: Any) -> Names:
    return names(down=config.layers, up=config.layers + 1)


def agreeing(config: Any) -> Names:
    if len(config.inner) != config.layers:
        raise Unfit("lists of other lengths")
    return names(blocks=config.layers)


CASES: dict[str, tuple[Any, dict[str, Any], dict[str, tuple[int, tuple[int, ...]]], dict[str, Any]]] = {
    "equal numbers": (
        two_stacks,
        {"heads": 4, "others": 4, "layers": 4, "kinds": ["a", "b", "a", "c"], "tokens": [1, 2, 3, 4]},
        {"first": (4, (0, 3)), "second": (4, (1,))},
        {"layers": 2, "others": 1, "kinds": ["a", "c"]},
    ),
    "one stack of two": (
        two_stacks,
        {"others": 3, "layers": 3, "kinds": ("a", "b", "c")},
        {"second": (3, (0, 2))},
        {"others": 2},
    ),
    "numbers in a list": (
        stages,
        {"depths": [2, 2, 6, 2], "heads": [2, 2, 2, 2]},
        {"stage1": (2, (0,)), "stage2": (6, (0, 1, 4, 5)), "stage3": (2, (1,))},
        {"depths": [2, 1, 4, 1]},
    ),
    "a list alone": (by_list, {"inner": (8, 9, 10)}, {"blocks": (3, (1, 2))}, {"inner": (9, 10)}),
    "one number for two": (both, {"layers": 3}, {"up": (4, (0, 1, 2)), "down": (3, (0, 1))}, {"layers": 2}),
    "a number that counts one more": (
        lambda config: names(blocks=config.layers - 1),
        {"heads": 6, "layers": 6},
        {"blocks": (5, (0, 4))},
        {"layers": 3},
    ),
    "a number and a list": (
        agreeing,
        {"layers": 3, "inner": [8, 9, 10]},
        {"blocks": (3, (0, 2))},
        {"layers": 2, "inner": [8, 10]},
    ),
}


def search(make: Any, values: dict[str, Any], lists: dict[str, tuple[int, tuple[int, ...]]], **more: Any) -> Shortening:
    config = types.SimpleNamespace(**values)
    whole = {name.partition(".")[0]: 0 for name in make(config)}
    whole = {name: sum(one.startswith(f"{name}.") for one in make(config)) for name in whole}

    def wanted(shorter: Collection[str]) -> Names:
        return names(**(whole | {name: len(lists[name][1]) for name in shorter}))

    told = [Shorter(name, size, kept, **more) for name, (size, kept) in lists.items()]
    return Shortening(config, told, make, wanted)


@pytest.mark.parametrize("name", CASES)
def test_numbers_and_lists_follow(name: str) -> None:
    make, values, lists, told = CASES[name]
    found = search(make, values, lists)
    before = found.config
    assert vars(found.run()) == values | told
    assert found.config is not before and vars(before) == values
    other = types.SimpleNamespace(**values, more=1)
    assert vars(found.applied(other)) == values | told | {"more": 1}


def test_what_builds_the_same_follows_where_it_is_read() -> None:
    """A number and a list that decide no tensor: modules are known to read them."""
    values = {"layers": 4, "cached": 4, "words": ["a", "b", "c", "d"], "others": 4}
    ends = ((Field("cached"),), (Field("words"),))
    found = search(lambda config: names(first=config.layers), values, {"first": (4, (1, 3))}, ends=ends)
    assert vars(found.run()) == {"layers": 2, "cached": 2, "words": ["b", "d"], "others": 4}


def test_numbers_of_entries_move_with_them() -> None:
    found = search(by_list, {"inner": [8, 9, 10]}, {"blocks": (3, (0, 2))})
    found.run()
    inner = Field("inner")
    known = {(inner, 0): Fraction(4), (inner, 1): Fraction(5), (inner, 2): Fraction(6), (Field("width"),): Fraction(7)}
    assert found.moved(known) == {(inner, 0): 4, (inner, 1): 6, (Field("width"),): 7}


@pytest.mark.parametrize("values", [{"layers": 5}, {"inner": [1, 2]}])
def test_a_number_that_is_not_there_is_missed_by_name(values: dict[str, Any]) -> None:
    found = search(lambda config: names(blocks=3), values, {"blocks": (3, (0, 2))})
    with pytest.raises(Unfit, match=r"no number or list of it .* blocks \(2 of 3: 0, 2\)"):
        found.run()
    assert vars(found.config) == values


def test_a_list_without_tensors_of_its_own_changes_nothing() -> None:
    """Four heads are no four modules, though a list of four is shorter."""
    found = search(by_list, {"inner": [8, 9, 10], "heads": 4}, {"blocks": (3, (0, 2))})
    found.lists = [Shorter("silent", 4, (0,)), *found.lists]
    wanted = found.wanted
    found.wanted = lambda shorter: wanted([name for name in shorter if name != "silent"])
    assert vars(found.run()) == {"inner": [8, 10], "heads": 4}
