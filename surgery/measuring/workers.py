"""Scores that an executor computes, many at once, each on a copy of the twin."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass

from torch import nn

from surgery.errors import InputError
from surgery.measuring.engines import Engine
from surgery.measuring.rows import Row
from surgery.measuring.scoring import Found, Guarded, Validate, scored
from surgery.modules.inputs import Examples


@dataclass(frozen=True)
class Workers:
    """Scores rows elsewhere, as `Here` does on the twin itself."""

    engine: Engine
    wrapped: nn.Module
    validate: Validate
    batches: Sequence[Examples] = ()
    here = False

    def scores(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Found], None, None]:
        """Where a row fails, those come first that are finished by then; those that have not begun are left."""
        futures: dict[Future[Found], Row] = {}
        try:
            for row in rows:
                arguments = self._sent
                with guard(row):
                    futures[self._future(*arguments, row)] = row
            left = dict(futures)
            while left:
                with guard(next(iter(left.values()))):  # an interruption while waiting is nobody's
                    done, _ = wait(left, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=_failed):
                    row = left.pop(future)
                    with guard(row):
                        found = future.result()
                    yield row, found
        finally:
            for future in futures:
                future.cancel()

    @functools.cached_property
    def _sent(self) -> tuple[object, object]:
        """The packed model and `validate`, or what stands for them where the engine keeps them."""
        scatter = self.engine.scatter
        try:
            packed = self.engine.packed((self.wrapped, list(self.batches)))
        except Exception as error:
            raise InputError(
                f"{type(self.wrapped).__name__} cannot be sent to other processes ({type(error).__name__}: {error}). "
                "Define its classes at the top level of a module, or leave out executor="
            ) from error
        return scatter(packed), scatter(self.validate)

    def _future(self, packed: object, validate: object, row: Row) -> Future[Found]:
        """The score to be. An executor that takes no more is told as a row that failed: others may have finished."""
        try:
            return self.engine.executor.submit(score_packed, packed, row.widths, validate, **self.engine.keywords)
        except Exception as error:
            refused: Future[Found] = Future()
            refused.set_exception(error)
            return refused


def score_packed(packed: bytes, widths: Mapping[str, int], validate: Validate) -> Found:
    """The score of a model that came as bytes: a copy of its own, so that workers do not meet, threads included."""
    wrapped, batches = pickle.loads(packed)
    return scored(wrapped, widths, validate, batches)


def _failed(future: Future[Found]) -> bool:
    return future.cancelled() or future.exception() is not None
