"""All points of a section as tables, with what is to be said of them."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from surgery.curves.inversions import inversion_notes
from surgery.curves.page.section import Section
from surgery.curves.page.words import budget_words, timing_words
from surgery.curves.points import Rows
from surgery.curves.table import table
from surgery.html.tags import tag


def tables(section: Section, picked: int) -> Iterator[Element]:
    """A table for each curve, and its remarks below."""
    start = 0
    for name, curve in section.curves.items():
        header, *rows = _cells(curve)
        lines = [
            tag(
                "tr",
                *(tag("td", cell) for cell in row),
                data_point=start + i,
                class_="on" if start + i == picked else None,
            )
            for i, row in enumerate(rows)
        ]
        head = tag("thead", tag("tr", *(tag("th", cell.strip(), scope="col") for cell in header)))
        caption = tag("caption", name) if len(section.curves) > 1 else None
        yield tag("div", tag("table", caption, head, tag("tbody", *lines)), class_="scroll")
        yield from (tag("p", remark, class_="remark") for remark in _remarks(curve))
        start += len(curve)


def _cells(curve: Rows) -> list[list[str]]:
    """The printed table; the rows of a search say what they were searched for."""
    rows = table(curve)
    if not curve.uniform:
        return rows
    told = ["budget", *(budget_words(curve, point) for point in curve)]
    return [[row[0], words, *row[1:]] for row, words in zip(rows, told, strict=True)]


def _remarks(curve: Rows) -> Iterator[str]:
    timed = timing_words(curve)
    if timed:
        yield f"ms: {timed}."
    yield from curve.notes
    yield from inversion_notes(curve)
