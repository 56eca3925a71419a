"""Failures grouped by their error, with what is particular to a model left out: one group is often one cause."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .record import Failure, Record

# numbers, paths of modules, quoted names and shapes differ from model to model
PARTICULAR = (
    (r"'[^']*'|\"[^\"]*\"", "'…'"),
    (r"\b\w+(\.\w+)+\b", "…"),
    (r"\[[^\]]*\]|\([\d, ]*\)", "[…]"),
    (r"-?\d[\d,.e+-]*", "#"),
)


def shape_of(failure: Failure) -> str:
    """The error without what is particular to one model."""
    text = " ".join(failure.message.split())[:240]
    for pattern, stand_in in PARTICULAR:
        text = re.sub(pattern, stand_in, text)
    return f"{failure.error}: {text}"


def grouped(records: Iterable[Record]) -> list[tuple[str, str, list[tuple[Record, Failure]]]]:
    """(error, line of the library, who fails with it), most frequent first; of each model its first failure counts."""
    groups: dict[tuple[str, str], list[tuple[Record, Failure]]] = {}
    for record in records:
        for failure in record.failures[:1]:
            groups.setdefault((shape_of(failure), failure.where), []).append((record, failure))
    return sorted(((*key, found) for key, found in groups.items()), key=lambda group: -len(group[2]))


def listing(records: Iterable[Record]) -> str:
    """The groups as text."""
    lines: list[str] = []
    for shape, where, found in grouped(records):
        lines.append(f"{len(found)} x {shape}" + (f"  [{where}]" if where else ""))
        lines.append(f"    such as: {' '.join(found[0][1].message.split())[:400]}")
        lines += [
            f"    {record.key} ({', '.join(dict.fromkeys(f.stage for f in record.failures))})" for record, _ in found
        ]
    return "\n".join(lines) or "nothing fails"
