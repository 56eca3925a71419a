"""The page in a real browser: it asks for nothing, picks what `Curve.choose` picks, and works without a mouse."""

from __future__ import annotations

import math
import random
import warnings
from typing import Any

import pytest
import torch

import surgery
from surgery.curves.curve import Curve
from surgery.curves.page.asked import HOW
from surgery.curves.page.section import Section
from surgery.errors import InputError, WidthError
from tests.curves.made import drawn, nested
from tests.pages import RATIO
from tests.small_models import mlp

PHONE = {"width": 360, "height": 740}
LONG = "encoder.layers.11.a_module_with_quite_a_long_name.attention.projection.weight.1"


def shown(page: Any, section: int = 0) -> int:
    """The number of the point that a section shows, which every part of it agrees on."""
    place = page.locator(".model").nth(section)
    number = int(place.get_attribute("data-shown"))
    checked = place.locator(".chart [aria-checked=true]")
    assert {mark.get_attribute("data-point") for mark in checked.all()} == {str(number)}
    assert place.locator("tr.on").get_attribute("data-point") == str(number)
    rings = {ring.get_attribute("transform") for ring in place.locator(".wide[data-axis=bytes] .ring").all()}
    assert rings == {place.locator(f".wide[data-axis=bytes] [data-point='{number}']").get_attribute("transform")}
    return number


def test_hover_click_and_keys_pick_points(visit):
    curve = nested()
    page = visit(curve, score="accuracy", max_bytes=1.0)
    assert shown(page) == curve.index(curve.choose())
    chart = page.locator(".wide[data-axis=bytes]")
    tip = page.locator(".tip")
    chart.locator("[data-point='3']").hover()
    assert tip.is_visible() and "width 0.375" in tip.inner_text() and "627 kB" in tip.inner_text()
    assert shown(page) == 0  # looking is not picking
    chart.locator("[data-point='3']").click()
    assert shown(page) == 3 and page.locator(".how").inner_text().startswith(f"{HOW['hand']}: width 0.375.")
    chart.locator("[data-point='3']").focus()
    walk = [
        ("ArrowRight", 2),
        ("ArrowUp", 1),
        ("End", 0),
        ("ArrowRight", 0),
        ("Home", 5),
        ("ArrowLeft", 5),
        ("ArrowUp", 4),
    ]
    for key, place in walk:
        page.keyboard.press(key)
        assert shown(page) == place
        assert page.evaluate("document.activeElement.dataset.point") == str(place)
        assert tip.is_visible()
    page.locator("tbody tr").nth(2).click()
    assert shown(page) == 2
    assert page.locator(".same").inner_text() == "From the curve: curve[2]"


def test_the_costs_to_draw_against(visit):
    page = visit(nested())
    for axis, label in (("latency", "Time"), ("macs", "Multiply-adds"), ("params", "Parameters"), ("bytes", "Size")):
        page.get_by_text(label, exact=True).first.click()
        visible = [chart for chart in page.locator(".chart").all() if chart.is_visible()]
        assert [chart.get_attribute("data-axis") for chart in visible] == [axis]
        assert visible[0].locator(".mark").count() == 6


def test_everything_can_be_reached_by_tab(visit):
    page = visit(nested())
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(
            "(e => [e.type || e.getAttribute('role') || e.localName, getComputedStyle(e).outlineStyle !== 'none'"
            " || getComputedStyle(e.parentNode).outlineStyle !== 'none'])(document.activeElement)"
        ))  # fmt: skip
    kinds = [kind for kind, _ in reached]
    first = kinds[: kinds.index("summary") + 1]
    assert first == ["radio", "radio", *["number", "range"] * 5, "checkbox", "button", "pre", "button", "summary"]
    assert all(outlined for _, outlined in reached[: len(first)])
    unnamed = page.locator("input, button, .chart, .chart .mark").evaluate_all(
        "all => all.filter(e => !(e.labels && e.labels.length) && !e.getAttribute('aria-label') && !e.innerText).length"
    )
    assert unnamed == 0


# ---- the budget

MEASURES = ("bytes", "latency", "macs", "params", "score")


def asked(section: Any, budget: dict[str, str], luck: bool = False) -> None:
    if section.locator(".luck input").count():
        section.locator(".luck input").set_checked(luck)
    for measure in MEASURES:
        row = section.locator(f"[data-measure={measure}]")
        if row.count():
            row.locator("[type=number]").fill(budget.get(measure, ""))


def limit(section: Any, curve: Curve, measure: str, text: str) -> float:
    """What a number that was typed means, worked out here on its own."""
    amount = float(text) * float(section.locator(f"[data-measure={measure}]").get_attribute("data-unit"))
    if measure == "latency":
        return amount
    if measure == "score":
        return max(curve, key=lambda point: point.params).score - amount
    return max(math.floor(amount + 0.5), 1)


def typed(curve: Curve, measure: str, unit: float, rng: random.Random) -> str:
    """A budget as a person might type it: often just what a point costs."""
    values = [getattr(point, measure) for point in curve]
    if measure == "score":
        return f"{rng.choice((0, 1, 2.5, 10, 30, 55)) * (1 if unit == 0.01 else 0.1):g}"
    return f"{rng.choice((*values, rng.uniform(0, 1.1 * max(values)))) / unit:.10g}"


def asked_for(curve: Curve, given: dict[str, float]) -> Any:
    """What `Curve.choose` picks. A score alone that is below all points is refused: the page shows the cheapest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            return curve.choose(**given)
        except InputError as error:
            assert "which limits nothing" in str(error) and given.keys() - {"errors"} == {"min_score"}
            return min(curve, key=lambda point: (point.params, point.macs, -point.score))


def expect(page: Any, number: int, curve: Curve, budget: dict[str, str], luck: bool) -> str:
    """What the page picks for a budget is what `Curve.choose` picks, and the page says how. Returns how."""
    section = page.locator(".model").nth(number)
    asked(section, budget, luck)
    given = eval(f"dict({section.get_attribute('data-limits')})")
    limits = {name: value for name, value in given.items() if name != "errors"}
    assert given.get("errors", 0) == (luck and any(point.error for point in curve))
    for measure, text in budget.items():
        said = limits[f"{'min' if measure == 'score' else 'max'}_{measure}"]
        meant = limit(section, curve, measure, text)
        assert said == meant or (measure == "score" and meant - 1e-3 < said < meant)
    assert len(limits) == len(budget)
    place, how = int(section.get_attribute("data-shown")), section.get_attribute("data-how")
    try:
        chosen = asked_for(curve, given)
    except WidthError as error:
        row = section.locator(".same").inner_text().removeprefix("From the curve: ")
        assert how == "none" and f"The nearest is {row}:" in str(error)
        return how
    assert curve[place] is chosen
    line = section.locator(".same").inner_text().removeprefix("From the curve: ")
    assert eval(line, {"curve": curve}) is chosen
    assert how == ("any" if not limits else "cheapest" if [*limits] == ["min_score"] else "best")
    return how


@pytest.mark.parametrize("seed, options", [(1, {}), (2, {"timed": False}), (3, {"share": False})])
def test_a_budget_picks_what_choose_picks(seed, options, visit):
    rng = random.Random(seed)
    curves = [drawn(seed * 10 + i, rows, **options) for i, rows in enumerate((1, 7, 40))]
    page = visit([Section(f"{i}", {"": curve}) for i, curve in enumerate(curves)])
    seen = set()
    for _ in range(12):
        for number, curve in enumerate(curves):
            section = page.locator(".model").nth(number)
            units = {row.get_attribute("data-measure"): float(row.get_attribute("data-unit"))
                     for row in section.locator("[data-measure]").all()}  # fmt: skip
            some = rng.sample([*units], rng.randint(0, min(3, len(units))))
            seen.add(expect(page, number, curve, {m: typed(curve, m, units[m], rng) for m in some}, rng.random() < 0.5))
    assert seen >= {"best", "none"}


def test_a_budget_over_two_curves_picks_from_both(visit):
    curves = {"uniform": nested(), "searched": nested((0.9, 0.6, 0.3), tilt=0.1, gain=0.01)}
    page = visit(curves)
    section = Section("", curves)
    for text, name in (("0.3", "uniform"), ("0.45", "searched"), ("", "searched")):
        asked(page, {"bytes": text} if text else {})
        picked = section.curve[shown(page)]
        assert picked in curves[name] and name in page.locator(".how").inner_text()
        line = page.locator(".same").inner_text().removeprefix("From the curve: ")
        assert eval(line, {"curve": section.curve}) is picked and eval(line, {"curve": curves[name]}) is picked


def test_sliders_set_the_numbers_and_no_limits_clears_them(visit):
    curve = nested()
    page = visit(curve)
    section = page.locator(".model")
    for measure in MEASURES:
        row = page.locator(f"[data-measure={measure}]")
        asked(page, {})
        for position in ("0", "17", "50", "83", "99"):
            row.locator("[type=range]").fill(position)
            text = row.locator("[type=number]").input_value()
            assert row.locator("[type=range]").get_attribute("aria-valuetext").startswith(text)
            limits = eval(f"dict({section.get_attribute('data-limits')})")
            assert len(limits) == 1 and curve[shown(page)] is asked_for(curve, limits)  # every position lets one in
            row.locator("[type=number]").fill(text)  # typing what is said moves nothing
            assert eval(f"dict({section.get_attribute('data-limits')})") == limits
            assert abs(int(row.locator("[type=range]").input_value()) - int(position)) <= 1
        row.locator("[type=range]").fill("100")
        assert row.locator("[type=number]").input_value() == "" and not section.get_attribute("data-limits")
    asked(page, {"bytes": "0.5", "score": "3"})
    page.get_by_text("No limits").click()
    assert not section.get_attribute("data-limits") and curve[shown(page)] is curve.choose()
    page.locator("[data-measure=bytes] [type=range]").focus()
    page.keyboard.press("ArrowLeft")
    assert section.get_attribute("data-how") == "best"


def test_what_is_beyond_a_limit_is_marked(visit):
    curve = nested()
    page = visit(curve, max_bytes=1_200_000)
    out = page.locator(".wide[data-axis=bytes] .mark.out")
    assert {int(mark.get_attribute("data-point")) for mark in out.all()} == {0, 1}
    shade = page.locator(".wide[data-axis=bytes] .limits path").get_attribute("d")
    edge = float(shade[1 : shade.index(" ")])
    places = [mark.get_attribute("transform") for mark in page.locator(".wide[data-axis=bytes] .mark").all()]
    across = [float(place[len("translate(") : place.index(" ")]) for place in places]
    assert across[2] < edge < across[1]


# ---- what comes out


def test_the_python_makes_the_model_that_is_shown(visit, browser):
    wrapped = surgery.wrap(mlp(4, 16, 6, 2), torch.ones(2, 4))
    widths = (1.0, 0.5, {"0.o": 3, "2.o": 5}, {"2.o": 2})
    curve = surgery.sweep(
        wrapped, lambda model: model(torch.ones(2, 4)).sum().item(), widths, measure_latency=False, progress=False
    )
    page = visit(curve)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    for place, point in enumerate(curve):
        page.locator("tbody tr").nth(place).click()
        page.get_by_role("button", name="Cop").click()
        page.get_by_role("button", name="Copied").wait_for()
        scope = {"surgery": surgery, "wrapped": wrapped}
        exec(page.evaluate("navigator.clipboard.readText()"), scope)
        assert scope["small"].surgery_record["widths"] == point.widths
        bars = page.locator(".widths .kept").evaluate_all("all => all.map(e => parseFloat(e.getAttribute('width')))")
        assert bars == pytest.approx([100 * point.widths[name] / size for name, size in curve.sizes.items()])
        assert page.locator(".widths b").all_inner_texts() == [str(width) for width in point.widths.values()]


# ---- every kind of reader


def wide_names() -> dict[str, Curve]:
    curve = nested()
    widths = [{LONG: point.widths["down.o"], **point.widths} for point in curve]
    points = tuple(
        surgery.Point(w, p.score, p.params, p.bytes, p.macs, p.latency, None, p.error)
        for w, p in zip(widths, curve, strict=True)
    )
    return {LONG: Curve(points, curve.full, sizes={LONG: 64, **curve.sizes})}


@pytest.mark.parametrize("script", [True, False])
def test_a_phone_never_scrolls_sideways(script, visit):
    section = Section(LONG, wide_names() | {"another": wide_names()[LONG]}, score="accuracy", load="x = " + "y" * 200)
    page = visit([section], viewport=PHONE, script=script, title="A title with anunbreakable" + "word" * 12)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    box = page.locator(".narrow[data-axis=bytes]").bounding_box()
    assert box["width"] > 280 and not page.locator(".wide[data-axis=bytes]").is_visible()
    texts = page.locator(".narrow[data-axis=bytes] text").evaluate_all(
        "all => Math.min(...all.map(e => e.getBoundingClientRect()).map(b => Math.min(b.width, b.height)))"
    )
    assert texts > 9  # nothing is scaled down until it cannot be read


def test_without_a_script_the_picture_and_the_table_are_there(visit):
    page = visit(nested(), script=False, score="accuracy", max_bytes=0.3)
    assert page.locator(".wide[data-axis=bytes]").is_visible() and page.locator("table").is_visible()
    assert page.locator("tr.on td").first.inner_text() == "2"
    assert "1.12 MB" in page.locator(".result").inner_text()
    assert page.locator(".widths li").first.is_visible() and "shrink(wrapped" in page.locator("pre").inner_text()
    assert not page.locator(".budget").is_visible() and not page.locator(".copy").is_visible()
    page.get_by_text("Time", exact=True).first.click()  # needs no script
    assert page.locator(".wide[data-axis=latency]").is_visible()
    assert not page.locator(".wide[data-axis=bytes]").is_visible()


CONTRAST = (
    f"() => {{{RATIO}"
    """
  const [page, card] = [style('body').backgroundColor, style('.plot').backgroundColor];
  return {
    text: Math.min(ratio(style('h1').color, page), ratio(style('header p').color, page), ratio(style('dt').color, card),
                   ratio(style('.unit').color, card), ratio(style('.frame text').fill, card)),
    marks: Math.min(...[...document.querySelectorAll('.wide .series')]
      .map((series) => ratio(getComputedStyle(series).color, card))),
  };
}"""
)


@pytest.mark.parametrize("dark", [False, True])
def test_texts_and_marks_stand_out(dark, visit):
    four = {name: nested(tilt=0.01 * i, gain=0.001 * i) for i, name in enumerate("abcd")}
    page = visit(four, dark=dark)
    contrast = page.evaluate(CONTRAST)
    assert contrast["text"] >= 4.5 and contrast["marks"] >= 3
    shapes = {page.locator(f".legend .s{i} .mark").get_attribute("d") for i in range(4)}
    assert len(shapes) == 4  # curves differ in more than colour


def test_on_paper_there_is_nothing_to_press(visit):
    page = visit(nested())
    page.emulate_media(media="print")
    for selector in (".budget", ".copy", ".axes label >> nth=1"):
        assert not page.locator(selector).is_visible()
    for selector in (".wide[data-axis=bytes]", "table", ".widths", "pre"):
        assert page.locator(selector).is_visible()


def test_hostile_texts_are_only_texts(visit):
    evil = '</script><script>document.title = "run"</script><img src=x onerror="document.title = 1"> & "'
    curve = nested()
    points = tuple(surgery.Point({evil: 3}, p.score, p.params, p.bytes, p.macs, None, None) for p in curve)
    section = Section(evil, {evil: Curve(points, curve.full), "b": nested(gain=-0.1)}, score=evil, notes=(evil,))
    page = visit([section], title=evil)
    assert page.title().startswith("</script>") and page.locator("img").count() == 0
    page.locator(".wide[data-axis=bytes] [data-point='3']").click(force=True)
    assert evil in page.locator(".how").inner_text() and evil in page.locator(".tip").inner_text()
    assert page.locator("h1").inner_text() == evil and page.title() == evil
