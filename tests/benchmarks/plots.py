"""The plots of the benchmarks: small PNGs with lines, and error bars where there are errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKERS = "osD^vPX*<>"
Points = Sequence[tuple[float, float, float]]  # x, y, standard deviation or error of y


def lines(path: Path, series: Mapping[str, Points], x: str, y: str, title: str, bend: float | None = None) -> None:
    """Write a PNG with one line for each name; x is a share of the full size, on a logarithmic axis.

    Args:
        bend: beyond it the y axis is logarithmic, where lines differ by orders of magnitude. The label says so.
    """
    figure = Figure(figsize=(6.4, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    _draw(axes, series)
    axes.set(xlabel=x, ylabel=y, title=title)
    low, high = axes.get_ylim()
    if bend is not None:
        axes.set_yscale("symlog", linthresh=bend, subs=(2, 5))
        axes.set_ylabel(f"{y}\n(logarithmic above {bend:g})")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=8)
    if low < 0 < high:  # differences: above or below what they are compared with
        axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(alpha=0.3, which="both")
    _legend(figure)
    save(figure, path)


def panels(path: Path, drawn: Mapping[str, Mapping[str, Points]], x: str, y: str, title: str, depth: float) -> None:
    """Write a PNG with a panel for each name, two in a row; lines of one name look alike in all.

    Args:
        depth: how far below the best value of a panel its axis goes.
    """
    columns = min(2, len(drawn))
    rows = math.ceil(len(drawn) / columns)
    figure = Figure(figsize=(max(7.6, 1.2 + 4.8 * columns), 0.9 + 3.4 * rows), dpi=100, layout="constrained")
    every = figure.subplots(rows, columns, squeeze=False).flatten()
    names = list(dict.fromkeys(name for series in drawn.values() for name in series))
    for axes, (name, series) in zip(every, drawn.items(), strict=False):
        _draw(axes, series, names)
        best = max(value for points in series.values() for _, value, _ in points)
        axes.set_ylim(best - depth, best + 0.05 * depth)
        axes.set(xlabel=x, ylabel=y, title=name)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    pairs = [zip(*axes.get_legend_handles_labels(), strict=True) for axes in every]
    handles = {label: handle for of in pairs for handle, label in of}
    _legend(figure, handles=list(handles.values()), labels=list(handles))
    save(figure, path)


def _draw(axes: Axes, series: Mapping[str, Points], names: Sequence[str] = ()) -> None:
    """Lines with error bars, over shares on a logarithmic axis; colours and markers by the place in `names`."""
    for name, points in series.items():
        xs, ys, errors = zip(*sorted(points), strict=True)
        at = list(names or series).index(name)
        axes.errorbar(
            xs, ys, errors, label=name, color=f"C{at}", marker=MARKERS[at], markersize=4, linewidth=1.4, capsize=2
        )
    axes.set_xscale("log", base=2)
    apart: list[float] = []
    for tick in sorted({point[0] for points in series.values() for point in points}, reverse=True):
        if not apart or apart[-1] / tick > 1.25:  # else their labels would touch
            apart.append(tick)
    axes.set_xticks(apart, [f"{100 * tick:.3g} %" for tick in apart], fontsize=8)
    axes.minorticks_off()


def _legend(figure: Figure, **given: Any) -> None:
    """Below, where it covers no line."""
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False, **given)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG that is the same for the same figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
