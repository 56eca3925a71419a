"""What the marks of a picture mean: each kind that occurs, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from surgery.curves.page.chart import CROSS, CROWD, mark
from surgery.curves.page.section import Section
from surgery.curves.plot import chains, places
from surgery.html.tags import tag

MODEL = "a model"
LINE = "a line leads from a model to a larger one that it is cut out of"
ERROR = "one standard error (±) each way"
RING = "the model that is shown"
UNIFORM = "the largest model of equal shares within the same budget"
OUT, BAND = "a model beyond a limit", "beyond a limit"  # those occur where the script draws limits


def legend(section: Section) -> Element:
    """A list of samples and words."""
    return tag("ul", *_items(section), class_="legend")


def _items(section: Section) -> Iterator[Element]:
    several = len(section.curves) > 1
    for series, name in enumerate(section.curves):
        line = tag("path", d="M-14 0H14") if several else None
        yield _item("curve", f"series s{series % 4}", name if several else MODEL, line, _mark(mark(series)))
    if any(len(line) > 1 for curve in section.curves.values() for line in chains(places(curve, "params"), curve)):
        yield _item("line", "series sample", LINE, tag("path", d="M-14 0H14"))
    if section.errors:
        yield _item("error", "series sample", ERROR, tag("path", class_="error", d="M0-7V7"))
    if section.uniform:
        yield _item("uniform", "series sample", UNIFORM, tag("path", class_="uniform", d=CROSS))
    yield _item("ring", "", RING, tag("circle", class_="ring", r=6))
    crowd = " crowd" if all(len(curve) > CROWD for curve in section.curves.values()) else ""
    yield _item("out", f"series sample{crowd}", OUT, _mark(mark(0), " out"), hidden=True)
    band = tag("path", d="M-14-7H14V7H-14z")
    yield _item("band", "limits", BAND, band, hidden=True)


def _mark(shape: str, out: str = "") -> Element:
    return tag("path", class_=f"mark{out}", d=shape)


def _item(kind: str, look: str, words: str, *shapes: Element | None, hidden: bool = False) -> Element:
    sample = tag("svg", tag("g", *shapes, class_=look or None), viewBox="-15 -8 30 16", aria_hidden="true")
    return tag("li", sample, tag("span", words), data_kind=kind, hidden=hidden)
