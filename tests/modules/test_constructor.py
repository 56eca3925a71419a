"""A constructor is read as far as it can be followed: what changes an item afterwards leaves nothing to claim."""

from __future__ import annotations

import pytest
from torch import nn

from surgery.modules.constructor.read import constructed


class Sizes(nn.Module):
    def __init__(self, c: int):
        super().__init__()
        self.sizes = [c, 2 * c]
        self.c = c


class Assigned(Sizes):
    def __init__(self, c: int):
        super().__init__(c)
        self.sizes[0] = c // 2


class Added(Sizes):
    def __init__(self, c: int):
        super().__init__(c)
        self.sizes[0] += c


class Multiplied(Sizes):
    def __init__(self, c: int):
        super().__init__(c)
        self.sizes[-1] *= 2


class Deleted(Sizes):
    def __init__(self, c: int):
        super().__init__(c)
        del self.sizes[0]


class Inserted(Sizes):
    def __init__(self, c: int):
        super().__init__(c)
        self.sizes.insert(0, 3)


class InALoop(Sizes):
    def __init__(self, c: int):
        super().__init__(c)
        for i in range(2):
            self.sizes[i] += i


class Elsewhere(Sizes):
    def __init__(self, c: int):
        super().__init__(c)
        self.layer = nn.Linear(c, c)
        self.layer.sizes = [c]
        self.layer.in_features += c


def test_items_are_known() -> None:
    stated = [keys for keys, _ in constructed(Sizes(4)).integers()]
    assert stated == [("sizes", 0), ("sizes", 1), ("c",)]


@pytest.mark.parametrize("cls", [Assigned, Added, Multiplied, Deleted, Inserted, InALoop])
def test_items_that_are_changed_afterwards_are_not(cls: type[Sizes]) -> None:
    stated = [keys for keys, _ in constructed(cls(4)).integers()]
    assert ("c",) in stated and not [keys for keys in stated if len(keys) > 1]


def test_attributes_of_others_that_are_set_are_told() -> None:
    assert {"sizes", "in_features"} <= constructed(Elsewhere(4)).elsewhere
