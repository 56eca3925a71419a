"""A picture of curves: score against a cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import IO, TYPE_CHECKING

from surgery.curves.points import Point, Rows, placed
from surgery.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = {  # label, what one unit of it is, and what follows its numbers
    "params": ("parameters", 1.0, ""),
    "macs": ("multiply-adds of one call (MACs)", 1.0, ""),
    "latency": ("time of one call (ms)", 1e-3, ""),
    "bytes": ("size of the tensors (bytes)", 1.0, "B"),
}
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by colour-blind people too (Okabe and Ito)
MARKS, DASHES = "oDs^", ("-", "--", ":", "-.")
GREY, RING = "#444444", "#111111"
CEILING = 1.01  # of the axis of a share
LABELLED = 12  # points that have room for their fractions
STEPS = ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,))  # of a logarithmic axis, within ten


def plot(curve: Rows, path: str | PathLike[str] | IO[bytes], x: str = "params", *, chosen: Point | None = None) -> None:
    """Write a PNG of score against a cost, the cost on a logarithmic scale. Bars are one standard error each way.

    A line leads from each point to the next one that it is a slice of. Points of one fraction say it, if there are few.

    Args:
        path: a file name, or an open binary file.
        x: `params`, `macs`, `latency` or `bytes`.
        chosen: a point to mark.

    Raises:
        InputError: `x` is none of these, the curve is empty, latency was not measured, or matplotlib is missing.
    """
    plot_curves({"": curve}, placed(path) if isinstance(path, str | PathLike) else path, x, chosen=chosen)


def plot_curves(
    curves: Mapping[str, Rows],
    path: str | PathLike[str] | IO[bytes],
    x: str = "params",
    *,
    chosen: Point | None = None,
    score: str = "score",
) -> None:
    """Write a PNG of several named curves in one picture; arguments and errors are those of `plot`."""
    drawn = {name: places(curve, x) for name, curve in curves.items()}
    points = [point for curve in curves.values() for point in curve]
    figure = figure_class()(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, curve) in enumerate(curves.items()):
        _draw(axes, drawn[name], curve, number, name)
    if len(points) <= LABELLED and len(curves) == 1:
        _label(axes, zip(*drawn.values(), points, strict=True))
    everywhere = [place for found in drawn.values() for place in found]
    if chosen is not None and chosen in points:
        place = everywhere[points.index(chosen)]
        axes.plot([place], [chosen.score], "o", markersize=15, fillstyle="none", color=RING, label="chosen")
    if chosen is not None or len(curves) > 1:
        axes.legend(loc="lower right", frameon=False, markerscale=0.7)
    _dress(axes, x, everywhere, points, score)
    figure.savefig(path, format="png", dpi=144)


def places(curve: Rows, x: str) -> list[float]:
    """Where each point stands on the x axis, in the axis's unit. Raises InputError as `plot` does."""
    if x not in AXES:
        raise InputError(f"plot: x={x!r} is not one of {', '.join(AXES)}")
    if not len(curve):
        raise InputError("plot: the curve has no points")
    found = [getattr(point, x) for point in curve]
    if None in found:
        raise InputError("plot: x='latency' needs latencies: sweep with measure_latency=True")
    return [value / AXES[x][1] for value in found]


def figure_class() -> type[Figure]:
    """matplotlib's Figure, which draws outside pyplot: no window, no global state. Raises InputError without it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("a plot needs matplotlib: pip install 'model-surgery[plot]'") from error
    return Figure


def chains(xs: Sequence[float], points: Sequence[Point]) -> list[list[int]]:
    """Lines through the points: each leads on to the next dearer point that it is a slice of, if there is one.

    One fraction for all groups gives one line, and so do nested models; groups cut one by one give a line for each.
    """
    order = sorted(range(len(points)), key=lambda i: xs[i])
    after = {}
    for rank, i in enumerate(order):
        after[i] = next((j for j in order[rank + 1 :] if _nested(points[i], points[j])), None)
    inner = set(after.values())
    return [_follow(start, after) for start in order if start not in inner]


def _nested(small: Point, large: Point) -> bool:
    return all(large.widths.get(name, width) >= width for name, width in small.widths.items())


def _follow(start: int, after: Mapping[int, int | None]) -> list[int]:
    line, step = [start], after[start]
    while step is not None:
        line.append(step)
        step = after[step]
    return line


def _draw(axes: Axes, xs: Sequence[float], points: Sequence[Point], number: int, name: str) -> None:
    color, ys = PALETTE[number % len(PALETTE)], [point.score for point in points]
    dashes, mark = DASHES[number % len(DASHES)], MARKS[number % len(MARKS)]
    for line in chains(xs, points):
        axes.plot([xs[i] for i in line], [ys[i] for i in line], dashes, color=color)
    errors = [point.error or 0.0 for point in points]
    axes.errorbar(xs, ys, errors, fmt=mark, color=color, elinewidth=1, markersize=6, label=name)


def _label(axes: Axes, dots: Iterable[tuple[float, Point]]) -> None:
    for place, point in dots:
        if point.fraction is not None:
            told, spot = f"{point.fraction:.3g}", (place, point.score)
            axes.annotate(told, spot, (5, -13), textcoords="offset points", fontsize=8.5, color=GREY)
    axes.set_title("small numbers: the fraction of every width that is kept", fontsize=9, color=GREY, loc="left")


def _dress(axes: Axes, x: str, xs: Sequence[float], points: Sequence[Point], score: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    label, _, suffix = AXES[x]
    axes.margins(x=0.08, y=0.1)
    if min(xs) > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(log_ticks(*axes.get_xlim())))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value) + suffix))
    share = all(0 <= point.score <= 1 for point in points)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: score_label(value, share)))
    if share:
        axes.set_ylim(top=min(axes.get_ylim()[1], CEILING))
    axes.set_xlabel(label)
    axes.set_ylabel(score)
    axes.grid(color="#e3e3e3")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def log_ticks(low: float, high: float, room: float = 500) -> list[float]:
    """Ticks of a logarithmic axis between two values: as many as have room, in points of length."""
    from matplotlib.ticker import LogLocator

    decades = math.log10(high / low)
    steps = next((steps for steps in STEPS if decades * len(steps) * 50 <= room), STEPS[-1])
    return [float(tick) for tick in LogLocator(subs=steps, numticks=12).tick_values(low, high) if low <= tick <= high]


def linear_ticks(low: float, high: float) -> list[float]:
    """Ticks of a linear axis between two values."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(6, steps=(1, 2, 2.5, 5, 10))
    return [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]


def score_label(value: float, share: bool) -> str:
    """A score at a tick: `90 %` for a share."""
    return f"{100 * value:.4g} %" if share else f"{value:.4g}"


def short(value: float) -> str:
    """20000 as `20k`."""
    unit, name = next(((u, n) for u, n in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= u), (1.0, ""))
    return f"{value / unit:g}{name}"
