"""How far a training is, told by a few fixed widths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from surgery.errors import InputError
from surgery.measuring.rows import listed
from surgery.measuring.scoring import Validate, check_validate, scored
from surgery.modules.modes import evaluating
from surgery.plan.widths import WidthSpec
from surgery.twin.elastic import state_of
from surgery.twin.setting import plan_of
from surgery.twin.statistics import Recalibrate, batches_for, warn_stale
from surgery.twin.telling import tell

WIDTHS = (1.0, 0.5, 0.25, 0.125)


@dataclass(frozen=True)
class Progress:
    """Scores of a wrapped model at a few widths.

    Attributes:
        scores: what `validate` returned, in the order of the widths.
    """

    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean of the scores."""
        return sum(self.scores) / len(self.scores)

    def __str__(self) -> str:
        return f"{self.mean:.4f} ({', '.join(f'{score:.4f}' for score in self.scores)})"


def progress(
    wrapped: nn.Module,
    validate: Validate,
    widths: Iterable[WidthSpec] = WIDTHS,
    *,
    recalibrate: Recalibrate = None,
) -> Progress:
    """The scores of a wrapped model at a few fixed widths, and their mean: a measure of training that is not noisy.

    The training loss jumps with the widths that are drawn. This does not: the widths are always the same. The model
    comes back as it was: widths, train/eval modes, buffers, and torch's random state on the CPU.

    Args:
        wrapped: a wrapped model.
        validate: called with `wrapped` at each width, in eval mode and without gradients; what it returns is as for
            `surgery.sweep`. Use a held-out batch, always the same one.
        widths: fractions, mappings from groups to widths, or points, as `surgery.set_widths` takes them.
        recalibrate: batches of inputs for `surgery.recalibrate` at each width, where the model has BatchNorm. Default:
            those that it was wrapped with; False: its statistics stay as they are.

    Raises InputError where there are no widths, or a score is not a finite number; WidthError for impossible widths.
    """
    check_validate("progress", validate)
    plan = plan_of(wrapped)
    given = listed("progress", "widths", widths, "(1.0, 0.25)")
    entries = [plan.widths(spec) for spec in given]
    if not entries:
        raise InputError("progress was given no widths: pass for example widths=(1.0, 0.25)")
    if isinstance(recalibrate, Sequence) and not recalibrate:
        recalibrate = None
    batches = batches_for(wrapped, recalibrate)
    with torch.random.fork_rng(devices=[]), evaluating(wrapped):
        found = [scored(wrapped, entry, validate, batches) for entry in entries]
    if recalibrate is not False and any(row.stale for row in found):
        warn_stale("progress", wrapped, stacklevel=2)
    scores = tuple(row.score.value for row in found)
    names = [f"score {spec}" if isinstance(spec, float) else f"score {i + 1}" for i, spec in enumerate(given)]
    tell(state_of(wrapped), dict(zip(names, scores, strict=True)), step=False)
    return Progress(scores)
