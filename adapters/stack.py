"""What an adapter says of layers inside of a layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stack:
    """Layers inside of a layer that run one after another, each on what the one before has made.

    Attributes:
        count: the attribute that holds how many they are.
        tensors: the names of the tensors of each, one by one the same things.
        entries: attributes with as many entries for each of them.
        names: attributes with as many entries for each of them, which those that stay take over from the first.
    """

    count: str
    tensors: tuple[tuple[str, ...], ...]
    entries: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
