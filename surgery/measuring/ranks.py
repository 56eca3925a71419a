"""Ranks of torch.distributed that all call a sweep: what each of them scores, and how all get the same rows.

What they tell each other goes through the store of the process group, and not by collectives: those of `validate` and
of a sharded model cannot be mixed up with it, no device is needed, and a rank that is missing can be told.
"""

from __future__ import annotations

import contextlib
import pickle
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch.distributed as dist

from surgery.errors import InputError, SurgeryError

T = TypeVar("T")

MODES = ("split", "together", "alone")
TOLD, PATIENCE = 10.0, 300.0  # seconds until a missing rank is told, and until it is an error
POLL = 0.02  # seconds between two looks at the store, at most


@dataclass(frozen=True)
class Ranks:
    """How the ranks of torch.distributed work on a sweep; see `ranks`."""

    mode: str = "together"
    executor: Any = None


def ranks(mode: str = "split", executor: Any = None) -> Ranks:
    """What `sweep(..., executor=)` takes, to say how the ranks of torch.distributed share it.

    All ranks call `sweep`, and all of them get the same curve. Without torch.distributed it changes nothing.

    Args:
        mode: `"split"`: each row is scored by one rank, the next that is free; `validate` and the model must not use
            collectives. `"together"`: every rank scores every row, at the same time, as collectives need, and the
            scores of rank 0 are kept; this is what happens without `executor`. `"alone"`: for a call on one rank, of
            which the others know nothing.
        executor: computes the scores, as that of `sweep` does; for all ranks, rank 0 uses it. Not with `"split"`.

    Raises:
        InputError: there is no such mode, or an executor beside `"split"`.
    """
    if mode not in MODES:
        raise InputError(f"ranks({mode!r}): give one of {', '.join(map(repr, MODES))}")
    if mode == "split" and executor is not None:
        raise InputError(
            "ranks('split') scores on the ranks: leave out the executor, or say ranks('together', executor)"
        )
    return Ranks(mode, executor)


class RankError(SurgeryError, RuntimeError):
    """Another rank has stopped, and says why."""


class Link:
    """What one process knows of the ranks that it works with: here, that there are none."""

    rank, size = 0, 1

    def first(self, make: Callable[[], T]) -> T:
        """What rank 0 makes; the others do not make it, and get the same."""
        return make()

    def every(self, value: T) -> list[T]:
        """The values of all ranks, in their order."""
        return [value]


LONE = Link()


class Meeting(Link):
    """One call of all ranks. Each says its words in the same order.

    Attributes:
        calls: how many there were in this process: all ranks count alike.
        written: what this process has written in the last one, which nobody reads any more when all begin the next.
    """

    calls = 0
    written: ClassVar[set[str]] = set()

    def __init__(self, name: str):
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.name = name
        self._store: Any = dist.distributed_c10d._get_default_store()
        self._place = f"surgery/{Meeting.calls}"
        self._words = 0
        Meeting.calls += 1

    def first(self, make: Callable[[], T]) -> T:
        self._words += 1
        if self.rank:
            found: T = self.heard(f"{self._words}")
            return found
        value = make()
        self.say(f"{self._words}", value)
        return value

    def every(self, value: T) -> list[T]:
        self._words += 1
        self.say(f"{self._words}/{self.rank}", value)
        return [self.heard(f"{self._words}/{rank}") for rank in range(self.size)]

    def say(self, key: str, value: object) -> None:
        """Write a word, which all can hear."""
        self._store.set(self._key(key), pickle.dumps(value))

    def said(self, key: str) -> bool:
        """Whether a word is there. Raises RankError where a rank has stopped instead."""
        if self._store.check([self._at(key)]):
            return True
        if key != "stopped" and self.said("stopped"):
            error = self.heard("stopped")
            raise error
        return False

    def heard(self, key: str) -> Any:
        """A word, when it is there."""
        pause = 1e-3
        while not self.said(key):
            time.sleep(pause)
            pause = min(POLL, 2 * pause)
        return pickle.loads(self._store.get(self._at(key)))

    def number(self, key: str) -> int:
        """0 for the rank that asks first, then 1, and so on."""
        return int(self._store.add(self._key(key), 1)) - 1

    def begin(self) -> None:
        """Wait for all ranks. Raises InputError where one does not come, or calls something else."""
        before, Meeting.written = Meeting.written, set()
        self.say(f"begun/{self.rank}", self.name)
        start, told = time.monotonic(), False
        while missing := [rank for rank in range(self.size) if not self.said(f"begun/{rank}")]:
            waited = time.monotonic() - start
            if waited > PATIENCE:
                raise InputError(f"{self._unmet(missing)} for {PATIENCE:.0f} s")
            if waited > TOLD and not told:
                told = True
                warnings.warn(self._unmet(missing), stacklevel=5)
            time.sleep(POLL)
        names = [self.heard(f"begun/{rank}") for rank in range(self.size)]
        if len(set(names)) > 1:
            raise InputError(f"ranks call different functions at the same time: {', '.join(names)}")
        for key in before:
            self._store.delete_key(key)

    def stop(self, error: BaseException) -> None:
        """Tell the others why this rank has stopped, unless one of them did so first."""
        if not isinstance(error, RankError) and self.number("stops") == 0:
            known = type(error).__module__ == SurgeryError.__module__
            self.say("stopped", error if known else RankError(str(error) or repr(error)))

    def _at(self, key: str) -> str:
        return f"{self._place}/{key}"

    def _key(self, key: str) -> str:
        """Where this process writes a word."""
        Meeting.written.add(self._at(key))
        return self._at(key)

    def _unmet(self, missing: list[int]) -> str:
        return (
            f"{self.name} on rank {self.rank} waits for rank {', '.join(map(str, missing))}: all ranks call it, or one "
            "alone with executor=surgery.ranks('alone')"
        )


@contextlib.contextmanager
def linked(name: str, mode: str) -> Iterator[Link]:
    """The link of this process to the other ranks that call a function of this name; they all leave together."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if not several or mode == "alone":
        yield LONE
        return
    meeting = Meeting(name)
    try:
        meeting.begin()
        yield meeting
        meeting.every(None)
    except BaseException as error:
        meeting.stop(error)
        raise
