"""Rows as a person reads them: a header and cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from surgery.curves.points import Rows


def table(curve: Rows) -> list[list[str]]:
    """The printed table's cells, the header first. A column without a value in any row is left out."""
    cells = [[cell(curve, i) for i in range(len(curve))] for cell in COLUMNS.values()]
    kept = [[name, *column] for name, column in zip(COLUMNS, cells, strict=True) if any(column) or not column]
    first = next((name for point in curve for name in point.metrics), None)
    for name in dict.fromkeys(name for point in curve for name in point.metrics if name != first):
        kept.append([name, *(f"{point.metrics[name]:.4f}" if name in point.metrics else "" for point in curve)])
    return [list(row) for row in zip(*kept, strict=True)]


def _count(measure: str) -> Callable[[Rows, int], str]:
    return lambda curve, row: f"{getattr(curve[row], measure):,}"


def _percent(measure: str) -> Callable[[Rows, int], str]:
    def cell(curve: Rows, row: int) -> str:
        whole = curve.full[measure]
        return f"{100 * getattr(curve[row], measure) / whole:.1f} %" if whole else ""

    return cell


def _optional(attribute: str, scale: float, digits: int) -> Callable[[Rows, int], str]:
    def cell(curve: Rows, row: int) -> str:
        value = getattr(curve[row], attribute)
        return "" if value is None else f"{scale * value:.{digits}f}"

    return cell


# What a person reads: the header, and what it says about a row.
COLUMNS: dict[str, Callable[[Rows, int], str]] = {
    "row": lambda _, row: str(row),
    "fraction": _optional("fraction", 1, 4),
    "score": lambda curve, row: f"{curve[row].score:.4f}",
    "±": _optional("error", 1, 4),
    "uniform": lambda curve, row: f"{curve.uniform[row].score:.4f}" if curve.uniform else "",
    "parameters": _count("params"),
    "of full": _percent("params"),
    "MACs": _count("macs"),
    "of full ": _percent("macs"),
    "ms": _optional("latency", 1e3, 3),
    "± ms": _optional("spread", 1e3, 3),
}


def timing_note(timing: Mapping[str, str | int]) -> str:
    """What the times of a curve were measured with, in a sentence."""
    inputs, threads = timing.get("inputs"), timing.get("threads")
    on, several = f" of inputs {inputs}" if inputs else "", "s" * (threads != 1)
    device, calls = timing.get("device", "cpu"), timing.get("calls")
    return f"ms: one call{on} on {device}, {threads} CPU thread{several}, median of {calls}"
