"""Python's search for cycles, made seldom while there is nothing for it to find."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

OFTEN = 50_000  # objects more than were freed: by default torch and its friends are searched again at each 700th


@contextlib.contextmanager
def seldom() -> Iterator[None]:
    """Search for cycles less often inside.

    Planning keeps most of the small objects that it makes until it ends. Searching all that Python holds for cycles
    among them again and again takes up to a third of its time.
    """
    first, *others = gc.get_threshold()
    if not 0 < first < OFTEN:  # switched off, or seldom already
        yield
        return
    gc.set_threshold(OFTEN, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)
