"""Attributes that a run reads in ways that leave no trace: as an index, in a text, as the key of a table.

An attribute that no run reads may hold any number. So those that seem to be unread are changed, all at once, in a copy:
if it comes to the same, they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from surgery.modules.copying import copy_of
from surgery.modules.differences import difference
from surgery.modules.inputs import Examples, runs
from surgery.modules.plain_data import replaced
from surgery.modules.tensors import Parts
from surgery.modules.verify import proving
from surgery.planning.solving.expressions import Key


def other(number: int) -> int:
    """A number to try in place of one: about half of it, odd where that was even; and not one.

    Code that asks for more than one asks what there is to repeat.
    """
    return number // 2 + 1 if number > 3 else number + 1


def read_silently(parts: Parts, examples: Examples, recorded: Sequence[Any], keys: Iterable[Key]) -> set[Key]:
    """Those of some integer attributes that a run reads: `recorded` is what it returns for each of the examples.

    All of them where a run does not return the same twice. On the meta device there are no values to compare: there,
    those that a run fails without.
    """
    keys = list(keys)

    def matter(some: Sequence[Key]) -> bool:
        return _matters(parts, examples, recorded, some)

    if not keys or not matter(keys):
        return set()
    return set(keys) if matter(()) else _found(keys, matter)


def _found(keys: Sequence[Key], matter: Callable[[Sequence[Key]], bool]) -> set[Key]:
    """Which of these matter, if together they do: halves first."""
    if len(keys) == 1:
        return set(keys)
    halves = keys[: len(keys) // 2], keys[len(keys) // 2 :]
    return set().union(*(_found(half, matter) for half in halves if matter(half))) or set(keys)


def _matters(parts: Parts, examples: Examples, recorded: Sequence[Any], keys: Sequence[Key]) -> bool:
    """Whether a copy with other numbers there does not come to the same."""
    model, hollow = copy_of(parts, lambda _, tensor: tensor), any(p.is_meta for p in parts.parameters.values())
    try:
        for path, (name, *steps) in keys:
            attributes = vars(model.modules[path])
            old: Any = attributes[name]
            for step in steps:
                old = old[step]
            attributes[name] = replaced(attributes[name], steps, other(old))
        with proving(model.model) as output:
            for known, run in zip(recorded, runs(examples), strict=False):
                made = output(model.model, run)
                if not hollow:
                    difference(known, made)
    except Exception:  # it does not run, or says something else
        return True
    return False
