"""What a sweep found, in plain words and short numbers."""

from __future__ import annotations

from collections.abc import Iterable

from surgery.curves.points import Point, Rows
from surgery.curves.table import timing_note
from surgery.html.numbers import COST_WORDS, percent


def is_share(points: Iterable[Point]) -> bool:
    """Whether scores are taken for shares, which are told in percent and points (1 point is 0.01)."""
    return all(0 <= point.score <= 1 for point in points)


def score_words(score: float, share: bool) -> str:
    """A score as a person reads it: `97.4 %`, or four digits."""
    return f"{100 * score:.1f} %" if share else f"{score:.4g}"


def error_words(error: float | None, share: bool) -> str:
    """What follows a score: ` ± 0.8`, in points for a share; nothing where it is not known."""
    return "" if not error else f" ± {100 * error:.1f}" if share else f" ± {error:.2g}"


def budget_words(curve: Rows, point: Point) -> str:
    """What a searched model may cost. A curve does not hold its budgets; the model is about as large as its own."""
    share = 100 * point.macs / curve.full["macs"] if curve.full["macs"] else 100.0
    return f"about {share:.0f} % of the MACs" if share >= 1.5 else f"about {share:.2g} % of the MACs"


def timing_words(curve: Rows) -> str:
    """What times were measured with: inputs, device, threads. Nothing where none were, or nobody said."""
    if not curve.timing or not any(point.latency for point in curve):
        return ""
    return timing_note(curve.timing).removeprefix("ms: ").removesuffix(", median of None")


def summary(curve: Rows, point: Point) -> str:
    """What `point` keeps and loses against the widest point of the curve, in a sentence.

    Where all scores lie in [0, 1] they are taken for shares, and differences are given in points (1 point is 0.01).
    """
    widest = max(curve, key=lambda row: row.params)
    words = [
        f"Kept {percent(point.params, curve.full['params'])} of the parameters "
        f"({point.params:,} of {curve.full['params']:,}) "
        f"and {percent(point.macs, curve.full['macs'])} of the multiply-adds; "
        f"{difference(widest.score, point.score, is_share(curve))}."
    ]
    if point.latency and widest.latency and point != widest:
        latency = COST_WORDS["latency"].words
        words.append(f"One call takes {latency(point.latency)} instead of {latency(widest.latency)}.")
    return " ".join(words)


def difference(before: float, after: float, share: bool = True) -> str:
    """A change of score in words: `lost 0.4 points (97.8 % to 97.4 %)`; as plain numbers where it is not a share."""
    amount = change(before, after, share)
    if amount is None:
        return f"the score is the same ({score_words(before, share)})"
    word = "lost" if after < before else "gained"
    return f"{word} {amount} ({score_words(before, share)} to {score_words(after, share)})"


def change(before: float, after: float, share: bool) -> str | None:
    """How far two scores are apart: `0.4 points`, or four digits; None where it rounds to nothing."""
    apart = abs(after - before)
    amount = f"{100 * apart:.1f}" if share else f"{apart:.4g}"
    if float(amount) == 0:
        return None
    return amount if not share else f"{amount} point" if amount == "1.0" else f"{amount} points"
