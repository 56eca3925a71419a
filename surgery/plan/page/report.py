"""A plan as a page: the numbers, the picture with its legend, and the lists."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from surgery.html.document import document, resource, write
from surgery.html.tags import tag
from surgery.plan.facts import Facts
from surgery.plan.page.blocks import Blocks
from surgery.plan.page.lists import fixed_table, groups_table, how, legend, notes, patterns, tiles
from surgery.plan.page.view import View
from surgery.plan.widths import WidthSpec

INTRO = (
    "What can change its width in this model, and what cannot. Units of a group go together: wherever its colour and "
    "name stand, the same features, channels or heads are cut."
)


def report(plan: Facts, path: str | PathLike[str], widths: WidthSpec | None = None, title: str | None = None) -> Path:
    """Write the page of a plan; see `Plan.report`."""
    return write(path, page(View(plan, None if widths is None else plan.widths(widths)), title))


def page(view: View, title: str | None = None) -> str:
    """The text of the page."""
    title = f"{view.plan.model} and its widths" if title is None else title
    style, script = (resource("surgery.plan.page", name) for name in ("page.css", "page.js"))
    search = tag(
        "p",
        tag("label", "Filter by name ", tag("input", type="search", placeholder="layers.0, *.weight, a group")),
        tag("output", role="status"),
        class_="search script",
    )
    picture = tag(
        "section",
        tag("h2", "The model"),
        how(view),
        legend(view),
        search,
        tag("div", *Blocks(view).model(), class_="flow model"),
    )
    header = tag("header", tag("h1", title), tag("p", INTRO), tiles(view))
    main = tag("main", picture, groups_table(view), fixed_table(view), notes(view))
    return document(title, style, script, header, patterns(), main)
