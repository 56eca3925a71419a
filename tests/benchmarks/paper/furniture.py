"""Clouds of points on furniture that is made here, after the ten classes of ModelNet10, which cannot be shipped.

A piece is a few boxes of random proportions; points are drawn evenly from the surfaces of these, hidden parts too. As a
table with panels for legs is a desk, and a small dresser a night stand, some pieces cannot be told apart.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.benchmarks.data import shuffled

POINTS = 64
COUNTS = {"train": 4_000, "validation": 1_000, "test": 2_000}
NOISE, SCALE = 0.04, (0.7, 1.4)

Box = tuple[float, float, float, float, float, float]  # centre x y z, size x y z; y is up
Between = Callable[[float, float], float]


def legs(width: float, depth: float, height: float, thick: float) -> list[Box]:
    x, z = (width - thick) / 2, (depth - thick) / 2
    return [(i * x, height / 2, k * z, thick, height, thick) for i in (-1, 1) for k in (-1, 1)]


def bathtub(r: Between) -> list[Box]:
    w, d, h, t = r(1.3, 1.9), r(0.6, 1.0), r(0.4, 0.7), 0.06
    sides: list[Box] = [(0, h / 2, k * d / 2, w, h, t) for k in (-1, 1)]
    return [(0, t / 2, 0, w, t, d), *sides, *((k * w / 2, h / 2, 0, t, h, d) for k in (-1, 1))]


def bed(r: Between) -> list[Box]:
    w, d, h, head = r(0.9, 1.9), r(1.8, 2.2), r(0.25, 0.6), r(0.6, 1.2)
    foot = r(0.0, 1.0)
    end: list[Box] = [(0, foot * h, d / 2, w, 2 * foot * h, 0.08)] if foot > 0.5 else []
    return [(0, h / 2, 0, w, h, d), (0, head / 2, -d / 2, w, head, 0.08), *end]


def chair(r: Between) -> list[Box]:
    w, d, h, back, t = r(0.4, 0.6), r(0.4, 0.6), r(0.35, 0.6), r(0.25, 0.7), r(0.03, 0.07)
    arms: list[Box] = [(k * w / 2, h + 0.2, 0, t, 0.05, d) for k in (-1, 1)] if r(0, 1) > 0.6 else []
    return [(0, h, 0, w, t, d), (0, h + back / 2, -d / 2, w, back, t), *legs(w, d, h, t), *arms]


def desk(r: Between) -> list[Box]:
    w, d, h, t = r(1.0, 1.8), r(0.5, 0.9), r(0.65, 0.8), 0.04
    top: list[Box] = [(0, h, 0, w, t, d)]
    drawers, panel = r(0.3, 0.5), r(0, 1)
    right: Box = (w / 2 - drawers / 2, h / 2, 0, drawers, h, d) if panel > 0.4 else (w / 2, h / 2, 0, t, h, d)
    back: list[Box] = [(0, h * 0.6, -d / 2, w, h * 0.6, t)] if r(0, 1) > 0.5 else []
    return [*top, (-w / 2, h / 2, 0, t, h, d), right, *back]


def chest(w: float, d: float, h: float, r: Between) -> list[Box]:
    """A body on short legs or none, with fronts of drawers."""
    foot, count = r(0.0, 0.2) * (r(0, 1) > 0.5), int(r(2, 4.99))
    each = h / count
    fronts: list[Box] = [(0, foot + each * (i + 0.5), d / 2 + 0.02, 0.9 * w, 0.8 * each, 0.03) for i in range(count)]
    return [(0, foot + h / 2, 0, w, h, d), *fronts, *(legs(w, d, foot, 0.05) if foot > 0 else [])]


def dresser(r: Between) -> list[Box]:
    return chest(r(0.7, 1.6), r(0.4, 0.6), r(0.7, 1.2), r)


def monitor(r: Between) -> list[Box]:
    w, h, stand, t = r(0.4, 1.0), r(0.3, 0.6), r(0.05, 0.25), r(0.02, 0.12)
    foot = r(0.3, 0.7) * w
    return [(0, stand + h / 2, 0, w, h, t), (0, stand / 2, 0, 0.06, stand, 0.05), (0, 0, 0, foot, 0.03, r(0.15, 0.3))]


def night_stand(r: Between) -> list[Box]:
    w, d, h = r(0.4, 0.7), r(0.35, 0.55), r(0.4, 0.7)
    if r(0, 1) > 0.5:
        return chest(w, d, h, r)
    low = r(0.1, 0.5) * h
    return [(0, h, 0, w, 0.04, d), (0, low, 0, w, 0.04, d), *legs(w, d, h, 0.05)]


def sofa(r: Between) -> list[Box]:
    w, d, h, back, arm = r(1.2, 2.3), r(0.75, 1.05), r(0.35, 0.5), r(0.3, 0.55), r(0.1, 0.25)
    arms: list[Box] = [(k * (w - arm) / 2, (h + 0.2) / 2, 0, arm, h + 0.2, d) for k in (-1, 1)]
    return [(0, h / 2, 0, w, h, d), (0, h + back / 2, -d / 2 + 0.1, w, back, 0.2), *arms]


def table(r: Between) -> list[Box]:
    w, d, h, t = r(0.6, 1.9), r(0.5, 1.1), r(0.4, 0.8), r(0.04, 0.1)
    under: list[Box] = [(0, h / 2, 0, 0.1, h, 0.1), (0, 0, 0, 0.5 * w, 0.04, 0.5 * d)]
    return [(0, h, 0, w, 0.05, d), *(legs(w, d, h, t) if r(0, 1) > 0.3 else under)]


def toilet(r: Between) -> list[Box]:
    w, d, h = r(0.35, 0.45), r(0.4, 0.6), r(0.35, 0.45)
    tank = r(0.3, 0.45)
    rim: list[Box] = [(0, h, 0, w, 0.05, d), (0, h / 2, -0.05, 0.6 * w, h, 0.6 * d)]
    return [*rim, (0, h + tank / 2, -d / 2 - 0.1, w * r(1.0, 1.3), tank, 0.2)]


CLASSES = (bathtub, bed, chair, desk, dresser, monitor, night_stand, sofa, table, toilet)


def surface(boxes: list[Box], count: int, generator: torch.Generator) -> Tensor:
    """Points (count, 3), evenly from the surfaces of boxes."""
    found = torch.tensor(boxes)
    centre, size = found[:, :3], found[:, 3:]
    # The area of a face across each axis.
    areas = torch.stack([size[:, (i + 1) % 3] * size[:, (i + 2) % 3] for i in range(3)], 1)
    face = torch.multinomial(areas.flatten(), count, replacement=True, generator=generator)
    box, axis = face // 3, face % 3
    place = torch.rand(count, 3, generator=generator) - 0.5
    place[torch.arange(count), axis] = place[torch.arange(count), axis].sign() / 2
    return centre[box] + place * size[box]


def piece(kind: int, generator: torch.Generator) -> Tensor:
    """Points (POINTS, 3) of a piece of furniture, around the origin and within the unit ball."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator).item()

    points = surface(CLASSES[kind](between), POINTS, generator)
    points = points - points.mean(0)
    return points / points.norm(dim=1).max()


def moved(clouds: Tensor, generator: torch.Generator) -> Tensor:
    """Clouds (B, N, 3) stretched along each axis, turned about the vertical one, and with noise."""
    count = len(clouds)
    angle = 2 * math.pi * torch.rand(count, generator=generator)
    low, high = SCALE
    scale = low + (high - low) * torch.rand(count, 1, 3, generator=generator)
    zero, one = torch.zeros(count), torch.ones(count)
    cos, sin = angle.cos(), angle.sin()
    turn = torch.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], 1).view(count, 3, 3)
    return (clouds * scale) @ turn + NOISE * torch.randn(clouds.shape, generator=generator)


@functools.cache
def clouds(part: str) -> tuple[Tensor, Tensor]:
    """Clouds (N, POINTS, 3) and classes (N): to train on as they are made, the others moved."""
    generator = torch.Generator().manual_seed(list(COUNTS).index(part))
    kinds = torch.arange(COUNTS[part]) % len(CLASSES)
    made = torch.stack([piece(kind, generator) for kind in kinds.tolist()])
    return (made if part == "train" else moved(made, generator)), kinds


def batches(seed: int, size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Training clouds (B, 3, N) and classes, moved anew each time."""
    (made, kinds), generator = clouds("train"), torch.Generator().manual_seed(seed)
    for rows in shuffled(len(made), size, generator):
        yield moved(made[rows], generator).transpose(1, 2), kinds[rows]
