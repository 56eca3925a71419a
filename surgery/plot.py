"""A picture of a curve."""

from __future__ import annotations

from os import PathLike
from typing import IO, TYPE_CHECKING, Any

from surgery.errors import InputError

if TYPE_CHECKING:
    from surgery.curve import Curve, Point

AXES = {  # label, and what one unit of it is
    "params": ("parameters", 1.0),
    "macs": ("multiply-adds of one call (MACs)", 1.0),
    "latency": ("time of one call (ms)", 1e-3),
    "bytes": ("size of the tensors (bytes)", 1.0),
}
BLUE, ORANGE, GREY = "#1f5f99", "#c8540a", "#444444"


def plot(
    curve: Curve, path: str | PathLike[str] | IO[bytes], x: str = "params", *, chosen: Point | None = None
) -> None:
    """Write a PNG of score against a cost, the cost on a logarithmic scale.

    Points of one fraction are joined and say their fraction; points of other widths are diamonds.

    Args:
        path: a file name, or an open binary file.
        x: `params`, `macs`, `latency` or `bytes`.
        chosen: a point to mark.

    Raises:
        InputError: `x` is none of these, the curve is empty, latency was not measured, or matplotlib is missing.
    """
    places = _places(curve, x)
    figure = figure_class()(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, [(place, point) for place, point in zip(places, curve, strict=True)])
    if chosen is not None and chosen in curve:
        place = places[curve.index(chosen)]
        axes.plot([place], [chosen.score], "o", markersize=15, fillstyle="none", color=ORANGE, label="chosen")
        axes.legend(loc="lower right", frameon=False, markerscale=0.7)
    _dress(axes, x, places, [point.score for point in curve])
    figure.savefig(path, format="png", dpi=144)


def _places(curve: Curve, x: str) -> list[float]:
    """Where each point stands on the x axis, in the axis's unit."""
    if x not in AXES:
        raise InputError(f"plot: x={x!r} is not one of {', '.join(AXES)}")
    if not len(curve):
        raise InputError("plot: the curve has no points")
    found = [getattr(point, x) for point in curve]
    if None in found:
        raise InputError("plot: x='latency' needs latencies: sweep with measure_latency=True")
    return [value / AXES[x][1] for value in found]


def figure_class() -> Any:
    """matplotlib's Figure, which draws outside pyplot: no window, no global state. Raises InputError without it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("a plot needs matplotlib: pip install 'model-surgery[plot]'") from error
    return Figure


def _draw(axes: Any, dots: list[tuple[float, Point]]) -> None:
    uniform = sorted((place, p.score, p.fraction) for place, p in dots if p.fraction is not None)
    others = [(place, p.score) for place, p in dots if p.fraction is None]
    if uniform:
        axes.plot(*list(zip(*uniform, strict=True))[:2], "o-", color=BLUE, markersize=6)
    if others:
        axes.plot(*zip(*others, strict=True), "D", color=BLUE, markersize=6, fillstyle="none")
    for place, score, fraction in uniform:
        style = {"textcoords": "offset points", "fontsize": 8.5, "color": GREY}
        axes.annotate(f"{fraction:.3g}", (place, score), (5, -13), **style)


def _dress(axes: Any, x: str, places: list[float], scores: list[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    wide = max(places) > 30 * min(places)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if wide else (1, 1.5, 2, 3, 5, 7)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if all(0 <= score <= 1 for score in scores):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_title("small numbers: the fraction of every width that is kept", fontsize=9, color=GREY, loc="left")
    axes.set_xlabel(AXES[x][0])
    axes.set_ylabel("score")
    axes.margins(x=0.08, y=0.1)
    axes.grid(color="#e3e3e3")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _short(value: float) -> str:
    """20000 as `20k`."""
    unit, name = next(((u, n) for u, n in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= u), (1.0, ""))
    return f"{value / unit:g}{name}"
