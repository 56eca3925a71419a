"""The picture of a section as SVG. matplotlib chooses the ticks, as in a PNG; the style sheet gives the looks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from surgery.curves.page.section import Section
from surgery.curves.plot import AXES, CEILING, chains, linear_ticks, log_ticks, places, score_label, short
from surgery.curves.points import Point, Rows
from surgery.html.tags import tag

SIZES = {"wide": (660, 400), "narrow": (330, 290)}  # for a desk and for a phone
LETTER, LINE = 7, 20  # about the room that a letter takes, and a line of text
MARKS = (  # a circle, a diamond, a square and a triangle around the origin, and smaller ones for a crowd
    ("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z", "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0-4 0z"),
    ("M0-6.5L6.5 0L0 6.5L-6.5 0z", "M0-3L3 0L0 3L-3 0z"),
    ("M-5-5H5V5H-5z", "M-2-2H2V2H-2z"),
    ("M0-6L6 5H-6z", "M0-3L3 2H-3z"),
)
CROSS = "M-4-4L4 4M-4 4L4-4"  # a uniform model that a searched one is compared with
CROWD = 40  # points of a curve that have no room for large marks


@dataclass(frozen=True)
class Scale:
    """Where values stand along one side of the picture.

    Attributes:
        low, high: the values at its ends.
        start, end: the places of its ends.
        log: places go with the logarithm of values.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        low, high, value = map(math.log, (self.low, self.high, value)) if self.log else (self.low, self.high, value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)


@dataclass(frozen=True)
class Frame:
    """The two scales of a picture, and its labels."""

    across: Scale
    up: Scale
    label: str
    title: str
    suffix: str
    share: bool

    def spot(self, place: float, score: float) -> tuple[float, float]:
        return self.across.at(place), self.up.at(score)


def chart(section: Section, x: str, size: str) -> Element:
    """One picture: an `svg` with the frame, lines, error bars, and a mark for every point of the section.

    What a script needs to find places is in attributes: `data-box` (left, top, right, bottom), `data-x` and `data-y`
    (the values at these edges, costs in the measure's own unit), `data-log`. A mark has the number of its point.
    """
    frame = _frame(section, x, size)
    across, up, unit = frame.across, frame.up, AXES[x][1]
    picture = tag(
        "svg",
        tag("g", *_grid(frame), class_="frame"),
        tag("g", tag("path"), class_="limits"),
        viewBox="0 0 {} {}".format(*SIZES[size]),
        class_=f"chart {size}",
        data_axis=x,
        data_box=f"{across.start:g} {up.end:g} {across.end:g} {up.start:g}",
        data_x=f"{across.low * unit!r} {across.high * unit!r}",
        data_y=f"{up.low!r} {up.high!r}",
        data_log=int(across.log),
    )
    start = 0
    for series, curve in enumerate(section.curves.values()):
        picture.append(_series(curve, x, frame, series, start))
        start += len(curve)
    return picture


def mark(series: int, points: int = 0) -> str:
    """The path of a curve's mark, which depends on how many points it has."""
    return MARKS[series % len(MARKS)][points > CROWD]


def _frame(section: Section, x: str, size: str) -> Frame:
    width, height = SIZES[size]
    xs = [*places(section.curve, x), *(place for place, _ in _uniform(section.uniform, x))]
    spans = [point.score + s * (point.error or 0.0) for s in (-1, 1) for point in section.curve]
    spans += [point.score for point in section.uniform]
    low, high = _padded(min(spans), max(spans), 0.08)
    high = min(high, CEILING) if section.share else high
    labels = [score_label(value, section.share) for value in linear_ticks(low, high)]
    left = LINE + 6 + LETTER * max(map(len, labels), default=0)
    up = Scale(low, high, height - 2.4 * LINE, 8.0)
    across = Scale(*_edges(xs), start=left, end=width - 10.0, log=min(xs) > 0)
    return Frame(across, up, AXES[x][0], section.score, AXES[x][2], section.share)


def _uniform(points: Sequence[Point], x: str) -> list[tuple[float, Point]]:
    """Where uniform models stand along the cost axis; one whose time is not known stands nowhere."""
    costs = [(getattr(point, x), point) for point in points]
    return [(cost / AXES[x][1], point) for cost, point in costs if cost is not None]


def _edges(xs: Sequence[float]) -> tuple[float, float]:
    """The ends of the cost axis, with some room around the points."""
    if min(xs) <= 0:
        return _padded(min(xs), max(xs), 0.07)
    low, high = _padded(math.log(min(xs)), math.log(max(xs)), 0.07)
    return math.exp(low), math.exp(high)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    room = share * (high - low) or share * abs(high) or share
    return low - room, high + room


def _grid(frame: Frame) -> Iterator[Element]:
    """Lines at the ticks with their numbers, and the names of both sides."""
    across, up = frame.across, frame.up
    ticks = (
        log_ticks(across.low, across.high, across.end - across.start)
        if across.log
        else linear_ticks(across.low, across.high)
    )
    for value in ticks:
        yield tag("path", d=f"M{across.at(value):.1f} {up.end:g}V{up.start:g}")
        yield _text(across.at(value), up.start + 16, short(value) + frame.suffix)
    for value in linear_ticks(up.low, up.high):
        yield tag("path", d=f"M{across.start:g} {up.at(value):.1f}H{across.end:g}")
        yield _text(across.start - 6, up.at(value) + 4, score_label(value, frame.share), text_anchor="end")
    middle = (up.start + up.end) / 2
    yield _text((across.start + across.end) / 2, up.start + 36, frame.label)
    yield _text(12, middle, frame.title, transform=f"rotate(-90 12 {middle:g})")


def _text(x: float, y: float, words: str, text_anchor: str = "middle", **attributes: str) -> Element:
    return tag("text", words, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=text_anchor, **attributes)


def _series(curve: Rows, x: str, frame: Frame, series: int, start: int) -> Element:
    xs = places(curve, x)
    spots = [frame.spot(place, point.score) for place, point in zip(xs, curve, strict=True)]
    shape, crowd = mark(series, len(curve)), " crowd" if len(curve) > CROWD else ""
    group = tag("g", class_=f"series s{series % len(MARKS)}{crowd}")
    for line in chains(xs, curve):
        group.append(tag("polyline", points=" ".join(_pair(spots[i]) for i in line)))
    for (across, _), point in zip(spots, curve, strict=True):
        if point.error:
            low, high = (frame.up.at(point.score + s * point.error) for s in (-1, 1))
            group.append(tag("path", class_="error", d=f"M{across:.1f} {low:.1f}V{high:.1f}"))
    for place, point in _uniform(curve.uniform, x):
        at = f"translate({_pair(frame.spot(place, point.score))})"
        group.append(tag("path", class_="uniform", d=CROSS, transform=at))
    for i, spot in enumerate(spots):
        at = f"translate({_pair(spot)})"
        group.append(tag("path", class_="mark", d=shape, transform=at, data_point=start + i))
    return group


def _pair(spot: tuple[float, float]) -> str:
    return f"{spot[0]:.1f} {spot[1]:.1f}"
