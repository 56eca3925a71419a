"""Which calls of modules are the same in two runs, while it is guessed and mended.

A module may be called several times, and begin in the same way each time: which call it is shows later. So what was
noted since a guess can be taken back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import fx

from surgery.capture.frames import info
from surgery.planning.listed.calls import Run

K = TypeVar("K")
V = TypeVar("V")
MOST = 200  # guesses that are taken back


class Bindings:
    """The frames of a shorter run, each with the frame of the whole run that it is.

    Attributes:
        frames: of each frame of the shorter run, the one of the whole run.
        at: how far the comparison has come, in both runs.
    """

    def __init__(self) -> None:
        self.frames = {0: 0}
        self.at = (0, 0)
        self._trail: list[tuple[dict[Any, Any], Any]] = []
        self._made: dict[int, tuple[tuple[int, int], int]] = {}  # where each was guessed, and what was noted before
        self._barred: dict[int, set[int]] = {}
        self._left = MOST

    def bars(self, short: int, whole: int) -> bool:
        """Whether two frames were found not to be the same."""
        return whole in self._barred.get(short, ())

    def bind(self, frames: Mapping[int, int]) -> None:
        """Take frames for the same from now on."""
        for short in frames:
            self._made[short] = self.at, len(self._trail)
        self.note(self.frames, frames)

    def note(self, table: dict[K, V], entries: Mapping[K, V]) -> None:
        """Add what holds as long as the guesses until now do."""
        table.update(entries)
        self._trail += [(table, key) for key in entries]

    def back(self, node: fx.Node, short: Run) -> tuple[int, int] | None:
        """Take back the innermost guess around a call that fits nowhere; returns where to go on, None for nowhere."""
        frame = info(node).frame
        while frame is not None and frame not in self._made:
            frame = short.frames[frame].parent
        if frame is None or not self._left:
            return None
        self._left -= 1
        self._barred.setdefault(frame, set()).add(self.frames[frame])
        at, length = self._made[frame]
        for table, key in reversed(self._trail[length:]):
            table.pop(key, None)
        del self._trail[length:]
        later = [other for other, (_, mark) in self._made.items() if mark >= length]
        for other in later:
            del self._made[other]
            if other != frame:
                self._barred.pop(other, None)
        return at
