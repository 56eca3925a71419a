"""Pieces of models: a class as text, with choices, and which sizes it may have.

To add a spelling, write another alternative into a text (`a || b`), or another word into `words.py`. To add a piece,
write another `Fragment` into a table here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fragment:
    """A class `NAME` from features to features of one kind of data.

    Attributes:
        name: what reports call it.
        text: its source, with helpers of its own before it; `INIT(c, ...)`, `@c`, and the marks of `grammar.py`.
        sizes: what it may draw for the integers of its constructor, apart from `c`, the features that it gets.
        where: what must hold of these integers.
        out: the integer that says how many features it gives.
        exact: features of which all weights are zero are as good as none: none is in a mean, a norm or a softmax.
    """

    name: str
    text: str
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    where: str = "True"
    out: str = "c"
    exact: bool = False
