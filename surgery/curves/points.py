"""Measured models as rows: widths, score and costs of each, and what is true of all."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias, overload

from surgery.errors import InputError

if TYPE_CHECKING:
    from pandas import DataFrame

MEASURES = ("params", "bytes", "macs")

AnyPath: TypeAlias = "str | PathLike[str]"


def placed(path: AnyPath) -> Path:
    """A path whose folder is there: what was measured for hours is not lost for want of one."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return Path(path)


class Full(dict[str, int]):
    """What the full model costs, by name (`full["macs"]`) or as attributes (`full.macs`)."""

    def __getattr__(self, name: str) -> int:
        if name in self:
            return self[name]
        raise AttributeError(f"the costs of the full model are {', '.join(self)}; there is no {name}")


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
        metrics: everything that `validate` returned, by name, where it returned a dict; the first is the score.
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
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class Rows(Sequence[Point]):
    """Points in the order in which they were measured, and what is true of all of them.

    Attributes:
        points: the rows.
        full: `params`, `bytes` and `macs` of the model at full width, which percentages and fractions refer to: a
            mapping, whose values are attributes as well.
        plan_fingerprint: the fingerprint of the plan that was swept, or "".
        sizes: the full width of every group, by name; empty where it is not known.
        orders: for each group of modules that run one after another, which of them small depths keep.
        timing: what latencies were measured with: device, threads, calls, shapes of the inputs; empty where none were.
        weights: a hash of the model's tensors, or "" where rows were not kept in a file.
        recalibrated: on how many batches BatchNorm statistics were estimated anew for each row.
        refitted: on how many batches what reads cut features was fitted for each row.
        statistics: a hash of these batches, or "" where rows were not kept in a file.
        multiple: what all widths were rounded to multiples of.
        base: the full model, where it is known and no row.
        precision: the error that an adaptive sweep believes to be left anywhere between its rows, or None.
        uniform: of a searched curve, the largest uniform model within the budget of each point.
        notes: what else there is to say, in sentences.
    """

    points: tuple[Point, ...]
    full: Full
    plan_fingerprint: str = field(default="", kw_only=True)
    sizes: Mapping[str, int] = field(default_factory=dict, kw_only=True)
    orders: Mapping[str, Sequence[int]] = field(default_factory=dict, kw_only=True)
    timing: Mapping[str, str | int] = field(default_factory=dict, kw_only=True)
    weights: str = field(default="", kw_only=True)
    recalibrated: int = field(default=0, kw_only=True)
    refitted: int = field(default=0, kw_only=True)
    statistics: str = field(default="", kw_only=True)
    multiple: int = field(default=1, kw_only=True)
    base: Point | None = field(default=None, kw_only=True)
    precision: float | None = field(default=None, kw_only=True)
    uniform: tuple[Point, ...] = field(default=(), kw_only=True)
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "full", Full(self.full))

    @overload
    def __getitem__(self, index: int) -> Point: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Point | Self:
        if isinstance(index, slice):
            return replace(self, points=self.points[index], uniform=self.uniform[index])
        return self.points[index]

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[Point]:
        return iter(self.points)

    @property
    def whole(self) -> Point | None:
        """The full model: a row, or what a search knows of it. None where it was not measured."""
        rows = [point for point in self if self._is_whole(point)]
        return rows[0] if rows else self.base

    def _is_whole(self, point: Point) -> bool:
        if self.sizes:
            return point.widths == self.sizes
        return all(getattr(point, name) == cost for name, cost in self.full.items())

    def records(self) -> list[dict[str, float | None]]:
        """A mapping for each point: fraction, score, error, costs (latency in seconds), `metric:` and `width:` of each.

        Where a point has no value it is None.
        """
        plain = ["fraction", "score", "error", *MEASURES, "latency", "spread"]
        metrics = list(dict.fromkeys(name for point in self for name in point.metrics))
        groups = list(dict.fromkeys(name for point in self for name in point.widths))
        return [
            {name: getattr(point, name) for name in plain}
            | {f"metric:{name}": point.metrics.get(name) for name in metrics}
            | {f"width:{name}": point.widths.get(name) for name in groups}
            for point in self
        ]

    def to_csv(self, path: AnyPath) -> None:
        """Write a line for each point, as `records` has them."""
        records = self.records()
        with open(placed(path), "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(records[0]) if records else ["fraction", "score", "error", *MEASURES])
            writer.writeheader()
            writer.writerows(records)

    def to_pandas(self) -> DataFrame:
        """A pandas DataFrame with a row for each point, as `records` has them. InputError where pandas is missing."""
        try:
            import pandas
        except ImportError as error:
            raise InputError("to_pandas needs pandas: pip install pandas. to_csv and records() do without") from error
        return pandas.DataFrame(self.records())
