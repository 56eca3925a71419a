"""The helpers that are copied into written modules do what those of the library do."""

import itertools

import pytest

from surgery.errors import InputError
from surgery.exporting import helpers
from surgery.modules.code.helpers import HELPERS

SIZES = 0, 3, 4, 6, 8, 12


@pytest.mark.parametrize("name", ["sized", "scaled", "agree", "meet"])
def test_numbers(name: str) -> None:
    theirs, ours = HELPERS[f"surgery_{name}"], getattr(helpers, f"_{name}")
    count = 4 if name in ("agree", "meet") else 3
    for given in itertools.product(SIZES, repeat=count):
        try:
            expected = theirs(*given)
        except InputError:
            with pytest.raises(ValueError, match="computes the size"):
                ours(*given)
        else:
            assert ours(*given) == expected, given


@pytest.mark.parametrize(
    "value, keys",
    [(8, ()), ((2, 8), (1,)), ([8, 2], (0,)), ({"a": (8,)}, ("a", 0)), (slice(0, 8), ("stop",)), ([(8, 1)], (0, 0))],
)
def test_numbers_within(value: object, keys: tuple[object, ...]) -> None:
    theirs = HELPERS["surgery_inside"](value, keys, HELPERS["surgery_sized"], 8, 4)
    assert helpers._inside(value, keys, helpers._sized, 8, 4) == theirs != value


def test_what_is_compared_are_two_sizes() -> None:
    with pytest.raises(ValueError, match="two sizes are compared here, and not tuple and int"):
        helpers._agree((1, 2), 3, 1, 2)
