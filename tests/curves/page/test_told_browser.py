"""What a page says, while a reader changes limits and looks at points: with a mouse, the keyboard, a finger."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.curves.made import nested, searched
from tests.curves.page.test_report_browser import PHONE, asked

CHART = ".wide[data-axis=bytes]"


def kinds(page: Any) -> set[str]:
    return {item.get_attribute("data-kind") for item in page.locator(".legend li").all() if item.is_visible()}


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"max_bytes": 1_000_000},
        {"max_macs": "50%"},
        {"max_params": 0.5, "max_loss": 0.02},
        {"min_score": 0.9, "max_latency": 0.0123456, "errors": 1},
        {"max_loss": 0},
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [nested, searched])
def test_the_script_says_what_python_says(make, limits, visit):
    curve = make()
    if make is searched:
        limits = {name: value for name, value in limits.items() if name != "max_loss"}
    plain = visit(curve, script=False, score="accuracy", **limits)
    told = [plain.locator(selector).inner_text() for selector in (".asked", ".how")]
    page = visit(curve, score="accuracy", **limits)
    assert page.locator(".asked").inner_text() == told[0]
    assert page.locator(".how").inner_text().splitlines()[0] == told[1]


def test_the_words_follow_the_limits(visit):
    page = visit(nested(), score="accuracy")
    words = page.locator(".asked")
    asked(page, {"bytes": "1.5"})
    assert words.inner_text() == "Asked for: at most 1.5 MB in size."
    assert page.locator(".how").inner_text().startswith("The best model with at most 1.5 MB in size: width 0.5.")
    asked(page, {"bytes": "1.5", "latency": "20", "score": "3"}, luck=True)
    assert words.inner_text() == (
        "Asked for: at most 1.5 MB in size, at most 20 ms of time and at most 3 points less accuracy than the full "
        "model, small differences counted as chance."
    )
    page.get_by_text("No limits").click()
    assert words.inner_text() == "Asked for: the best model, whatever it costs."


NEVER = {
    "one": ({"bytes": "0.01"}, "at most 0.01 MB in size"),
    "one of two": ({"bytes": "0.01", "score": "5"}, "at most 0.01 MB in size"),
    "each of two": ({"bytes": "0.01", "latency": "1"}, "at most 0.01 MB in size nor to at most 1 ms of time"),
    "two together": (
        {"bytes": "0.2", "score": "1"},
        "both at most 0.2 MB in size and at most 1 point less accuracy than the full model",
    ),
    "a pair of three": (
        {"bytes": "0.2", "latency": "20", "score": "1"},
        "both at most 0.2 MB in size and at most 1 point less accuracy than the full model",
    ),
}


@pytest.mark.parametrize("case", NEVER)
def test_no_model_fits_says_why(case, visit):
    budget, why = NEVER[case]
    page = visit(nested(), score="accuracy")
    asked(page, budget)
    assert page.locator(".model").get_attribute("data-how") == "none"
    assert page.locator(".how").inner_text().startswith(f"No model keeps to {why}. The nearest: width ")


def test_the_legend_follows_the_limits(visit):
    page = visit(searched(), max_bytes=1_200_000)
    always = {"curve", "line", "error", "uniform", "ring"}
    assert kinds(page) == always | {"out", "band"}
    page.get_by_text("Time", exact=True).first.click()  # no limit on this side
    assert kinds(page) == always | {"out"}
    page.get_by_text("No limits").click()
    assert kinds(page) == always


def test_without_a_script_no_limits_are_drawn_and_none_are_named(visit):
    page = visit(searched(), script=False, max_bytes=1_200_000)
    assert kinds(page) == {"curve", "line", "error", "uniform", "ring"}


def values(page: Any) -> list[str]:
    return page.locator(".tip").inner_text().splitlines()


TOLD = [
    "width 0.5",
    "Accuracy: 96.8 % ± 0.9 (1.2 points less than the full model)",
    "Size: 1.12 MB (25 % of full)",
    "Time: 8.03 ms (32 % of full)",
    "Multiply-adds: 6.68 million (25 % of full)",
    "Parameters: 278,026 (25 % of full)",
]


def test_a_mouse_and_the_keyboard_show_all_values(visit):
    page = visit(nested(), score="accuracy", max_bytes=1_200_000)
    page.locator(f"{CHART} [data-point='2']").hover()
    assert values(page) == TOLD
    page.mouse.move(5, 5)
    assert not page.locator(".tip").is_visible()
    page.locator(".axes :checked").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.point") == "2" and values(page) == TOLD
    page.keyboard.press("ArrowLeft")
    assert values(page)[0] == "width 0.375"
    page.keyboard.press("Escape")
    assert not page.locator(".tip").is_visible()


def test_a_finger_shows_all_values_until_it_taps_elsewhere(visit):
    page = visit(nested(), viewport=PHONE, touch=True, score="accuracy")
    page.locator(".narrow[data-axis=bytes] [data-point='2']").tap()
    assert values(page) == TOLD and page.locator(".model").get_attribute("data-shown") == "2"
    box = page.locator(".tip").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= PHONE["width"]
    page.locator("h1").tap()
    assert not page.locator(".tip").is_visible()


def test_chance_is_explained(visit):
    page = visit(nested(), errors=2)
    box = page.locator(".luck input")
    help_ = page.locator(f"#{box.get_attribute('aria-describedby')}")
    assert help_.is_visible() and "within 2 ± of the best" in help_.inner_text()
    assert page.locator(".luck").get_attribute("title") == help_.inner_text()


def test_batches_are_told_of_the_model_that_is_shown(visit):
    page = visit({"plain": nested(), "estimated": replace(nested(gain=-0.1), recalibrated=3)})
    remark = page.locator("[data-needs]")
    for place, told in ((0, False), (7, True), (2, False)):
        page.locator(f"tbody tr[data-point='{place}']").click()
        assert remark.is_visible() == told and ("recalibrate" in page.locator(".python pre").inner_text()) == told
