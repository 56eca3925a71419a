"""The score of a twin at widths: one after another, here."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import torch
from torch import nn

from surgery.curves.score import Score, Scored, as_score
from surgery.errors import InputError
from surgery.measuring.rows import Row
from surgery.measuring.stopped import Guard
from surgery.modules.batchnorm import recalibrate
from surgery.modules.inputs import Examples, Inputs
from surgery.shrinking.shrink import shrink
from surgery.twin.elastic import state_of
from surgery.twin.setting import proven_at
from surgery.twin.statistics import stale

Validate: TypeAlias = Callable[[nn.Module], Scored]
Guarded: TypeAlias = Callable[[Row], Guard]  # what goes wrong inside is told of this row


def check_validate(who: str, validate: object) -> None:
    """Raises InputError for what is no function of a model."""
    if not callable(validate) or isinstance(validate, nn.Module):
        seen = f"a {type(validate).__name__}" if isinstance(validate, nn.Module) else repr(validate)
        raise InputError(f"{who}: validate is a function that takes a model and returns its score, got {seen}")


class Scorer(Protocol):
    """What computes the scores of rows.

    Attributes:
        here: rows are scored one by one in this process, so each can be timed as soon as it is scored.
    """

    @property
    def here(self) -> bool: ...

    def scores(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        """Each row with its score, in the order in which they are finished. A row is asked for when it is its turn."""
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

    def scores(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        for row in rows:
            with guard(row):
                found = scored(self.wrapped, row.widths, self.validate, self.batches)
            yield row, found


@dataclass(frozen=True)
class Refitted:
    """Scores small models that are fitted to the full one, in their order.

    Attributes:
        batches: what they are fitted on.
        statistics: what BatchNorm statistics are estimated on; where empty, the batches.
    """

    wrapped: nn.Module
    validate: Validate
    batches: Sequence[Inputs]
    statistics: Sequence[Examples] = ()
    here = True

    def scores(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        for row in rows:
            with guard(row):
                small = shrink(self.wrapped, row.widths, refit=self.batches, recalibrate=list(self.statistics) or None)
                with torch.no_grad():
                    found = Found(as_score(self.validate(small.eval())))
            yield row, found


@dataclass(frozen=True)
class Found:
    """The score of a row.

    Attributes:
        stale: BatchNorm had the statistics of other widths.
        unrun: the model was not run, so that something else must have been scored.
    """

    score: Score
    stale: bool = False
    unrun: bool = False


def scored(wrapped: nn.Module, widths: Mapping[str, int], validate: Validate, batches: Sequence[Examples]) -> Found:
    """The score at these widths. Buffers, and what forwards leave on modules, are as before: rows have no order."""
    wrapped.eval()  # the last call of validate may have left another mode
    state = state_of(wrapped)
    with buffers_kept(wrapped), proven_at(wrapped, widths):
        if batches:
            recalibrate(wrapped, batches)
        before = state.runs
        with torch.no_grad():
            score = as_score(validate(wrapped))
        if state.setting.chosen != dict(widths):
            raise InputError(
                "validate has set other widths: it is called with the model at the widths that are scored, and must "
                "leave them"
            )
        return Found(score, stale(wrapped, dict(widths)), state.runs == before)


@contextlib.contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Statistics that are estimated anew inside are put back."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    state = state_of(model)
    estimated = state.estimated
    try:
        yield
    finally:
        state.estimated = estimated
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
