"""What `validate` returned, as a score and its standard error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import SupportsFloat, TypeAlias

from torch import Tensor

from surgery.errors import InputError


@dataclass(frozen=True)
class Score:
    """A score, and its standard error in the same unit, or None where nothing is known about it.

    Attributes:
        metrics: what else `validate` has returned, by name, the score among it; empty where it was no dict.
    """

    value: float
    error: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


One: TypeAlias = Score | SupportsFloat | tuple[SupportsFloat, SupportsFloat]
Scored: TypeAlias = One | Mapping[str, One]  # what `validate` may return
# Words in the names of metrics of which lower is better.
LOWER = frozenset("loss entropy ce bits error err perplexity ppl mse mae rmse nll wer fid".split())


def as_score(returned: Scored) -> Score:
    """The score that `validate` means.

    A number, or a tensor of one element, is a score of unknown error. A tensor of one score per sample is their mean,
    with the error that follows from their spread. A pair of numbers is a score and its standard error. Of a dict of
    metrics the first is the score.

    Raises:
        InputError: it is none of these, or not finite; the first metric has the name of one that is better when lower.
    """
    if isinstance(returned, Mapping):
        return _metrics(returned)
    if isinstance(returned, Score):
        return _finite(returned)
    if isinstance(returned, tuple):
        return _pair(returned)
    if isinstance(returned, Tensor) and returned.numel() != 1:
        return _finite(_mean(returned))
    try:
        return _finite(Score(float(returned)))
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"validate returned {_seen(returned)}: {FORMS}") from error


FORMS = (
    "return a number, a tensor of one score per sample, a pair (score, standard error), or a dict of metrics, of which "
    "the first is the score; higher is better"
)
FEW = 10  # samples: a share of so few has an error that no score of a pair is beyond


def _pair(returned: tuple[SupportsFloat, ...]) -> Score:
    try:
        value, error = map(float, returned)
    except (TypeError, ValueError) as cause:
        raise InputError(f"validate returned {_seen(returned)}: {FORMS}") from cause
    found = _finite(Score(value, error))
    if value > 1 and 0.2 * value < error <= 1:
        raise InputError(
            f"validate returned {_seen(returned)}, which is read as a score and its standard error. Of a loss and "
            "an accuracy return the accuracy alone, or a dict that it is first in: {'accuracy': ..., 'loss': ...}"
        )
    if 0 <= value <= 1 and error > max(binomial(value * FEW, FEW), math.sqrt(value * (1 - value) / FEW)):
        raise InputError(
            f"validate returned {_seen(returned)}, which is read as a score and its standard error: ± {error:.3g} is "
            f"more than a share of {FEW} samples has. If the second is a loss, return the score alone"
        )
    return found


def _metrics(returned: Mapping[str, One]) -> Score:
    """The first is the score. The others may be anything: a loss that is infinite is worth knowing."""
    if not returned or not all(isinstance(name, str) for name in returned):
        raise InputError(f"validate returned {dict(returned)!r}: {FORMS}")
    first = next(iter(returned))
    words = first.lower().replace("-", "_").replace(" ", "_").split("_")
    turned = first.startswith(("-", "1-", "neg")) or _number(first, returned[first]) < 0
    if any(word in LOWER for word in words) and not turned:
        raise InputError(
            f"validate returned a dict whose first entry is {first!r}. The first is the score, of which higher is "
            "better: put another metric first, or its negative under a name such as 'negative_loss'"
        )
    found = as_score(returned[first])
    return replace(found, metrics={name: _number(name, value) for name, value in returned.items()})


def _number(name: str, value: object) -> float:
    """A metric. Of a tensor of one score per sample, or a pair with its error, it is the value."""
    try:
        if isinstance(value, tuple):
            return float(value[0])
        if isinstance(value, Tensor):
            return value.double().mean().item()
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, IndexError) as error:
        raise InputError(f"validate returned {_seen(value)} as {name!r}, which is no number") from error


def _mean(scores: Tensor) -> Score:
    """The mean over samples. Scores of samples are independent; those of tokens of one text are not."""
    if scores.dim() != 1 or not len(scores) or scores.is_complex():
        advice = "average over each sample first" if scores.dim() > 1 else FORMS
        raise InputError(f"validate returned {_seen(scores)}: {advice}")
    scores, count = scores.detach().double().cpu(), len(scores)
    mean = scores.mean().item()
    if bool(((scores == 0) | (scores == 1)).all()):
        return Score(mean, binomial(mean * count, count))
    return Score(mean, scores.std().item() / math.sqrt(count))


def binomial(hits: float, count: int) -> float:
    """The standard error of a share of `hits` in `count`.

    It is the standard deviation of the share when all shares were equally likely before (a beta distribution). Unlike
    sqrt(p (1 - p) / n) it is not zero where all hit or none: a few samples do not prove perfection.
    """
    a, b = hits + 1, count - hits + 1
    return math.sqrt(a * b / (a + b + 1)) / (a + b)


def _finite(score: Score) -> Score:
    if not math.isfinite(score.value):
        raise InputError(f"validate returned {score.value}: return a finite number")
    if score.error is not None and not 0 <= score.error < math.inf:
        raise InputError(f"validate returned {score.error} as a standard error: it is a finite number, 0 or above")
    return score


def _seen(value: object) -> str:
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)
