"""The page: for each section what can be read and what can be changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from xml.etree.ElementTree import Element

from surgery.curves.page.asked import opening_words, units
from surgery.curves.page.chart import SIZES, chart
from surgery.curves.page.facts import code, facts, name_of, tiles
from surgery.curves.page.footer import footer
from surgery.curves.page.legend import legend
from surgery.curves.page.section import Section
from surgery.curves.page.tables import tables
from surgery.curves.page.words import timing_words
from surgery.curves.plot import AXES
from surgery.html.document import document, resource
from surgery.html.numbers import COST_WORDS
from surgery.html.tags import breakable, tag
from surgery.html.tiles import bar, tile

INTRO = (
    "Every point is a model, cut out of one that was trained once. Smaller ones cost less, and at some size they "
    "start to do worse."
)
CHANGE = "Change that in the form, or pick a point."
NO_SCRIPT = "Without JavaScript this page shows one model in full. All others are in the tables."
FITTED = "batches: the {} batches of inputs that what reads features was fitted on in the sweep."
BATCHES = "batches: the {} batches of training inputs that BatchNorm statistics were estimated on in the sweep."
CHANCE = "Count small differences as chance"
HELP = (
    "Scores were measured on some samples; on others they would differ by about ±. This takes the smallest of the "
    "models that are within {}± of the best, and a limit on the score has to be met with {}± to spare."
)
ERRORS = "±: one standard error, by which a number may be off by chance."
MANY = 40  # groups or rows that are not all shown at once
KEYS = "Click or tap a point, or walk along the curve with the arrow keys."


def page(title: str, sections: Iterable[Section], made: date | None = None) -> str:
    """The text of the page. Raises WidthError where a section's limits leave no point."""
    style, rules, script = (resource("surgery.curves.page", name) for name in ("page.css", "choose.js", "page.js"))
    header = tag("header", tag("h1", title), tag("p", INTRO), tag("noscript", tag("p", NO_SCRIPT)))
    body = [_section(number, section) for number, section in enumerate(sections)]
    return document(title, style, rules + script, header, tag("main", *body), footer(made))


def _section(number: int, section: Section) -> Element:
    picked = section.pick()
    return tag(
        "section",
        tag("h2", section.title) if section.title else None,
        *(tag("p", note) for note in section.notes),
        tag("p", tag("span", opening_words(section)[0], class_="asked"), " ", tag("span", CHANGE, class_="script")),
        tag("div", _figure(number, section, picked), _budget(number, section), class_="board"),
        _result(section, picked),
        tag("div", _widths(section, picked), _code(section, picked), class_="board"),
        tag(
            "details",
            tag("summary", "All points as a table"),
            *tables(section, picked),
            class_="all",
            open=len(section.curve) <= MANY,
        ),
        tag("script", facts(section, picked), type="application/json"),
        class_="model",
        aria_label=section.title or "The curve",
    )


def _figure(number: int, section: Section, picked: int) -> Element:
    choices = [
        tag(
            "label",
            tag("input", type="radio", name=f"axis-{number}", value=x, checked=x == section.measures[0]),
            COST_WORDS[x].name,
        )
        for x in section.measures
    ]
    return tag(
        "figure",
        tag("fieldset", tag("legend", f"{section.score.capitalize()} against"), *choices, class_="axes"),
        *(_chart(section, x, size, picked) for x in section.measures for size in SIZES),
        tag("div", class_="tip", hidden=True),
        legend(section),
        tag(
            "figcaption",
            tag("span", KEYS, class_="script"),
            " ",
            ERRORS if _inexact(section) else None,
            _timing(section),
        ),
        class_="plot",
    )


def _inexact(section: Section) -> bool:
    """Whether some number comes with an error."""
    return section.errors or any(point.spread for point in section.curve)


def _timing(section: Section) -> str | None:
    """How times were measured, where curves tell."""
    told = dict.fromkeys(filter(None, map(timing_words, section.curves.values())))
    return f" Time: {'; '.join(told)}." if told and "latency" in section.measures else None


def _chart(section: Section, x: str, size: str, picked: int) -> Element:
    picture = chart(section, x, size)
    picture.set("role", "img")
    picture.set("aria-label", f"{section.score} against {AXES[x][0]}")
    chosen = next(element for element in picture.iter("path") if element.get("data-point") == str(picked))
    picture.append(tag("circle", class_="ring", r=11, transform=chosen.get("transform")))
    return picture


def _budget(number: int, section: Section) -> Element:
    labels = {x: f"{COST_WORDS[x].name} at most" for x in section.measures} | {
        "score": f"Loss of {section.score} at most"
    }
    rows = [_limit(f"limit-{number}-{x}", x, labels[x], *unit) for x, unit in units(section).items()]
    if section.errors:
        rows += _luck(f"luck-{number}", section.opening().get("errors", 0))
    clear = tag("button", "No limits", type="button", class_="clear")
    return tag("form", tag("h3", "What can you afford?"), *rows, clear, class_="budget script")


def _luck(name: str, errors: float) -> list[Element]:
    """A box to tick, and what it does."""
    box = tag("input", type="checkbox", checked=bool(errors), aria_describedby=name)
    times = f"{errors:g} " if errors not in (0, 1) else ""
    said = HELP.format(times, times)
    return [tag("label", box, tag("span", CHANCE), class_="luck", title=said), tag("p", said, id=name, class_="help")]


def _limit(name: str, measure: str, label: str, unit: str, size: float) -> Element:
    entry = tag("input", type="number", id=name, min=0, step="any", placeholder="any", inputmode="decimal")
    slider = tag("input", type="range", min=0, max=100, step=1, value=100, aria_label=label)
    words = tag("span", entry, tag("span", unit, class_="unit"), class_="entry")
    return tag("div", tag("label", label, for_=name), words, slider, data_measure=measure, data_unit=repr(size))


def _result(section: Section, picked: int) -> Element:
    shown = tiles(section, section.curve[picked])
    names = [section.score.capitalize(), *(COST_WORDS[x].name for x in section.measures)]
    cells = [tile(name, value, note) for name, (value, note) in zip(names, shown, strict=True)]
    how = f"{opening_words(section)[1]}: {name_of(section, picked)}."
    return tag("div", tag("p", how, class_="how", role="status"), tag("dl", *cells), class_="result")


def _widths(section: Section, picked: int) -> Element:
    point = section.curve[picked]
    rows = [
        tag("li", tag("span", *breakable(name), class_="name"), bar(point.widths.get(name, size) / size),
            tag("span", tag("b", str(point.widths.get(name, size))), f" of {size}", class_="count"))
        for name, size in section.groups.items()
    ]  # fmt: skip
    return tag("div", tag("h3", "Its widths"), tag("ul", *rows, **_list(rows)), class_="shape")


def _list(rows: Sequence[Element]) -> dict[str, object]:
    """A long list scrolls by itself, with the keyboard too."""
    many = len(rows) > MANY
    return {"class_": "widths many" if many else "widths", "tabindex": 0 if many else None, "aria_label": "Widths"}


def _code(section: Section, picked: int) -> Element:
    parts = [
        tag("h3", "The Python that makes it"),
        tag("pre", tag("code", code(section, picked)), tabindex=0),
        tag("button", "Copy", type="button", class_="copy script"),
        tag("p", class_="same script"),
    ]
    curves = section.curves.values()
    counts = ("refit", FITTED, [c.refitted for c in curves]), ("recalibrate", BATCHES, [c.recalibrated for c in curves])
    for word, said, batches in counts:
        needs = f"{word}=batches"  # told of models whose Python has it
        if max(batches):
            hidden = needs not in code(section, picked)
            parts.append(tag("p", said.format(max(batches)), class_="remark", data_needs=needs, hidden=hidden))
    if section.load:
        parts += [tag("h3", "To load the saved model"), tag("pre", tag("code", section.load), tabindex=0)]
    return tag("div", *parts, class_="python")
