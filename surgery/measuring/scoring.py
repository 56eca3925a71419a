"""The score of a twin at widths: one after another, here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import nn

from surgery.curves.score import Score, Scored, as_score
from surgery.measuring.rows import Row
from surgery.measuring.stopped import Guard
from surgery.modules.batchnorm import recalibrate
from surgery.modules.inputs import Examples
from surgery.twin.setting import at_widths

Validate: TypeAlias = Callable[[nn.Module], Scored]
Guarded: TypeAlias = Callable[[Row], Guard]  # what goes wrong inside is told of this row


class Scorer(Protocol):
    """What computes the scores of rows.

    Attributes:
        here: rows are scored one by one in this process, so each can be timed as soon as it is scored.
    """

    @property
    def here(self) -> bool: ...

    def scores(self, rows: Sequence[Row], guard: Guarded) -> Generator[tuple[Row, Score], None, None]:
        """Each row with its score, in the order in which they are finished."""
        ...


@dataclass(frozen=True)
class Here:
    """Scores rows on the twin itself, in their order.

    Attributes:
        batches: what BatchNorm statistics are estimated on before each score; none where empty.
    """

    wrapped: nn.Module
    validate: Validate
    batches: Sequence[Examples] = ()
    here = True

    def scores(self, rows: Sequence[Row], guard: Guarded) -> Generator[tuple[Row, Score], None, None]:
        for row in rows:
            with guard(row):
                score = scored(self.wrapped, row.widths, self.validate, self.batches)
            yield row, score


def scored(wrapped: nn.Module, widths: Mapping[str, int], validate: Validate, batches: Sequence[Examples]) -> Score:
    """The score at these widths. The buffers of the model are as before afterwards, so the order of rows is free."""
    wrapped.eval()  # the last call of validate may have left another mode
    with buffers_kept(wrapped), at_widths(wrapped, widths):
        if batches:
            recalibrate(wrapped, batches)
        with torch.no_grad():
            return as_score(validate(wrapped))


@contextlib.contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Statistics that are estimated anew inside are put back."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
