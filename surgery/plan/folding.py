"""Rows of a table that repeat block after block, as one: `layers.{0..31}.mlp.o`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set

LEAST = 3  # repeats that are worth it
HOLE = "\0"

Row = tuple[str, ...]


def folded(rows: Sequence[Row]) -> list[Row]:
    """The rows, those one that differ in nothing but a number in a name, which counts up without a gap.

    The first cell is the name. The number is taken for the same wherever it stands behind the same path. What it counts
    is the outermost block that repeats.
    """
    places = {row: place for place, row in reversed(list(enumerate(rows)))}
    taken, done = set[int](), list[Row]()
    for place, row in enumerate(rows):
        if place in taken:
            continue
        path, run = max(_runs(row, places, taken), key=lambda found: len(found[1]), default=("", [place]))
        if len(run) < LEAST:
            done.append(row)
            continue
        taken.update(run)
        done.append(_counted(row, path, len(run)))
    return done


def _runs(row: Row, places: Mapping[Row, int], taken: Set[int]) -> Iterator[tuple[str, list[int]]]:
    """For each number in the name of a row: the places of the rows that are like it, counting up from there."""
    for path in _paths(row[0]):
        prefix, number = path.rsplit(".", 1) if "." in path else ("", path)
        shape, run = _shape(row, path), [places[row]]
        while True:
            here = f"{prefix}.{int(number) + len(run)}".lstrip(".")
            place = places.get(tuple(cell.replace(HOLE, here) for cell in shape))
            if place is None or place in taken:
                break
            run.append(place)
        yield path, run


def _paths(name: str) -> Iterator[str]:
    """The beginnings of a name that end in a number, but for the number of a factor at its end."""
    parts = name.split(".")
    for end, part in enumerate(parts[:-1]):
        if part.isdigit():
            yield ".".join(parts[: end + 1])


def _shape(row: Row, path: str) -> Row:
    """A row with a hole for each place of a path."""
    return tuple(re.sub(rf"(?<![\w.]){re.escape(path)}(?=\.)", HOLE, cell) for cell in row)


def _counted(row: Row, path: str, count: int) -> Row:
    prefix, number = path.rsplit(".", 1) if "." in path else ("", path)
    span = f"{prefix}.{{{number}..{int(number) + count - 1}}}".lstrip(".")
    return tuple(cell.replace(HOLE, span) for cell in _shape(row, path))
