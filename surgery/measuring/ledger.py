"""Rows that are kept as they finish: an interrupted sweep goes on where it stopped, and others may go on beside it."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from surgery.curves.curve import Curve
from surgery.curves.points import MEASURES, AnyPath, Full, Point
from surgery.errors import FileError, InputError
from surgery.measuring.locked import locked
from surgery.modules.inputs import Examples, call, tensors
from surgery.modules.sharded import gathered
from surgery.plan.plan import Plan


class Ledger:
    """Points by their widths; with a path, those of other runs too, and every new one is written at once.

    The file is a curve (`Curve.from_json`) of all rows so far. It is replaced whole, or not at all, and what other runs
    have written meanwhile is read before: of two scores of a model the first stays.

    Raises:
        FileError: the file is no curve, or one of another model, of other weights, or of scores that were measured in
            another way.
    """

    def __init__(self, plan: Plan, header: Curve, path: AnyPath | None):
        if path is not None and not isinstance(path, str | os.PathLike):
            raise InputError(f"resume is the path of a file, got {path!r}")
        self.plan, self.header = plan, header
        self.path = None if path is None else Path(path)
        self._file = None if path is None else Path(os.path.realpath(path))  # one lock, whichever link leads there
        self.points: dict[tuple[int, ...], Point] = {}
        self._times = bool(header.timing)  # this run measures times itself
        self._seen: object = None  # the file as it was last read or written
        self.refresh()

    def key(self, widths: dict[str, int]) -> tuple[int, ...]:
        return tuple(widths[name] for name in self.plan.groups)

    def find(self, widths: dict[str, int]) -> Point | None:
        return self.points.get(self.key(widths))

    def keep(self, point: Point) -> None:
        """Add a row, or replace the times of the one of these widths, in the file too."""
        self.points[self.key(point.widths)] = point
        if self._file is None:
            return
        with locked(self._beside("lock")):
            self._read()
            part = self._beside("part")
            self.curve(self.points.values()).to_json(part)
            os.replace(part, self._file)
            self._seen = _state(self._file)

    def refresh(self) -> None:
        """Take up what other runs have written."""
        if self._file is None or _state(self._file) in (None, self._seen):
            return
        writable = os.access(self._file.parent, os.W_OK)
        with locked(self._beside("lock")) if writable else contextlib.nullcontext():
            self._read()

    def claimed(self, widths: dict[str, int], wait: bool) -> AbstractContextManager[bool]:
        """Whether this run alone works on a row inside; with `wait` it is waited until no other does."""
        if self._file is None:
            return contextlib.nullcontext(True)
        name = hashlib.sha256(repr(self.key(widths)).encode()).hexdigest()[:12]
        return locked(self._beside(f"{name}.lock"), wait)

    def curve(self, points: Iterable[Point]) -> Curve:
        return replace(self.header, points=tuple(points))

    def _beside(self, ending: str) -> Path:
        assert self._file is not None
        return self._file.with_name(f"{self._file.name}.{ending}")

    def _read(self) -> None:
        """Add the rows of the file, where it has changed. Times of another device or thread count are left out."""
        assert self._file is not None
        state = _state(self._file)
        if state in (None, self._seen):
            return
        found = Curve.from_json(self._file)
        self._check(found)
        if not self._times:
            self.header = replace(self.header, timing=found.timing)
        same = found.timing == self.header.timing
        for point in found:
            key = self.key(point.widths)
            times = point if same else replace(point, latency=None, spread=None)
            if self._times and (mine := self.points.get(key)) is not None and mine.latency is not None:
                times = mine
            self.points[key] = replace(point, latency=times.latency, spread=times.spread)
        self._seen = state

    def _check(self, found: Curve) -> None:
        for field, what in CHECKED.items():
            there, here = getattr(found, field), getattr(self.header, field)
            if there != here:
                raise FileError(
                    f"{self.path} holds rows of {what} ({field} is {there!r}, here it is {here!r}): "
                    "name another file with resume=, or delete this one"
                )
        if any(point.widths.keys() != self.header.sizes.keys() for point in found):
            raise FileError(f"{self.path}: is damaged, as a row of it lacks the widths of some groups")


def _state(path: Path) -> object:
    """What changes with a file when it is replaced; None where there is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


# What must be the same for rows of a file to be used again, and what it is of when it is not.
CHECKED = {
    "plan_fingerprint": "another model",
    "sizes": "another model",
    "orders": "small models with other modules",
    "weights": "the model with other weights",
    "recalibrated": "scores with other BatchNorm statistics",
    "refitted": "scores of models that were fitted on other batches",
    "statistics": "scores with other BatchNorm statistics, or fitted on other batches",
}


def header(plan: Plan, *, weights: str = "", recalibrated: int = 0, refitted: int = 0, statistics: str = "") -> Curve:
    """A curve without points, for a model."""
    full = plan.cost_model.at(plan.full())
    return Curve(
        (),
        Full({name: getattr(full, name) for name in MEASURES}),
        plan_fingerprint=plan.fingerprint,
        sizes=plan.full(),
        orders=plan.units.orders,
        weights=weights,
        recalibrated=recalibrated,
        refitted=refitted,
        statistics=statistics,
    )


def digest(model: nn.Module, buffers: bool = True) -> str:
    """A hash of every parameter and buffer, also of those that are not saved; or of the parameters alone."""
    if not buffers:
        return _digest(dict(model.named_parameters()))
    return _digest({**model.state_dict(), **dict(model.named_buffers())})


def digest_of(batches: Iterable[Examples]) -> str:
    """A hash of every tensor in some inputs."""
    runs = [(run.args, run.kwargs) for run in map(call, batches)]
    return _digest({f"{i} {j}": x for i, run in enumerate(runs) for j, x in enumerate(tensors(run))})


def _digest(values: Mapping[str, object]) -> str:
    result = hashlib.sha256()
    for name, value in values.items():
        if isinstance(value, torch.Tensor):
            tensor = gathered(value.detach()).cpu().contiguous()
            result.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            result.update(ctypes.string_at(tensor.data_ptr(), tensor.nbytes) if tensor.numel() else b"")
    return result.hexdigest()[:32]
