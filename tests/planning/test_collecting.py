"""Python's search for cycles is put back to how often it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from surgery.planning.make import OFTEN, fewer_gc_passes


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize("often", [(700, 10, 10), (0, 10, 10), (2 * OFTEN, 10, 10)])
def test_no_search_is_made_more_often_and_none_stays_seldom(often: tuple[int, int, int]) -> None:
    gc.set_threshold(*often)
    with pytest.raises(ZeroDivisionError), fewer_gc_passes():
        assert gc.get_threshold()[0] == (OFTEN if often[0] == 700 else often[0])
        raise ZeroDivisionError
    assert gc.get_threshold() == often
