"""What a sweep found: rows of widths, score and cost, to print, to keep, and to choose from."""

from __future__ import annotations

import csv
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, overload

from surgery.curves.belief import Belief
from surgery.curves.choose import choose
from surgery.curves.inversions import slow_notes, slower
from surgery.curves.page import report
from surgery.curves.plot import plot
from surgery.errors import FileError
from surgery.measuring.adaptive import at, believed

AnyPath: TypeAlias = "str | PathLike[str]"
FORMAT = "surgery.curve/2"
READ = ("surgery.curve/1", FORMAT)  # the first had neither errors nor sizes
MEASURES = ("params", "bytes", "macs")


@dataclass(frozen=True)
class Point:
    """One row: a model of these widths, how well it did, and what it costs. Widths for `shrink` and `set_widths`.

    Attributes:
        widths: the width of every group, by name.
        score: what `validate` returned; higher is better.
        params: parameters.
        bytes: bytes of the parameters and buffers.
        macs: multiply-adds of one call on the example inputs.
        latency: seconds per call of the shrunk model, or None where it was not measured.
        fraction: the fraction that was asked for, or None where the widths were asked for one by one.
        error: the standard error of the score, in its unit, or None where `validate` told nothing about it.
        spread: the standard error of the latency, in seconds, or None.
    """

    widths: dict[str, int]
    score: float
    params: int
    bytes: int
    macs: int
    latency: float | None = None
    fraction: float | None = None
    error: float | None = None
    spread: float | None = None


@dataclass(frozen=True, repr=False)
class Curve(Sequence[Point]):
    """A sequence of points, in the order in which they were swept. Printed, it is a table.

    Attributes:
        points: the rows.
        full: `params`, `bytes` and `macs` of the model at full width, which percentages and fractions refer to.
        plan_fingerprint: the fingerprint of the plan that was swept, or "".
        sizes: the full width of every group, by name; empty where it is not known.
        timing: what latencies were measured with: device, threads, calls; empty where none were.
        weights: a hash of the model's tensors, or "" where rows were not kept in a file.
        recalibrated: on how many batches BatchNorm statistics were estimated anew for each row.
        statistics: a hash of these batches, or "" where rows were not kept in a file.
        precision: the error that an adaptive sweep believes to be left anywhere between its rows, or None.
        uniform: of a searched curve, the largest uniform model within the budget of each point.
        notes: what else there is to say, in sentences.
    """

    points: tuple[Point, ...]
    full: Mapping[str, int]
    plan_fingerprint: str = field(default="", kw_only=True)
    sizes: Mapping[str, int] = field(default_factory=dict, kw_only=True)
    timing: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    weights: str = field(default="", kw_only=True)
    recalibrated: int = field(default=0, kw_only=True)
    statistics: str = field(default="", kw_only=True)
    precision: float | None = field(default=None, kw_only=True)
    uniform: tuple[Point, ...] = field(default=(), kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    choose = choose
    plot = plot
    report = report
    slower = slower
    at = at

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Curve: ...
    def __getitem__(self, index: int | slice) -> Point | Curve:
        if isinstance(index, slice):
            return replace(self, points=self.points[index], uniform=self.uniform[index])
        return self.points[index]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    @functools.cached_property
    def belief(self) -> Belief:
        """What the rows with fractions say about all fractions."""
        return believed(self.points)

    def table(self) -> list[list[str]]:
        """The printed table's cells, the header first. A column without a value in any row is left out."""
        cells = [[cell(self, i) for i in range(len(self))] for cell in COLUMNS.values()]
        kept = [[name, *column] for name, column in zip(COLUMNS, cells, strict=True) if any(column) or not column]
        return [list(row) for row in zip(*kept, strict=True)]

    def __str__(self) -> str:
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join(lines + [*self.notes, *slow_notes(self)])

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

    def to_csv(self, path: AnyPath) -> None:
        """Write a line for each point: fraction, score, error, costs (latency in seconds), every group's width."""
        groups = list(dict.fromkeys(name for point in self for name in point.widths))
        plain = ["fraction", "score", "error", *MEASURES, "latency", "spread"]
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(plain + [f"width:{name}" for name in groups])
            for point in self:
                writer.writerow([getattr(point, name) for name in plain] + [point.widths.get(name) for name in groups])


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
