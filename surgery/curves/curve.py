"""What a sweep found: rows of widths, score and cost, to print, to keep, and to choose from."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from surgery.curves.choose import choose
from surgery.curves.inversions import inversion_notes, latency_inversions
from surgery.curves.page.report import report
from surgery.curves.plot import plot
from surgery.curves.points import MEASURES, AnyPath, Full, Point, Rows, placed
from surgery.curves.score import Score
from surgery.curves.surrogate import Surrogate, at, surrogate_of
from surgery.curves.table import table, timing_note
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
    table = table

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

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        timed = [timing_note(self.timing)] if self.timing and any(point.latency for point in self) else []
        return "\n".join(lines + [*timed, *self.notes, *inversion_notes(self)])

    __repr__ = __str__

    def to_json(self, path: AnyPath) -> None:
        """Write everything; `Curve.from_json` reads it back."""
        document = (
            {"format": FORMAT}
            | {name: getattr(self, name) for name in HEADER if name != "base"}
            | {
                "points": [asdict(point) for point in self],
                "uniform": [asdict(point) for point in self.uniform],
                "base": None if self.base is None else asdict(self.base),
            }
        )
        placed(path).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

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


def _read(document: object) -> Curve:
    """A curve from its JSON. Raises TypeError, KeyError, ValueError or AttributeError for anything else."""
    found = _fields(document)
    if found["format"] not in READ:
        raise ValueError(f"its format is {found['format']!r}, this version reads {', '.join(map(repr, READ))}")
    full = {name: int(_number(found["full"][name])) for name in MEASURES}
    points, uniform = (tuple(map(_point, rows)) for rows in (found["points"], found.get("uniform", ())))
    known = {"sizes": _sizes(points, full)} | found
    header = {name: read(known[name]) for name, read in HEADER.items() if name in known and name != "full"}
    return replace(Curve(points, Full(full), uniform=uniform), **header)


def _fields(value: object) -> dict[str, Any]:
    """What an object of a JSON file holds: anything that JSON can say."""
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} is not an object")
    return value


def _point(value: object) -> Point:
    """A point of a file. Raises ValueError where it holds something else than numbers."""
    point = Point(**_fields(value))
    optional = (point.latency, point.fraction, point.error, point.spread)
    numbers = (point.score, *(getattr(point, name) for name in MEASURES), *point.widths.values())
    for number in (*numbers, *(number for number in optional if number is not None)):
        _number(number)
    for name, metric in point.metrics.items():
        if not isinstance(name, str) or isinstance(metric, bool) or not isinstance(metric, int | float):
            raise ValueError(f"the metric {name!r} is {metric!r}, which is no number")
    if point.fraction is not None and point.fraction <= 0:
        raise ValueError(f"the fraction {point.fraction!r} is not above 0")
    return point


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return value


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is not a list")
    return value


# What a file says about the whole curve, and how it is read.
HEADER: dict[str, Callable[[object], Any]] = {
    "plan_fingerprint": str,
    "full": _fields,
    "sizes": lambda value: {name: int(_number(size)) for name, size in _fields(value).items()},
    "orders": lambda value: {name: [int(_number(unit)) for unit in _list(o)] for name, o in _fields(value).items()},
    "timing": _fields,
    "weights": str,
    "recalibrated": lambda value: int(_number(value)),
    "refitted": lambda value: int(_number(value)),
    "statistics": str,
    "precision": lambda value: None if value is None else _number(value),
    "multiple": lambda value: int(_number(value)),
    "base": lambda value: None if value is None else _point(value),
    "notes": lambda value: tuple(map(str, _list(value))),
}


def _sizes(points: Sequence[Point], full: Mapping[str, int]) -> dict[str, int]:
    """The full widths for a file that does not tell them: those of the point that costs as much as the full model."""
    return next((point.widths for point in points if all(getattr(point, name) == full[name] for name in MEASURES)), {})
