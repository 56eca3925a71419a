"""Ranks that all call a sweep get one curve: that of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import surgery
from surgery.errors import InputError
from tests.measuring import two_ranks
from tests.measuring.scoring import INPUTS, loss, wrapped
from tests.measuring.two_ranks import QUIET, WIDTHS
from tests.ranks import Ranks


@pytest.fixture(scope="module")
def found(ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each case gave on each of two ranks."""
    return ranks(two_ranks.run, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def serial() -> Any:
    torch.set_num_threads(1)
    return surgery.sweep(wrapped(), loss, WIDTHS, **QUIET).points


def results(found: list[dict[str, Any]], case: Any) -> tuple[Any, Any]:
    return found[0][case.__name__][0], found[1][case.__name__][0]


def test_every_rank_scores_every_row_and_gets_the_curve_of_one_process(found, serial):
    assert results(found, two_ranks.together) == ((serial, len(WIDTHS)), (serial, len(WIDTHS)))
    assert not found[0]["together"][1]


def test_times_are_those_of_rank_0(found, serial):
    (points, _), (other, _) = results(found, two_ranks.timed)
    assert points == other and all(point.latency > 0 for point in points)
    assert [point.score for point in points] == [point.score for point in serial]


def test_rows_that_are_split_are_scored_once(found, serial):
    (points, calls), (other, others) = results(found, two_ranks.split)
    assert points == other == serial
    assert calls + others == len(WIDTHS) and calls and others
    (points, calls), (other, others) = results(found, two_ranks.refitted)
    assert points == other == surgery.sweep(wrapped(), loss, WIDTHS, refit=[INPUTS], **QUIET).points
    assert calls + others == len(WIDTHS) and calls and others


def test_validate_may_use_collectives(found, serial):
    for points, calls in results(found, two_ranks.collectives):
        assert calls == len(WIDTHS)
        assert [p.score for p in points] == pytest.approx([p.score for p in serial], rel=1e-5)


def test_a_sharded_model_is_scored_by_all_ranks_together(found, serial):
    for points, message in results(found, two_ranks.sharded):
        assert [p.score for p in points] == pytest.approx([p.score for p in serial], rel=1e-6)
        assert all(point.latency > 0 for point in points), "each small model is gathered by all ranks"
        assert "the model is sharded, and each forward needs all ranks" in message


def test_scores_that_differ_are_told_on_rank_0(found):
    (points, _), (other, _) = results(found, two_ranks.halves)
    assert points == other
    assert [len(rank["halves"][1]) for rank in found] == [1, 0]
    assert "let validate reduce the score over all ranks" in found[0]["halves"][1][0]


def test_rank_0_alone_has_the_file(found, serial):
    for rank, result in enumerate(results(found, two_ranks.resumed)):
        assert result == (2, (serial, 2), (serial, 0), rank == 0)
    assert results(found, two_ranks.resumed_split) == (len(WIDTHS), 0)


def test_errors_of_one_rank_are_those_of_all(found):
    first, second = results(found, two_ranks.damaged)
    assert first == second and first[0] == "FileError"
    for case in (two_ranks.fails, two_ranks.fails_split):
        for kind, message, _ in results(found, case):
            assert kind == "SweepError" and message.startswith("rank 1: sweep stopped at widths ")
            assert "(ValueError: boom)" in message
    assert [finished for *_, finished in results(found, two_ranks.fails)] == [2, 2]


def test_an_executor_of_rank_0_works_for_all(found, serial):
    assert results(found, two_ranks.pool_of_rank_0) == ((serial, len(WIDTHS)), (serial, 0))


def test_a_rank_may_work_alone(found, serial):
    assert results(found, two_ranks.alone) == ((serial, len(WIDTHS)), None)


def test_a_rank_that_is_missing_is_told(found):
    for kind, message, _ in results(found, two_ranks.missing):
        assert kind == "InputError" and "sweep on rank 0 waits for rank 1: all ranks call it" in message
    assert "waits for rank 1" in found[0]["missing"][1][0]
    for kind, message, _ in results(found, two_ranks.different):
        assert kind == "InputError" and "different functions at the same time: sweep, sensitivity" in message


@pytest.mark.parametrize(
    "case, what",
    [
        (two_ranks.other_widths, "widths to score"),
        (two_ranks.other_widths_split, "widths to score"),
        (two_ranks.other_keywords, "models, or keywords,"),
        (two_ranks.other_weights, "weights"),
    ],
)
def test_ranks_that_do_not_call_alike_are_told(case, what, found):
    for kind, message, _ in results(found, case):
        assert kind == "InputError" and f"rank 1 has other {what} than rank 0" in message


@pytest.mark.parametrize(
    "case", [two_ranks.searched, two_ranks.searched_split, two_ranks.sensitive, two_ranks.adaptive]
)
def test_what_chooses_widths_chooses_alike_on_all_ranks(case, found):
    first, second = results(found, case)
    assert first == second and len(first) > 1 and first[0] != "SweepError"


def test_results_are_those_of_one_process(found):
    torch.set_num_threads(1)
    assert results(found, two_ranks.sensitive)[0] == two_ranks.sensitive(0, Path())
    assert results(found, two_ranks.searched_split)[0] == two_ranks.searched_split(0, Path())
    assert results(found, two_ranks.adaptive)[0] == two_ranks.adaptive(0, Path())


def test_without_ranks_nothing_is_shared(serial):
    for mode in ("split", "together", "alone"):
        assert surgery.sweep(wrapped(), loss, WIDTHS, executor=surgery.ranks(mode), **QUIET).points == serial
    with pytest.raises(InputError, match="give one of 'split', 'together', 'alone'"):
        surgery.ranks("some")
    with pytest.raises(InputError, match="leave out the executor"):
        surgery.ranks("split", object())
