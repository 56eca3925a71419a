"""What a few rows say about all widths between them: a score and its error at every fraction.

A Gaussian process over the logarithm of the fraction (Rasmussen and Williams 2006, sections 2.2 and 5.4), averaged over
hypotheses: how far a row tells of others, how much single rows jitter, and whether the curve moves mostly where rows
differ much. Such a process has no steps, so a part of what the score changes between two rows counts as error there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.curves.points import Point
from surgery.curves.score import Score
from surgery.errors import InputError

# The hypotheses. N rows, H hypotheses, M fractions.
SCALES = tuple(0.25 * 2 ** (i / 2) for i in range(12))  # how far a row tells of others, in e-folds of the fraction
NOISES = (0.0, *(10.0 ** (-i / 2) for i in range(14)))  # variance of a row's own jitter, relative to the curve's
WARPS = (0.0, 0.5)  # the part of the way from row to row that the score's changes are, not the fraction's
RISE = 0.15  # the part of a change of score between two rows that may be a step
ROUGH = 0.3  # the part of a row's distance from the line through its neighbours that rows beside it may be off
TINY = 1e-9  # keeps a matrix of correlations invertible
SMALL = 1e-3  # hypotheses that are this much less likely than the best are left out


@dataclass(frozen=True)
class Surrogate:
    """The curve that rows suggest, under each hypothesis.

    Attributes:
        logs: (N) logarithms of the rows' fractions, ascending.
        scores: (N) what was measured there.
        places: (H, N) where the rows are.
        weight: (H) how likely each hypothesis is.
        mean, scale, variance, noise: (H) the level, reach, and variances of the curve and of single rows.
        factor: (H, N, N) Cholesky factors of the correlations of rows.
        known: the jitter of rows is explained by their own errors, and so it is no error of the curve.
    """

    logs: Tensor
    scores: Tensor
    places: Tensor
    weight: Tensor
    mean: Tensor
    scale: Tensor
    variance: Tensor
    noise: Tensor
    factor: Tensor
    known: bool

    def at(self, fractions: Sequence[float] | Tensor) -> tuple[Tensor, Tensor]:
        """(M) scores at fractions, and their standard errors: of the curve; of a row, where its jitter is unknown."""
        right, way = self._between(torch.as_tensor(fractions, dtype=torch.float64).log())
        places = torch.lerp(self.places[:, right - 1], self.places[:, right], way)
        near = _correlation(places[:, None, :] - self.places[:, :, None], self.scale)
        half = torch.linalg.solve_triangular(self.factor, near, upper=False)
        rest = (self.scores - self.mean[:, None])[:, :, None]
        each = self.mean[:, None] + (half * torch.linalg.solve_triangular(self.factor, rest, upper=False)).sum(1)
        own = torch.zeros_like(self.noise) if self.known else self.noise
        variance = self.variance[:, None] * (1 - half.square().sum(1)).clamp(min=0) + own[:, None]
        mean = self.weight @ each
        spread = self.weight @ (variance + (each - mean).square())
        return mean, (spread + self._step(right, way).square()).sqrt()

    def _between(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        """(M) the next row to the right of each fraction, and the part of the way to it from the row before."""
        right = torch.searchsorted(self.logs, logs).clamp(1, len(self.logs) - 1)
        before, after = self.logs[right - 1], self.logs[right]
        return right, (logs - before) / (after - before)

    def _step(self, right: Tensor, way: Tensor) -> Tensor:
        """(M) the error of a curve that is not smooth between two rows: none at the rows, most in the middle.

        It is a part of what the score changes from one to the other, and of how far they are off their neighbours.
        """
        jitter = math.sqrt(2 * float(self.weight @ self.noise))
        rise = (self.scores.diff().abs() - jitter).clamp(min=0)
        off = torch.zeros_like(self.scores)
        share = self.logs.diff()[:-1] / (self.logs[2:] - self.logs[:-2])
        off[1:-1] = (self.scores[1:-1] - torch.lerp(self.scores[:-2], self.scores[2:], share)).abs()
        rough = (torch.maximum(off[1:], off[:-1]) - jitter).clamp(min=0)
        return torch.hypot(RISE * rise, ROUGH * rough)[right - 1] * 2 * (way * (1 - way)).clamp(min=0).sqrt()


def fit(fractions: Sequence[float], scores: Sequence[Score]) -> Surrogate:
    """The surrogate that rows at distinct fractions, at least two, give rise to."""
    order = sorted(range(len(fractions)), key=lambda row: fractions[row])
    logs = torch.tensor([fractions[row] for row in order], dtype=torch.float64).log()
    values = torch.tensor([scores[row].value for row in order], dtype=torch.float64)
    grid = torch.cartesian_prod(*(torch.tensor(axis, dtype=torch.float64) for axis in (SCALES, NOISES, WARPS)))
    scale, noise, warp = grid.unbind(1)
    places = _places(logs, values, warp)
    near = _correlation(places[:, :, None] - places[:, None, :], scale)
    factor = torch.linalg.cholesky(near + (noise + TINY)[:, None, None] * torch.eye(len(logs), dtype=torch.float64))
    mean, variance, likelihood = _likelihood(factor, values)
    ceiling = _explained(scores)
    likelihood[noise * variance > ceiling] = -math.inf
    weight = torch.softmax(likelihood, 0)
    keep = weight > SMALL * weight.max()
    return Surrogate(
        logs,
        values,
        places[keep],
        weight[keep] / weight[keep].sum(),
        mean[keep],
        scale[keep],
        variance[keep],
        (noise * variance)[keep],
        factor[keep],
        known=ceiling < math.inf,
    )


def _explained(scores: Sequence[Score]) -> float:
    """The variance of single rows that their own errors explain; without errors, any."""
    errors = [score.error for score in scores if score.error is not None]
    return sum(error * error for error in errors) / len(errors) if len(errors) == len(scores) else math.inf


def _places(logs: Tensor, values: Tensor, warp: Tensor) -> Tensor:
    """(H, N) where rows are. The score's changes count beyond three times the usual one: jitter is no way."""
    changes = values.diff().abs()
    changes = (changes - 3 * changes.median()).clamp(min=0)
    changes = changes / max(float(changes.sum()), 1e-300) * (logs[-1] - logs[0])
    way = torch.lerp(logs.diff(), changes, warp[:, None])
    return torch.cat([torch.zeros(len(warp), 1, dtype=torch.float64), way.cumsum(1)], 1)


def _correlation(distance: Tensor, scale: Tensor) -> Tensor:
    """(H, ., .) Matérn 3/2: once differentiable."""
    reach = math.sqrt(3) * distance.abs() / scale[:, None, None]
    return (1 + reach) * torch.exp(-reach)


def _likelihood(factor: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(H) the best level and variance of each hypothesis, and the logarithm of its restricted likelihood."""
    columns = torch.stack([torch.ones_like(values), values], 1).expand(len(factor), -1, -1)
    ones, half = torch.linalg.solve_triangular(factor, columns, upper=False).unbind(2)
    level, freedom = ones.square().sum(1), len(values) - 1
    mean = (ones * half).sum(1) / level
    variance = (half - mean[:, None] * ones).square().sum(1) / freedom + 1e-16
    spread = factor.diagonal(dim1=1, dim2=2).log().sum(1)
    return mean, variance, -0.5 * (freedom * variance.log() + level.log()) - spread


def surrogate_of(points: Iterable[Point]) -> Surrogate:
    """What points with fractions say about all fractions."""
    found = {p.fraction: Score(p.score, p.error) for p in points if p.fraction is not None}
    if len(found) < 2:
        raise InputError("a curve between rows needs at least two rows of one fraction each: sweep fractions")
    return fit(list(found), list(found.values()))


def at(surrogate: Surrogate, fraction: float) -> Score:
    """The score that is believed of the uniform model of a fraction, and its standard error.

    Raises:
        InputError: `fraction` lies outside of the rows.
    """
    low, high = (math.exp(float(surrogate.logs[end])) for end in (0, -1))
    if (
        isinstance(fraction, bool)
        or not isinstance(fraction, int | float)
        or not low * 0.999999 <= fraction <= high * 1.000001
    ):
        raise InputError(f"at: {fraction!r} is not a fraction between {low:.4g} and {high:.4g}, where the rows are")
    value, error = surrogate.at([float(fraction)])
    return Score(float(value), float(error))
