"""Limits of `choose`: shares of every cost, losses, and what is said of one that no row or every row meets."""

from __future__ import annotations

import dataclasses
import math
import re
import warnings
from typing import Any

import pytest

import surgery
from surgery.curves.curve import Curve
from surgery.errors import InputError, WidthError
from tests.curves.made import nested
from tests.curves.test_curve import CURVE, FULL, NOISY, point


def said(curve: Any, **limits: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        curve.choose(**limits)
    return [str(warning.message) for warning in seen]


@pytest.mark.parametrize("share", [1.0, 0.6, 0.3, 0.07])
@pytest.mark.parametrize("cost", ["params", "macs", "bytes", "latency"])
def test_a_share_is_one_of_the_full_model_whatever_the_cost(cost: str, share: float) -> None:
    whole = getattr(CURVE[0], cost)
    fitting = [p for p in CURVE if getattr(p, cost) <= share * whole]
    for text in (f"{100 * share:g}%", f" {100 * share:g} %"):
        if fitting:
            chosen = CURVE.choose(**{f"max_{cost}": text})
            assert chosen.score == max(p.score for p in fitting) and getattr(chosen, cost) <= share * whole
        else:
            with pytest.raises(WidthError, match=re.escape(f"max_{cost}='{text}' asks for at most")):
                CURVE.choose(**{f"max_{cost}": text})


@pytest.mark.parametrize("text", ["0%", "-5%", "101%", "half %", "nan%", "%"])
def test_a_share_lies_between_nothing_and_all(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"max_bytes={text!r}: a share of the full model lies above 0 %")):
        CURVE.choose(max_bytes=text)


def test_a_share_of_time_needs_the_time_of_the_full_model() -> None:
    part = CURVE[1:]
    with pytest.raises(InputError, match=r"max_latency='50%' is a share of the full model's time.* sweep with 1\.0"):
        part.choose(max_latency="50%")
    assert part.choose(max_latency=0.005) is part[1]
    known = dataclasses.replace(part, base=CURVE[0])
    assert known.choose(max_latency="50%") is part[1]
    unknown = Curve((point(1.0, 0.9, latency=None),), FULL)
    with pytest.raises(InputError, match="sweep with measure_latency=True"):
        unknown.choose(max_latency="50%")


@pytest.mark.parametrize(("loss", "row"), [(0, 1), (0.01, 1), (0.03, 2), (0.17, 2), (0.18, 3)])
def test_a_loss_is_counted_from_the_full_model(loss: float, row: int) -> None:
    assert CURVE.choose(max_loss=loss) is CURVE[row]
    assert dataclasses.replace(CURVE[1:], base=CURVE[0]).choose(max_loss=loss) is CURVE[row]
    assert CURVE.choose(max_loss=loss, min_score=0.5 if row == 3 else 0.95) is CURVE[row], (
        "the score alone: the cheapest"
    )


def test_a_loss_beside_a_cost_and_with_errors() -> None:
    assert CURVE.choose(max_loss=0.05, max_params=0.9) is CURVE[1]
    assert CURVE.choose(max_loss=0.05, max_params="30%") is CURVE[2]
    assert NOISY.choose(max_loss=0.03) is NOISY[2] and NOISY.choose(max_loss=0.03, errors=1) is NOISY[1]
    losses = Curve((point(1.0, -2.0), point(0.5, -2.3), point(0.25, -4.0)), FULL)
    assert losses.choose(max_loss=1.5) is losses[1], "scores in any unit"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_loss": -0.01}, "max_loss=-0.01 is below 0"),
        ({"max_loss": 1}, "max_loss=1, and all scores lie between 0 and 1.*0.01 is one point"),
        ({"max_loss": "1%"}, "max_loss='1%': scores have their own unit, and no shares"),
        ({"min_score": "95%"}, "min_score='95%': scores have their own unit, and no shares"),
        ({"max_loss": math.nan}, "max_loss=nan is not a finite number"),
        ({"max_params": "half"}, r"max_params='half' is not a finite number \(nor a share such as '50%'\)"),
        ({"min_score": 0.5}, r"all 4 points are within min_score=0\.5, .* nothing: the nearest .* score 0\.8\. Ask"),
        ({"min_score": -3}, "which limits nothing"),
    ],
)  # fmt: skip
def test_what_is_surely_a_mistake_is_an_error(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CURVE.choose(**limits)


def test_a_loss_needs_the_full_model() -> None:
    with pytest.raises(
        InputError, match=r"counted from the full model's score, which was not measured: sweep with 1\.0"
    ):
        CURVE[1:].choose(max_loss=0.01)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_latency": 5}, "max_latency=5, which limits nothing: the nearest of them has 0.01 s per call. Latencies"),
        ({"max_params": 2_000_000}, "max_params=2e+06, which limits nothing: the nearest of them has 1,000 parameters"),
        ({"max_loss": 0.5}, "max_loss=0.5, which limits nothing: the nearest of them has score 0.8. Narrower widths"),
        ({"max_params": 0.3, "min_score": 0.5}, "min_score=0.5, which limits nothing"),
    ],
)  # fmt: skip
def test_a_limit_that_every_row_meets_is_said(limits: dict[str, Any], words: str) -> None:
    (message,) = said(CURVE, **limits)
    assert f"choose: all 4 points are within {words}" in message


@pytest.mark.parametrize(
    "limits",
    [{}, {"max_params": 1.0}, {"max_params": "100%"}, {"max_macs": 50_000}, {"max_latency": "100%"}, {"min_score": 0.8},
     {"max_loss": 0.05}, {"max_params": 0.3, "max_loss": 0.05}],
)  # fmt: skip
def test_other_limits_are_not_talked_of(limits: dict[str, Any]) -> None:
    assert not said(CURVE, **limits)


def test_one_row_is_taken_where_it_is_within() -> None:
    one = CURVE[:1]
    assert not said(one, min_score=0.1) and not said(one, max_latency=9)


def test_a_limit_that_no_row_meets_is_named() -> None:
    with pytest.raises(WidthError, match=r"No point at all is within max_bytes=1\. 1 is a number of bytes.*Loosen"):
        CURVE.choose(max_bytes=1, max_params=0.5)
    with pytest.raises(WidthError, match=r"All scores lie between 0 and 1: 93 % is 0\.93\."):
        CURVE.choose(min_score=93)


@pytest.mark.parametrize("limits", [{"max_loss": 0.1}, {"max_latency": "40%", "max_loss": 0.3}, {"max_bytes": "30%"}])
def test_a_page_takes_the_same_words(limits: dict[str, Any], tmp_path: Any) -> None:
    curve = nested()
    section = surgery.Section("", {"": curve}, limits=limits)
    assert curve[section.pick()] is curve.choose(**limits)
    found = section.limit_of()
    assert all(isinstance(value, float) for value in found.values()) and len(found) == len(limits)
    if "max_loss" in limits:
        assert found["score"] == pytest.approx(curve[0].score - limits["max_loss"])
    curve.report(tmp_path / "report.html", **limits)


def test_a_page_whose_own_limit_every_row_meets_says_nothing(tmp_path: Any) -> None:
    near = Curve(tuple(point(f, 0.98 - 0.001 * i) for i, f in enumerate((1.0, 0.5, 0.25))), FULL)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        near.report(tmp_path / "report.html")


def test_losses_on_a_page_count_from_the_full_model_of_a_search(tmp_path: Any) -> None:
    full = nested()
    searched = dataclasses.replace(full[2:], base=full[0])
    section = surgery.Section("", {"": searched}, limits={"max_loss": 0.1})
    assert section.reference is full[0] and searched[section.pick()] is searched.choose(max_loss=0.1)
    searched.report(tmp_path / "report.html", max_loss=0.1)
    assert "less than the full model" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_files_keep_the_full_model_and_the_multiple(tmp_path: Any) -> None:
    curve = dataclasses.replace(CURVE[1:], base=CURVE[0], multiple=8)
    curve.to_json(tmp_path / "curve.json")
    assert Curve.from_json(tmp_path / "curve.json") == curve
