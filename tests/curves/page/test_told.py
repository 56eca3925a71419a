"""What a page says in words: its limits, its marks, budgets, metrics, times, the day it was made; and nothing else."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import surgery
from surgery.curves.curve import Curve
from surgery.curves.page.asked import listed
from surgery.html.numbers import COST_WORDS
from tests.curves.made import drawn, nested, searched


def text(tmp_path: Path, curves: Any, **options: Any) -> str:
    options = {"score": "accuracy", "made": date(2026, 1, 2)} | options
    return surgery.report(curves, tmp_path / "report.html", **options)[0].read_text(encoding="utf-8")


def of(page: str, kind: str) -> list[str]:
    """The texts of the elements of one class, without tags."""
    found = re.findall(rf'class="{kind}"[^>]*>(.*?)</(?:p|ul|span)>', page, flags=re.DOTALL)
    return [re.sub("<[^>]*>", "", one) for one in found]


def kinds(page: str) -> list[str]:
    """The kinds of marks that the legend names."""
    return [kind for kind, hidden in re.findall(r'<li data-kind="(\w+)"( hidden)?', page) if not hidden]


LESS = "at most {} less accuracy than the full model"
OPENINGS: dict[str, tuple[dict[str, Any], str, str]] = {
    "nothing": ({}, f"Asked for: {LESS.format('1 point')}.", f"The smallest model with {LESS.format('1 point')}: "),
    "a size": ({"max_bytes": 1_000_000}, "Asked for: at most 1 MB in size.", "The best model with at most 1 MB in si"),
    "a share": (
        {"max_macs": "50%"},
        "Asked for: at most 13.4 million multiply-adds.",
        "The best model with at most 13",
    ),
    "a time": (
        {"max_latency": 0.01},
        "Asked for: at most 10 ms of time.",
        "The best model with at most 10 ms of time: ",
    ),
    "a loss": ({"max_loss": 0.025}, f"Asked for: {LESS.format('2.5 points')}.", "The smallest model with at most 2.5"),
    "two": (
        {"max_params": 0.5, "max_loss": 0.02},
        f"Asked for: at most 0.556 million parameters and {LESS.format('2 points')}.",
        "The best model with at most 0.556 million parameters and at most 2 points less",
    ),
    "chance": (
        {"max_bytes": 0.5, "errors": 1},
        "Asked for: at most 2.23 MB in size, small differences counted as chance.",
        "The best model with at most 2.23 MB in size, small differences counted as chance: ",
    ),
}


@pytest.mark.parametrize("case", OPENINGS)
def test_the_opening_words_are_the_limits(case, tmp_path):
    limits, asked, how = OPENINGS[case]
    page = text(tmp_path, nested(), **limits)
    assert of(page, "asked") == [asked]
    assert of(page, "how")[0].startswith(how)


def test_without_a_limit_the_words_say_so(tmp_path):
    page = text(tmp_path, drawn(3, 9, share=False))
    assert of(page, "asked") == ["Asked for: the best model, whatever it costs."]
    assert of(page, "how")[0].startswith("The best model, without any limits: ")


def test_a_score_above_the_full_models_is_more(tmp_path):
    better = searched()
    page = text(tmp_path, better, min_score=better.base.score + 0.005)
    assert of(page, "asked") == ["Asked for: at least 0.5 points more accuracy than the full model."]


@pytest.mark.parametrize("words, told", [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (list("abc"), "a, b and c")])
def test_words_are_listed(words, told):
    assert listed(words) == told


# ---- the legend

ALONE = nested((0.5,), errors=False)
KINDS: dict[str, tuple[Any, set[str]]] = {
    "one model": (ALONE, {"curve", "ring"}),
    "slices": (nested(errors=False), {"curve", "ring", "line"}),
    "errors": (nested(), {"curve", "ring", "line", "error"}),
    "searched": (searched(), {"curve", "ring", "line", "error", "uniform"}),
    "several": ({"a": nested(errors=False), "b": searched(errors=False)}, {"curve", "ring", "line", "uniform"}),
}


@pytest.mark.parametrize("case", KINDS)
def test_the_legend_names_what_occurs(case, tmp_path):
    curves, expected = KINDS[case]
    page = text(tmp_path, curves)
    assert set(kinds(page)) == expected
    assert kinds(page).count("curve") == (len(curves) if isinstance(curves, dict) else 1)
    chart = page[page.index('<svg viewBox="0 0 660') : page.index('class="tip"')]
    assert ('class="uniform"' in chart) == ("uniform" in expected)
    assert ('class="error"' in chart) == ("error" in expected)


def test_uniform_models_without_a_time_are_left_out_of_that_picture(tmp_path):
    curve = searched()
    page = text(tmp_path, replace(curve, uniform=tuple(replace(point, latency=None) for point in curve.uniform)))
    assert page.count('class="uniform"') == 3 * 3 * 2 + 1  # points, costs without the time, sizes; and the legend


# ---- budgets, metrics, times


def test_rows_of_a_search_say_their_budget(tmp_path):
    page = text(tmp_path, searched())
    for share in (48, 25, 12):
        assert page.count(f"<td>about {share} % of the MACs</td>") == 1
    assert '"name": "row 2, about 12 % of the MACs"' in page and '<th scope="col">budget</th>' in page
    assert "about" not in of(text(tmp_path, nested()), "how")[0]


def test_other_metrics_have_columns(tmp_path):
    page = text(tmp_path, searched())
    assert '<th scope="col">loss</th>' in page and '<th scope="col">accuracy</th>' not in page
    assert all(f"<td>{point.metrics['loss']:.4f}</td>" in page for point in searched())


def test_times_come_with_their_spread_and_with_what_they_were_measured(tmp_path):
    page = text(tmp_path, searched())
    assert '<th scope="col">± ms</th>' in page
    told = "one call of inputs (8, 3, 32, 32) on cpu, 2 CPU threads, median of 30."
    assert f"ms: {told}" in of(page, "remark") and f"Time: {told}" in page
    first = searched()[0]
    assert f"{COST_WORDS['latency'].words(first.latency)} \\u00b1 {1e3 * first.spread:.2g}" in page
    assert "±: one standard error" in text(tmp_path, searched(errors=False))  # of the times
    assert "±: one standard error" not in text(tmp_path, nested(errors=False))
    untimed = replace(searched(), points=tuple(replace(point, latency=None) for point in searched()))
    assert "one call of" not in text(tmp_path, untimed)


# ---- BatchNorm


@pytest.mark.parametrize("curve", [nested(), searched(), drawn(1, 5), replace(nested(), refitted=2)], ids=range(4))
def test_nothing_is_said_of_batchnorm_where_nothing_was_estimated(curve: Curve, tmp_path):
    assert not re.search('batchnorm|recalibrat(?!e=batches.")', text(tmp_path, curve), flags=re.IGNORECASE)


def test_batches_are_told_of_the_curve_that_has_them(tmp_path):
    both = {"plain": nested(), "estimated": replace(nested(gain=-0.1), recalibrated=3)}
    page = text(tmp_path, both)
    assert 'data-needs="recalibrate=batches" hidden' in page  # a plain one is shown
    assert 'data-needs="recalibrate=batches" hidden' not in text(tmp_path, both["estimated"])


# ---- the footer


def test_the_footer_has_the_day_and_the_version(tmp_path, monkeypatch):
    version = metadata.version("model-surgery")
    assert f'<time datetime="2026-01-02">2026-01-02</time> (UTC) with model-surgery {version}.' in text(
        tmp_path, nested()
    )
    before = datetime.now(UTC).date()
    page = text(tmp_path, nested(), made=None)
    assert any(f'datetime="{day}"' in page for day in (before, datetime.now(UTC).date()))

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert "(UTC) with model-surgery." in text(tmp_path, nested())
