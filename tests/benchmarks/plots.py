"""The plots of the benchmarks: small PNGs with lines, and error bars where there are errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

Points = Sequence[tuple[float, float, float]]  # x, y, standard deviation or error of y


def lines(path: Path, series: Mapping[str, Points], x: str, y: str, title: str, bend: float | None = None) -> None:
    """Write a PNG with one line for each name; x is a share of the full size, on a logarithmic axis.

    Args:
        bend: beyond it the y axis is logarithmic, where lines differ by orders of magnitude. The label says so.
    """
    figure = Figure(figsize=(6.4, 4.2), dpi=100, layout="constrained")
    axes = figure.subplots()
    for (name, points), marker in zip(series.items(), "osD^vP", strict=False):
        xs, ys, errors = zip(*sorted(points), strict=True)
        axes.errorbar(xs, ys, errors, label=name, marker=marker, markersize=4, linewidth=1.4, capsize=2)
    axes.set_xscale("log", base=2)
    ticks = sorted({point[0] for points in series.values() for point in points})
    axes.set_xticks(ticks, [f"{100 * tick:.3g} %" for tick in ticks], fontsize=8)
    axes.minorticks_off()
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
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)  # covers no line
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
