"""Choosing: limits of `choose`, and what is done with a curve."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import surgery
from surgery import FileError, InputError, WidthError
from tests.mistakes.models import QUIET, size_of, wrapped_net
from tests.mistakes.table import noticed, refused, works


@functools.cache
def curve() -> surgery.Curve:
    """Scores 1.0, 0.394 and 0.176, of 284, 112 and 50 parameters."""
    return surgery.sweep(wrapped_net(), lambda model: size_of(model) / 284, (1.0, 0.5, 0.25), **QUIET)


def chosen(**limits: Any) -> Callable[[], int]:
    return lambda: curve().choose(**limits).params


NOT_FINITE = r"is not a finite number \(nor a share such as '50%'\)"
LIMITS = [
    works("a share as a text", chosen(max_params="50%"), 112),
    works("a share with a space", chosen(max_params="50 %"), 112),
    works("a share as a float", chosen(max_params=0.5), 112),
    works("a number", chosen(max_params=120), 112),
    works("no limit", chosen(), 284),
    refused("percent as an int", chosen(max_params=30), WidthError, r"'30%'|a share"),
    refused("all of it as an int", chosen(max_macs=1), WidthError, r"'100%'|1\.0|a share"),
    refused("a text without %", chosen(max_params="50"), InputError, NOT_FINITE),
    refused("a word", chosen(max_params="half"), InputError, NOT_FINITE),
    refused("more than all", chosen(max_params="150%"), InputError, "above 0 % and is at most 100 %"),
    refused("nothing", chosen(max_params=0), InputError, "max_params=0, but it must be above 0"),
    refused("negative", chosen(max_params=-5), InputError, "max_params=-5, but it must be above 0"),
    refused("impossible", chosen(max_params=10), WidthError,
            r"nearest is curve\[2\]: it has 50 param.*Loosen the bound"),
    refused("impossible together", chosen(max_params=0.5, min_score=0.9), WidthError,
            r"The nearest is curve\[\d\].*No point at all is within|it has score.*asks for at least"),
    refused("a score in percent", chosen(min_score=95), WidthError, r"All scores lie between 0 and 1: 95 % is 0\.95"),
    refused("a score as a text", chosen(min_score="90%"), InputError, "scores have their own unit, and no shares"),
    refused("a score that all have", chosen(min_score=0.01), InputError,
            "limits nothing.*Ask for more, sweep narrower"),
    refused("a loss in points", chosen(max_loss=1), InputError, r"unit of the scores: 0\.01 is one point of a hundred"),
    refused("a negative loss", chosen(max_loss=-0.1), InputError, "is below 0: it is what the score may fall by"),
    noticed("a loss that none has", chosen(max_loss=0.9), "which limits nothing.*sweep them"),
    noticed("a cost that all have", chosen(max_params=10**9),
            "all 3 points are within max_params=1e.09, which limits no"),
    refused("a latency that was not measured", chosen(max_latency=5), InputError, "sweep with measure_latency=True"),
    refused("a misspelt keyword", chosen(max_parms=0.5), TypeError, "unexpected keyword argument 'max_parms'"),
    refused("FLOPs", chosen(max_flops=0.5), TypeError, "unexpected keyword argument 'max_flops'"),
    refused("by place", lambda: curve().choose(0.5), TypeError, "positional"),
    refused("errors=True", chosen(errors=True), InputError, "errors=True is not a number of standard errors"),
    refused("a loss without the full model", lambda: surgery.sweep(
        wrapped_net(), size_of, (0.5, 0.25), **QUIET).choose(max_loss=0.1), InputError,
        "sweep with 1.0 among the widths"),
]  # fmt: skip

FRACTIONS = [
    refused("outside of the rows", lambda: curve().at(0.1), InputError,
            "0.1 is not a fraction between 0.25 and 1, where"),
    refused("percent", lambda: curve().at(50), InputError, "50 is not a fraction between 0.25 and 1"),
    refused("a limit of the page", lambda: curve().report("never.html", max_parm=0.5), InputError,
            "max_parm is no limit; the limits are max_params, max_macs"),
    refused("an axis of the picture", lambda: curve().plot("never.png", x="flops"), InputError,
            "x='flops' is not one of params, macs, latency, bytes"),
    refused("a report of nothing", lambda: surgery.report([], "never.html"), InputError, "has no curve"),
    refused("a report with the path first", lambda: surgery.report("never.html", curve()), InputError, "curve.*path"),
    refused("a report of a list of curves", lambda: surgery.report([curve(), curve()], "never.html"), InputError,
            "mapping|names"),
]  # fmt: skip


@pytest.mark.parametrize("check", LIMITS)
def test_limits(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", FRACTIONS)
def test_curves(check: Any) -> None:
    check()


WRITERS = {
    "report": lambda path: curve().report(path),
    "to_json": lambda path: curve().to_json(path),
    "to_csv": lambda path: curve().to_csv(path),
    "plot": lambda path: curve().plot(path),
    "the plan": lambda path: surgery.inspect(wrapped_net()).to_json(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_is_not_there_is_made_or_told(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.png"
    try:
        WRITERS[name](path)
    except InputError as error:
        assert "cannot be written" in str(error) and "name another file" in str(error)
    else:
        assert path.exists()


def test_a_curve_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.json: cannot be read as JSON .*Curve\.to_json writes such files"):
        surgery.Curve.from_json(tmp_path / "none.json")
