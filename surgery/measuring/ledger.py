"""Rows that are kept as they finish: an interrupted sweep goes on where it stopped."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from surgery.curves.curve import Curve
from surgery.curves.points import MEASURES, AnyPath, Full, Point
from surgery.errors import FileError, InputError
from surgery.modules.inputs import Examples, call, tensors
from surgery.modules.sharded import gathered
from surgery.plan.plan import Plan


class Ledger:
    """Points by their widths; with a path, those of earlier runs too, and every new one is written at once.

    The file is a curve (`Curve.from_json`) of all rows so far. It is replaced whole, or not at all.

    Raises:
        FileError: the file is no curve, or one of another model, of other weights, or of scores that were measured in
            another way.
    """

    def __init__(self, plan: Plan, header: Curve, path: AnyPath | None):
        if path is not None and not isinstance(path, str | os.PathLike):
            raise InputError(f"resume is the path of a file, got {path!r}")
        self.plan, self.header = plan, header
        self.path = None if path is None else Path(path)
        self.points: dict[tuple[int, ...], Point] = {}
        if self.path is not None and self.path.exists():
            found = Curve.from_json(self.path)
            self._check(found)
            if not header.timing:
                self.header = replace(header, timing=found.timing)
            same = found.timing == self.header.timing  # times of another device or thread count are taken anew
            for point in found:
                if point.widths.keys() != header.sizes.keys():
                    raise FileError(f"{self.path}: is damaged, as a row of it lacks the widths of some groups")
                self.points[self.key(point.widths)] = point if same else replace(point, latency=None, spread=None)

    def key(self, widths: dict[str, int]) -> tuple[int, ...]:
        return tuple(widths[name] for name in self.plan.groups)

    def find(self, widths: dict[str, int]) -> Point | None:
        return self.points.get(self.key(widths))

    def keep(self, point: Point) -> None:
        """Add a row, or replace the one of these widths, in the file too."""
        self.points[self.key(point.widths)] = point
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(f"{self.path.name}.part")
            self.curve(self.points.values()).to_json(part)
            os.replace(part, self.path)

    def curve(self, points: Iterable[Point]) -> Curve:
        return replace(self.header, points=tuple(points))

    def _check(self, found: Curve) -> None:
        for field, what in CHECKED.items():
            there, here = getattr(found, field), getattr(self.header, field)
            if there != here:
                raise FileError(
                    f"{self.path} holds rows of {what} ({field} is {there!r}, here it is {here!r}): "
                    "name another file with resume=, or delete this one"
                )


# What must be the same for rows of a file to be used again, and what it is of when it is not.
CHECKED = {
    "plan_fingerprint": "another model",
    "sizes": "another model",
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
        weights=weights,
        recalibrated=recalibrated,
        refitted=refitted,
        statistics=statistics,
    )


def digest(model: nn.Module) -> str:
    """A hash of every parameter and buffer, also of those that are not saved."""
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
