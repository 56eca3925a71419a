"""Scores that an executor computes, many at once, each on a copy of the twin."""

from __future__ import annotations

import pickle
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass

from torch import nn

from surgery.errors import InputError
from surgery.measuring.rows import Row
from surgery.measuring.scoring import Found, Guarded, Validate, scored
from surgery.modules.inputs import Examples


@dataclass(frozen=True)
class Workers:
    """Scores rows elsewhere, as `Here` does on the twin itself."""

    executor: Executor
    wrapped: nn.Module
    validate: Validate
    batches: Sequence[Examples] = ()
    here = False

    def scores(self, rows: Sequence[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        if not rows:
            return
        packed = _packed(self.wrapped, self.batches)
        futures: dict[Future[Found], Row] = {}
        try:
            for row in rows:
                with guard(row):
                    futures[self.executor.submit(score_packed, packed, row.widths, self.validate)] = row
            done = as_completed(futures)
            for _ in rows:
                with guard(rows[0]):  # an interruption while waiting is nobody's
                    future = next(done)
                with guard(futures[future]):
                    found = future.result()
                yield futures[future], found
        finally:
            for future in futures:
                future.cancel()


def score_packed(packed: bytes, widths: Mapping[str, int], validate: Validate) -> Found:
    """The score of a model that came as bytes: a copy of its own, so that workers do not meet, threads included."""
    wrapped, batches = pickle.loads(packed)
    return scored(wrapped, widths, validate, batches)


def _packed(wrapped: nn.Module, batches: Sequence[Examples]) -> bytes:
    try:
        return pickle.dumps((wrapped, list(batches)))
    except Exception as error:
        raise InputError(
            f"{type(wrapped).__name__} cannot be sent to other processes ({type(error).__name__}: {error}). "
            "Define its classes at the top level of a module, or leave out executor="
        ) from error
