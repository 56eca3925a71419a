"""What a sweep found: rows of widths, score and cost, to print, to keep, and to choose from."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from surgery.curves.choose import choose
from surgery.curves.inversions import inversion_notes, latency_inversions
from surgery.curves.page.report import report
from surgery.curves.plot import plot
from surgery.curves.points import MEASURES, AnyPath, Point, Rows
from surgery.curves.score import Score
from surgery.curves.surrogate import Surrogate, at, surrogate_of
from surgery.errors import FileError

FORMAT = "surgery.curve/2"
READ = ("surgery.curve/1", FORMAT)  # the first had neither errors nor sizes


@dataclass(frozen=True, repr=False)
class Curve(Rows):
    """What a sweep found: rows to print, to choose from, to draw and to keep. Printed, it is a table."""

    choose = choose
    plot = plot
    report = report
    slower = latency_inversions

    def at(self, fraction: float) -> Score:
        """The score that the uniform model of a fraction would have, and its standard error, from the rows.

        Raises:
            InputError: fewer than two rows have a fraction, or `fraction` lies outside of them.
        """
        return at(self.surrogate, fraction)

    @functools.cached_property
    def surrogate(self) -> Surrogate:
        """What the rows with fractions say about all fractions."""
        return surrogate_of(self.points)

    def table(self) -> list[list[str]]:
        """The printed table's cells, the header first. A column without a value in any row is left out."""
        cells = [[cell(self, i) for i in range(len(self))] for cell in COLUMNS.values()]
        kept = [[name, *column] for name, column in zip(COLUMNS, cells, strict=True) if any(column) or not column]
        return [list(row) for row in zip(*kept, strict=True)]

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(lines + [*self.notes, *inversion_notes(self)])

    __repr__ = __str__

    def to_json(self, path: AnyPath) -> None:
        """Write everything; `Curve.from_json` reads it back."""
        document = (
            {"format": FORMAT}
            | {name: getattr(self, name) for name in HEADER}
            | {
                "points": [asdict(point) for point in self],
                "uniform": [asdict(point) for point in self.uniform],
            }
        )
        Path(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls, path: AnyPath) -> Curve:
        """The curve that `to_json` wrote.

        Raises:
            FileError: the file is missing, is not JSON, or is not a curve.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise FileError(f"{path}: cannot be read as JSON ({error}): Curve.to_json writes such files") from error
        try:
            return _read(document)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise FileError(f"{path}: is not a curve ({error!r}): Curve.to_json writes such files") from error


def _read(document: Any) -> Curve:
    """A curve from its JSON. Raises TypeError, KeyError, ValueError or AttributeError for anything else."""
    if document["format"] not in READ:
        raise ValueError(f"its format is {document['format']!r}, this version reads {', '.join(map(repr, READ))}")
    full = {name: int(_number(document["full"][name])) for name in MEASURES}
    points = tuple(_point(row) for row in document["points"])
    known = {"sizes": _sizes(points, full)} | document
    header = {name: read(known[name]) for name, read in HEADER.items() if name in known and name != "full"}
    return Curve(points, full, uniform=tuple(_point(row) for row in document.get("uniform", ())), **header)


def _point(row: dict[str, Any]) -> Point:
    """A point of a file. Raises ValueError where it holds something else than numbers."""
    point = Point(**row)
    optional = (point.latency, point.fraction, point.error, point.spread)
    numbers = (point.score, *(getattr(point, name) for name in MEASURES), *point.widths.values())
    for value in (*numbers, *(value for value in optional if value is not None)):
        _number(value)
    if point.fraction is not None and point.fraction <= 0:
        raise ValueError(f"the fraction {point.fraction!r} is not above 0")
    return point


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value


# What a file says about the whole curve, and how it is read.
HEADER: dict[str, Callable[[Any], Any]] = {
    "plan_fingerprint": str,
    "full": dict,
    "sizes": lambda value: {str(name): int(_number(size)) for name, size in value.items()},
    "timing": dict,
    "weights": str,
    "recalibrated": lambda value: int(_number(value)),
    "statistics": str,
    "precision": lambda value: None if value is None else _number(value),
    "notes": lambda value: tuple(map(str, value)),
}


def _sizes(points: Sequence[Point], full: Mapping[str, int]) -> dict[str, int]:
    """The full widths for a file that does not tell them: those of the point that costs as much as the full model."""
    return next((point.widths for point in points if all(getattr(point, name) == full[name] for name in MEASURES)), {})


def _count(measure: str) -> Callable[[Curve, int], str]:
    return lambda curve, row: f"{getattr(curve[row], measure):,}"


def _percent(measure: str) -> Callable[[Curve, int], str]:
    def cell(curve: Curve, row: int) -> str:
        whole = curve.full[measure]
        return f"{100 * getattr(curve[row], measure) / whole:.1f} %" if whole else ""

    return cell


def _optional(attribute: str, scale: float, digits: int) -> Callable[[Curve, int], str]:
    def cell(curve: Curve, row: int) -> str:
        value = getattr(curve[row], attribute)
        return "" if value is None else f"{scale * value:.{digits}f}"

    return cell


# What a person reads: the header, and what it says about a row.
COLUMNS: dict[str, Callable[[Curve, int], str]] = {
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
