"""Scores that an executor computes, many at once, each on a copy of the twin."""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections.abc import Generator, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass
from typing import Any

from torch import nn

from surgery.errors import InputError
from surgery.measuring.engines import Engine
from surgery.measuring.rows import Row
from surgery.measuring.scoring import Found, Guarded, Validate, scored
from surgery.measuring.stopped import died
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
        """Where a row fails, those come first that are finished by then; those that have not begun are left.

        A row whose worker died is tried once more when all others are done, and alone: another may have killed it.
        """
        again: list[Row] = []
        lost: list[tuple[Row, Future[Found]]] = []
        with contextlib.closing(self._futures(rows, guard)) as done:
            for row, future in done:
                if died(_error(future)):
                    again.append(row)
                    continue
                with guard(row):
                    found = future.result()
                yield row, found
        for row in again:
            with contextlib.closing(self._futures([row], guard)) as done:
                for _, future in done:
                    if _error(future) is None:
                        yield row, future.result()
                    else:
                        lost.append((row, future))
        for row, future in lost:
            with guard(row):
                future.result()

    def _futures(self, rows: Iterable[Row], guard: Guarded) -> Generator[tuple[Row, Future[Found]], None, None]:
        """The rows as they are done, of those that are done at once the good ones first."""
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
                for future in sorted(done, key=lambda future: _error(future) is not None):
                    yield left.pop(future), future
        finally:
            for future in futures:
                future.cancel()

    @functools.cached_property
    def _sent(self) -> tuple[Any, Any]:
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

    def _future(self, packed: Any, validate: Any, row: Row) -> Future[Found]:
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


def _error(future: Future[Found]) -> BaseException | None:
    return CancelledError() if future.cancelled() else future.exception()
