"""What is told when a row fails or is interrupted: which one, why, and where the finished rows are."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path

from surgery.curves.curve import Curve
from surgery.errors import SurgeryError
from surgery.measuring.ranks import Link, RankError
from surgery.measuring.rows import Row


class SweepError(SurgeryError, RuntimeError):
    """A sweep ended early.

    Attributes:
        curve: the rows that were finished.
    """

    def __init__(self, message: str, curve: Curve):
        super().__init__(message)
        self.curve = curve


def stopped(name: str, row: Row, error: BaseException, finished: Curve, asked: int, path: Path | None) -> SweepError:
    """The error about a row, with the rows of this run that are finished, of so many that were asked for."""
    cause = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
    total = f" of {asked}" if name == "sweep" else ""
    where = row.fraction if row.fraction is not None else row.widths
    file = f", and in {path}" if path is not None else ""
    return SweepError(
        f"{name} stopped at widths {where} ({cause}). "
        f"{len(finished)}{total} rows are finished and kept: they are the `curve` of this error{file}.{_advice(error)}",
        finished,
    )


@contextlib.contextmanager
def told_by(link: Link, finished: Callable[[], Curve]) -> Iterator[None]:
    """An error inside on one of several ranks is a SweepError of all of them, which names the rank."""
    try:
        yield
    except RankError as error:
        raise SweepError(str(error), finished()) from error
    except SweepError as error:
        if link.size == 1:
            raise
        raise SweepError(f"rank {link.rank}: {error}", error.curve) from error.__cause__


@dataclass(frozen=True)
class Guard:
    """A `with` that turns what goes wrong inside into the error that `tell` makes of it."""

    tell: Callable[[BaseException], SweepError]

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception | KeyboardInterrupt) and not isinstance(error, RankError):
            raise self.tell(error) from error


# What Dask and Ray call a task whose worker died as often as they try.
DIED = {"KilledWorker", "WorkerCrashedError", "OutOfMemoryError", "NodeDiedError", "LocalRayletDiedError"}


def died(error: BaseException | None) -> bool:
    """Whether it is the worker that failed, and not what it ran."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in DIED


def _advice(error: BaseException) -> str:
    if died(error):
        return (
            " A worker died: killed by the system, often as it ran out of memory (each holds a copy of the model), or "
            "by a crash within validate. Give fewer or larger workers, in a new executor if this one takes no more, "
            "and resume= to go on from the finished rows."
        )
    if isinstance(error, pickle.PicklingError) or "pickle" in str(error):
        return (
            " What goes to other processes must be picklable: define validate at the top level of a module that they "
            "can import (functools.partial of such a function will do), or leave out executor=."
        )
    return ""
