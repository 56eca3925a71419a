"""Several runs of models that go on together from one site to the next.

So a weight is fitted when all runs have come to it, on inputs that were computed with the weights before it, in one
pass: no run begins anew, and what is kept is what each run needs to go on.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import torch

from surgery.refitting.sites import Site, Visit

KINDS = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)  # devices with casts of their own
Pause = Callable[[Visit], None]


class _Stopped(BaseException):
    """Ends a run that is not needed any more."""


class Run(threading.Thread):
    """One run of a model, which waits at every site until it is told to go on. Only one of all runs at a time."""

    def __init__(self, body: Callable[[Pause], None]):
        super().__init__(daemon=True)
        self.body = body
        self.visit: Visit | None = None
        self.error: BaseException | None = None
        self.done = self.stopped = False
        self._mine, self._theirs = threading.Semaphore(0), threading.Semaphore(0)
        self.casts = [
            torch.autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind)) for kind in KINDS
        ]  # each thread has its own

    def run(self) -> None:
        self._mine.acquire()
        try:
            if not self.stopped:
                with contextlib.ExitStack() as stack:
                    stack.enter_context(torch.no_grad())
                    for cast in self.casts:
                        stack.enter_context(cast)
                    self.body(self.pause)
        except _Stopped:
            pass
        except BaseException as error:
            self.error = error
        self.done, self.visit = True, None
        self._theirs.release()

    def pause(self, visit: Visit) -> None:
        """Called by the run itself: wait at a site."""
        self.visit = visit
        self._theirs.release()
        self._mine.acquire()
        if self.stopped:
            raise _Stopped

    def go_on(self) -> None:
        """To the next site, or the end. Raises what the run has raised."""
        self._mine.release()
        self._theirs.acquire()
        if self.error is not None:
            raise self.error


def together(bodies: Sequence[Callable[[Pause], None]]) -> Iterator[list[Visit | None]]:
    """The sites in the order in which the first run comes to them, with the visit of each run that waits there.

    A site is met once; when a run comes to it again, it goes on.
    """
    runs = [Run(body) for body in bodies]
    met = set[Site]()
    try:
        for run in runs:
            run.start()
            run.go_on()
        while waiting := [run for run in runs if not run.done]:
            first = waiting[0].visit
            assert first is not None
            there = [run for run in waiting if run.visit is not None and run.visit.site == first.site]
            if first.site not in met:
                met.add(first.site)
                yield [run.visit if run in there else None for run in runs]
            for run in there:
                run.go_on()
    finally:
        for run in runs:
            run.stopped = True
            if run.is_alive() and not run.done:
                run._mine.release()
        for run in runs:
            if run.is_alive():
                run.join()
