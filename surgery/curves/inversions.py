"""Rows that do less work in more time: hardware likes some widths better than others."""

from __future__ import annotations

import math

from surgery.curves.points import Point, Rows

SURE = 3.0  # standard errors of a difference that count as more than noise
LEAST = 0.02  # and the share of the time that a difference is at least


def latency_inversions(curve: Rows) -> list[tuple[int, int]]:
    """Pairs of rows (row, other): `row` has fewer MACs than `other` and takes longer, beyond the noise of measuring.

    Each slow row is there once, with the fastest of the rows that have more MACs.
    """
    timed = [row for row, point in enumerate(curve) if point.latency is not None]
    found = []
    for row in timed:
        worse = [other for other in timed if curve[other].macs > curve[row].macs and _longer(curve[row], curve[other])]
        if worse:
            found.append((row, min(worse, key=lambda other: curve[other].latency or 0.0)))
    return found


def _longer(point: Point, other: Point) -> bool:
    """Whether a call at `point` takes longer than one at `other`, beyond the noise."""
    assert point.latency is not None and other.latency is not None
    noise = SURE * math.hypot(point.spread or 0.0, other.spread or 0.0)
    return point.latency - other.latency > max(noise, LEAST * other.latency)


def inversion_notes(curve: Rows) -> list[str]:
    """The warning about such rows, in words: nothing, or one paragraph."""
    pairs = latency_inversions(curve)
    if not pairs:
        return []
    told = ", ".join(
        f"row {row} ({_ms(curve[row])}, {curve[row].macs:,} MACs) against row {other} "
        f"({_ms(curve[other])}, {curve[other].macs:,} MACs)"
        for row, other in pairs
    )
    return [
        f"Fewer MACs did not mean less time: {told}. Widths that are multiples of 8 or 16 often run faster: "
        "round them with shrink(..., multiple=16), or wrap with granularity=16."
    ]


def _ms(point: Point) -> str:
    return f"{1e3 * (point.latency or 0.0):.3f} ms"
