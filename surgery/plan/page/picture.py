"""A tensor as SVG: a rectangle with a band along each side, whose colours are the kinds of the groups that cut it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.html.tags import tag
from surgery.plan.groups import Group
from surgery.plan.page.kinds import label, style_of
from surgery.plan.page.sides import LEAST, Side, Span, Stretch, side

LABEL, BAND, BAR = 14.0, 9.0, 14.0  # the room of a label, a band along a side, the width of a vector
LEFT = TOP = LABEL + BAND


def picture(
    dims: Sequence[Layout],
    groups: Mapping[str, Group],
    largest: int,
    widths: Mapping[str, int],
    tall: bool = False,
    gone: bool = False,
) -> Element:
    """One tensor.

    Args:
        dims: its dimensions. Two are drawn as sides, the others as depth.
        groups: those of the plan.
        largest: the largest dimension of all pictures, for the scale.
        widths: what is kept; groups that are left out are full.
        tall: leave room above, so that a vector stands beside matrices.
        gone: all of it is left out.
    """
    places = _drawn(dims)
    sides = [side(dims[place], largest, widths) for place in places]
    rows, columns = (sides + [None, None])[:2]
    height = rows.length if rows else LEAST
    across = columns.length if columns else BAR
    deep = _depth(math.prod(layout.width(dim, {}) for place, dim in enumerate(dims) if place not in places))
    top = TOP if columns or tall else 2.0
    if rows and columns:
        body = [*_half(rows, across, groups, upright=True), *_half(columns, height, groups, upright=False)]
    else:
        body = [*_vector(rows, height, groups)]
    away = _all_hollow(across, height, bool(columns)) if gone else _hollow(rows, columns, across, height)
    inside = [*_extruded(across, height, deep), *body, away, _outline(across, height)]
    full_width, full_height = LEFT + across + deep + 1, top + height + deep + 1
    return tag(
        "svg",
        tag("g", *inside, transform=f"translate({LEFT:g} {top:g})"),
        width=f"{full_width:g}",
        height=f"{full_height:g}",
        viewBox=f"0 0 {full_width:g} {full_height:g}",
        aria_hidden="true",
    )


def _drawn(dims: Sequence[Layout]) -> list[int]:
    """The dimensions that are sides: the last two that groups cut, else the first ones that are larger than one."""
    cut = [place for place, dim in enumerate(dims) if any(layout.groups(dim))][-2:]
    others = [place for place, dim in enumerate(dims) if place not in cut and layout.width(dim, {}) > 1]
    return sorted([*cut, *others[: 2 - len(cut)]])


def _depth(size: int) -> float:
    return round(min(2 + 1.6 * math.log2(size), 12.0), 1) if size > 1 else 0.0


def _half(along: Side, across: float, groups: Mapping[str, Group], upright: bool) -> Iterator[Element]:
    """The half of a body that lies at a side, up to the diagonal, and the side's band with its labels.

    Everything is in pairs (from the side inwards, along the side), which change places where the side lies on top.
    """
    for item, kinds in _kinds(along.stretches, groups):
        a, b = item.start * along.length, item.end * along.length
        for kind, (low, high) in kinds:
            ends = [(share * across, place) for share, place in ((item.start, a), (item.end, b))]
            wedge = [(low * x, y) for x, y in ends] + [(high * x, y) for x, y in reversed(ends)]
            band = [(BAND * (x - 1), y) for x, y in ((low, a), (low, b), (high, b), (high, a))]
            for class_, corners in (("half", wedge), ("band", band)):
                yield _shape(corners if upright else [(y, x) for x, y in corners], class_, kind)
        yield from _text(item, along, groups, upright)


def _vector(rows: Side | None, height: float, groups: Mapping[str, Group]) -> Iterator[Element]:
    """A bar that is one band; grey for a number alone."""
    if rows is None:
        yield _shape([(0, 0), (BAR, 0), (BAR, height), (0, height)], "band", "fixed")
        return
    for item, kinds in _kinds(rows.stretches, groups):
        a, b = item.start * height, item.end * height
        for kind, (low, high) in kinds:
            corners = [(low * BAR, a), (high * BAR, a), (high * BAR, b), (low * BAR, b)]
            yield _shape(corners, "band", kind)
        yield from _text(item, rows, groups, upright=True, away=0.0)


def _kinds(
    stretches: Sequence[Stretch], groups: Mapping[str, Group]
) -> Iterator[tuple[Stretch, list[tuple[str, Span]]]]:
    """Each stretch with its kinds, and the share of a band's thickness that each of them has, outermost first."""
    for item in stretches:
        kinds = [groups[name].kind for name in item.groups] or ["fixed"]
        yield item, [(kind, (i / len(kinds), (i + 1) / len(kinds))) for i, kind in enumerate(kinds)]


def _extruded(w: float, h: float, deep: float) -> Iterator[Element]:
    """The two faces that show that there are further dimensions, such as those of a kernel."""
    if deep:
        yield tag("path", class_="deep", d=f"M{w:g} 0l{deep:g} {deep:g}v{h:g}l{-deep:g} {-deep:g}zM0 {h:g}h{w:g}"
                                           f"l{deep:g} {deep:g}h{-w:g}z")  # fmt: skip


def _hollow(rows: Side | None, columns: Side | None, w: float, h: float) -> Element | None:
    """What is cut away, laid over the body and the bands."""
    band = BAND if columns else 0.0
    strips = [f"M{-band:g} {a * h:.4g}H{w:g}V{b * h:.4g}H{-band:g}z" for a, b in (rows.gaps if rows else ())]
    strips += [f"M{a * w:.4g} {-BAND:g}H{b * w:.4g}V{h:g}H{a * w:.4g}z" for a, b in (columns.gaps if columns else ())]
    return tag("path", class_="hollow", d="".join(strips)) if strips else None


def _all_hollow(w: float, h: float, columns: bool) -> Element:
    """What lies over a tensor that is left out."""
    return tag("path", class_="hollow", d=f"M{-BAND if columns else 0:g} {-BAND if columns else 0:g}H{w:g}V{h:g}H"
                                          f"{-BAND if columns else 0:g}z")  # fmt: skip


def _outline(w: float, h: float) -> Element:
    return tag("path", class_="outline", d=f"M0 0H{w:g}V{h:g}H0z")


def _text(
    item: Stretch, along: Side, groups: Mapping[str, Group], upright: bool, away: float = BAND
) -> Iterator[Element]:
    """The label of a stretch, beside its band: to read from below where the side is upright."""
    room, middle = (item.end - item.start) * along.length + 6, (item.start + item.end) / 2 * along.length
    text = label(item.groups, groups, round((item.end - item.start) * along.size), room)
    if text:
        at = (
            f"translate({-away - 4:g} {middle:.4g}) rotate(-90)"
            if upright
            else f"translate({middle:.4g} {-away - 4:g})"
        )
        yield tag("text", text, transform=at)


def _shape(corners: Iterable[tuple[float, float]], class_: str, kind: str) -> Element:
    points = "L".join(f"{x:.4g} {y:.4g}" for x, y in corners)
    return tag("path", class_=f"{class_} {style_of([kind])}", d=f"M{points}z")
