"""Curves to test with, made without a model: every number follows from a fraction or a seeded generator."""

import math
import random
from dataclasses import replace

from surgery.curves.curve import Curve
from surgery.curves.points import Point

FULL = {"params": 1_112_106, "bytes": 4_461_000, "macs": 26_732_800}
SIZES = {"stem.o": 32, "down.o": 64, "blocks.0.attention.qkv.o.0": 4, "blocks.0.mlp.0.o": 128}
FRACTIONS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.125)


def nested(fractions=FRACTIONS, *, gain: float = 0.0, tilt: float = 0.0, errors: bool = True) -> Curve:
    """Models that are slices of each other: one fraction for all groups, or `tilt` apart from it by turns."""
    return Curve(tuple(_point(f, gain, tilt, errors) for f in fractions), FULL, plan_fingerprint="f00", sizes=SIZES)


def _point(fraction: float, gain: float, tilt: float, errors: bool) -> Point:
    share = fraction * fraction
    tilts = (1 - tilt, 1 + tilt, 1 - tilt, 1 + tilt)
    widths = {
        name: max(1, min(size, math.floor(size * fraction * t + 0.5)))
        for (name, size), t in zip(SIZES.items(), tilts, strict=True)
    }
    score = min(1.0, 0.98 + gain - 0.4 * math.exp(-14 * share))
    return Point(
        widths,
        score,
        *(round(share * FULL[name]) for name in ("params", "bytes", "macs")),
        latency=0.0247 * (0.1 + 0.9 * share),
        fraction=None if tilt else fraction,
        error=math.sqrt(score * (1 - score) / 360) if errors else None,
    )


def drawn(seed: int, rows: int, *, share: bool = True, timed: bool = True, fingerprint: str = "") -> Curve:
    """Points without any order; scores and costs have many ties."""
    rng = random.Random(seed)

    def row() -> Point:
        score = round(rng.random(), 1) if share else round(rng.gauss(-3, 2), 1)
        costs = [rng.choice((1, 5, 20, 70, 100)) * whole // 100 for whole in FULL.values()]
        latency = rng.choice((0.001, 0.002, 0.0035, 0.02)) if timed else None
        widths = {name: rng.randint(1, size) for name, size in SIZES.items()}
        error = rng.choice((None, 0.05, 0.1, 0.3))
        return Point(widths, score, costs[0], costs[1], costs[2], latency, error=error)

    return Curve(tuple(row() for _ in range(rows)), FULL, plan_fingerprint=fingerprint, sizes=SIZES)


TIMING = {"device": "cpu", "threads": 2, "calls": 30, "inputs": "(8, 3, 32, 32)"}


def searched(*, errors: bool = True) -> Curve:
    """As a search leaves it: no full model among the rows, uniform models beside them, times with their spread."""
    uniform = nested((0.7, 0.5, 0.35), errors=errors)
    found = nested((0.69, 0.5, 0.34), tilt=0.08, gain=0.01, errors=errors)
    points = tuple(
        replace(point, spread=0.02 * (point.latency or 0.0), metrics={"accuracy": point.score, "loss": 1 - point.score})
        for point in found
    )
    base = nested()[0]
    return replace(found, points=points, uniform=uniform.points, base=base, timing=TIMING)
