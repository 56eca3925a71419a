"""Rows as a person reads them: a header and cells."""

from __future__ import annotations

from collections.abc import Callable

from surgery.curves.points import Rows


def table(curve: Rows) -> list[list[str]]:
    """The printed table's cells, the header first. A column without a value in any row is left out."""
    cells = [[cell(curve, i) for i in range(len(curve))] for cell in COLUMNS.values()]
    kept = [[name, *column] for name, column in zip(COLUMNS, cells, strict=True) if any(column) or not column]
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
}
