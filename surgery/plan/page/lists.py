"""What stands around the picture: numbers in large, the legend of kinds, the groups, what is fixed, notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from surgery.axes.layout import Unit
from surgery.html.numbers import COST_WORDS, percent
from surgery.html.tags import breakable, tag
from surgery.html.tiles import bar, tile
from surgery.plan.folding import Row, folded
from surgery.plan.groups import KINDS, Group
from surgery.plan.page.kinds import SIGNS, style_of, words
from surgery.plan.page.picture import picture
from surgery.plan.page.sides import SMALLEST
from surgery.plan.page.view import View
from surgery.plan.table import offered

NUMERIC = ("size", "kept", "step", "parameters", "MACs", "elements")
NOTES = {
    "params": "tied ones count once",
    "macs": "of the example inputs, in eval mode",
    "bytes": "of parameters and buffers",
}
MEASURES = ("params", "macs", "bytes")
HOW = (
    "A rectangle is a parameter. Its height is the first dimension and its width the second, by the logarithm of their "
    "sizes; the thickness of a slab stands for further dimensions, such as a kernel's.",
    "The band at a side, and the half of the rectangle next to it, have the colour and the name of what cuts this "
    "dimension. Grey and hatched is a dimension that nothing cuts.",
)
CUT = "What is filled is kept. What is hollow is cut away."
EXAMPLE = {"rows": Group("rows", 96, kind="ffn"), "columns": Group("columns", 64, kind="residual")}
FIXED = "Neither cut nor reordered, for the reason that the layer tells and that is listed below."


def tiles(view: View) -> Element:
    """Parameters, multiply-adds and bytes of the model, and of what is kept of it; and how much can change at all."""
    plan = view.plan
    full, now = plan.cost_model.at(plan.full()), plan.cost_model.at(view.widths)
    cells = []
    for measure in MEASURES:
        before, after, told = getattr(full, measure), getattr(now, measure), COST_WORDS[measure]
        note = NOTES[measure] if view.asked is None else f"{percent(after, before)} of {told.words(before)}"
        kept = None if view.asked is None else bar(after / (before or 1))
        cells.append(tile(told.name, told.words(after), kept, note))
    where = f"of the parameters, in {_many(len(plan.groups), 'group')}"
    cells.append(tile("Can change", _share(plan.elastic_share), where))
    return tag("div", tag("dl", *cells), class_="result")


def _share(part: float) -> str:
    """In percent; never all where it is not."""
    return f"{100 * part:.1f} %" if part == 1 or part < 0.9995 else "over 99.9 %"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("s" if number != 1 else "")


def legend(view: View) -> Element:
    """The kinds that the model has, each with its sign, its number of groups and its meaning, to tick."""
    entries = []
    for kind, meaning in KINDS.items():
        groups = [group for group in view.plan.groups.values() if group.kind == kind]
        if groups:
            parameters = COST_WORDS["params"].words(sum(group.parameters for group in groups))
            entries.append(
                _entry(kind, SIGNS[kind], f"{_many(len(groups), 'group')} · {parameters} parameters", meaning)
            )
    if view.plan.fixed:
        count = sum(item.elements for item in view.plan.fixed)
        entries.append(_entry("fixed", "", f"{count:,} parameters", FIXED))
    title = tag("legend", "What cuts a dimension", tag("small", " Tick kinds to see only these."))
    return tag("fieldset", title, *entries, class_="kinds")


def _entry(kind: str, sign: str, count: str, meaning: str) -> Element:
    colour = tag("rect", class_=f"band {style_of([kind])}", y=1, width=16, height=16, rx=3)
    text = tag("text", sign, x=30, y=13.5) if sign else None
    chip = tag("svg", colour, text, width=42, height=18, aria_hidden="true")
    box = tag("input", type="checkbox", value=kind)
    said = tag("span", tag("b", words(kind)), " ", tag("small", count), tag("br"), meaning)
    return tag("label", box, chip, said)


def how(view: View) -> Element:
    """How the picture is read, with an example."""
    dims = ((Unit(96, "rows"),), (Unit(64, "columns"),), (Unit(9),))
    widths = {} if view.asked is None else {"rows": 60, "columns": 40}
    said = [tag("p", text) for text in (*HOW, *(() if view.asked is None else (CUT,)))]
    return tag("div", picture(dims, EXAMPLE, SMALLEST, widths), tag("div", *said), class_="how")


def groups_table(view: View) -> Element:
    """The groups, repeated blocks as one row, and all of them where that hides some."""
    cut = view.asked is not None
    names = ("group", "kind", "size", *(("kept",) if cut else ()), "step", "parameters", "MACs")
    rows: list[Row] = []
    for g in view.plan.groups.values():
        kept = (f"{view.widths[g.name]:,}",) if cut else ()
        rows.append((g.name, g.kind, f"{g.size:,}", *kept, f"{g.granularity}", f"{g.parameters:,}", f"{g.macs:,}"))
    remark = "Groups overlap, since a weight has rows and columns: their parameters add up to more than the model's."
    ties = [tag("p", f"Tied, so that they have one fraction of their sizes: {', '.join(tie.groups)}.", class_="remark")
            for tie in view.plan.ties if len(tie.groups) > 1]  # fmt: skip
    return tag("section", tag("h2", "The groups"), tag("p", remark, class_="remark"), *ties, *_table(names, rows))


def fixed_table(view: View) -> Element:
    """What is fixed, and why."""
    rows: list[Row] = [(item.tensor, f"{item.elements:,}", item.reason) for item in view.plan.fixed]
    body = [*_table(("parameter", "elements", "reason"), rows)] if rows else [tag("p", "Nothing.", class_="remark")]
    return tag("section", tag("h2", "What is fixed"), *body)


def notes(view: View) -> Element | None:
    """What the plan has to say beyond its tables."""
    paths = folded([(path,) for path in sorted(view.plan.rewrites)])
    said = [f"The forward of {path or 'the model itself'} is rewritten: its code holds sizes that must follow."
            for (path,) in paths]  # fmt: skip
    said += [f"Not asked for, but available: {line}." for line in offered(view.plan)]
    items = [tag("li", text) for text in (*said, *view.plan.notes)]
    return tag("section", tag("h2", "Notes"), tag("ul", *items)) if items else None


def _table(names: Sequence[str], rows: Sequence[Row]) -> Iterator[Element]:
    short = folded(rows)
    yield _rows(names, short)
    if len(short) < len(rows):
        summary = tag("summary", f"All {len(rows):,}, a row for each of the blocks that are alike")
        yield tag("details", summary, _rows(names, rows), class_="all")


def _rows(names: Sequence[str], rows: Sequence[Row]) -> Element:
    head = tag("tr", *(tag("th", name, scope="col", class_=_side(name)) for name in names))
    lines = []
    for row in rows:
        kind = row[1] if names[1] == "kind" else "fixed"
        cells = [tag("td", *_cell(name, cell), class_=_side(name)) for name, cell in zip(names, row, strict=True)]
        lines.append(tag("tr", *cells, class_=style_of([kind])))
    table = tag("table", tag("thead", head), tag("tbody", *lines))
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label=f"{names[0]}s")


def _cell(name: str, cell: str) -> Iterator[Element | str]:
    if name == "kind":
        yield tag("svg", tag("rect", class_=f"band {style_of([cell])}", width=12, height=12, rx=2), width=12, height=12,
                  aria_hidden="true")  # fmt: skip
        yield f" {words(cell)}"
    else:
        yield from breakable(cell) if name in ("group", "parameter") else (cell,)


def _side(name: str) -> str | None:
    """Numbers stand at the right, names and reasons at the left."""
    return None if name in NUMERIC else "left"


def patterns() -> Element:
    """The pattern of what is fixed, which all pictures refer to."""
    lines = tag("path", d="M0 0V7", class_="line")
    pattern = tag("pattern", tag("rect", width=7, height=7, class_="ground"), lines, id="hatch", width=7, height=7,
                  patternUnits="userSpaceOnUse", patternTransform="rotate(45)")  # fmt: skip
    return tag("svg", tag("defs", pattern), width=0, height=0, class_="patterns", aria_hidden="true")
