"""What one forward leaves in the place of a tensor, the next one reads there: both have the same dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import fx

from surgery.axes.algebra import unify
from surgery.capture.frames import info
from surgery.planning.analysis import Analysis


def unify_carried(analysis: Analysis) -> None:
    """Give a buffer, or a tensor in a plain attribute, the dimensions of what forwards assign in its place.

    Where that has another shape it is another tensor, and nothing is known.
    """
    for capture in analysis.captures:
        for frame in capture.frames:
            for name, value in (*frame.stored.items(), *frame.assigned.items()):
                for place, node in _places(f"{frame.path or ''}.{name}".lstrip("."), value):
                    _unify(analysis, place, node)


def _unify(analysis: Analysis, place: str, node: fx.Node) -> None:
    dims = analysis.values.get(node)
    if place not in analysis.canonical or not isinstance(dims, tuple):
        return
    if analysis.shapes[analysis.canonical[place]] != tuple(info(node).shape):
        return
    for before, after in zip(analysis.tensor(place), dims, strict=True):
        unify(before, after, f"{place} is assigned")


def _places(place: str, value: Any) -> Iterator[tuple[str, fx.Node]]:
    """The tensors in a value, and where each is: `table`, `cache['w'][0]`."""
    if isinstance(value, fx.Node):
        yield place, value
    elif isinstance(value, dict | list | tuple):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(f"{place}[{key!r}]", item)
