"""Expressions of Python, laid out in lines: a call, or a container, with what stands in it."""

from __future__ import annotations

import keyword
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

LONGEST = 110  # characters of a line
STEP = "    "


@dataclass(frozen=True)
class Around:
    """What stands between `head` and `tail`, with commas between; each item after its label (`name=`, `'key': `)."""

    head: str
    items: tuple[tuple[str, Source], ...]
    tail: str = ")"


Source: TypeAlias = "str | Around"


def call(name: str, arguments: Iterable[Source] = (), named: Iterable[tuple[str, Source]] = ()) -> Source:
    """A call. What is named with something that Python has no keyword argument for goes by way of a dict."""
    items = [("", argument) for argument in arguments]
    for key, value in named:
        if key.isidentifier() and not keyword.iskeyword(key):
            items.append((f"{key}=", value))
        else:
            items.append(("**", mapping([(repr(key), value)])))
    return Around(f"{name}(", tuple(items))


def mapping(items: Iterable[tuple[str, Source]]) -> Source:
    return Around("{", tuple((f"{key}: ", value) for key, value in items), "}")


def sequence(items: Iterable[Source], head: str = "[", tail: str = "]") -> Source:
    return Around(head, tuple(("", item) for item in items), tail)


def tuple_of(items: Iterable[Source]) -> Source:
    found = list(items)
    return sequence(found, "(", ",)" if len(found) == 1 else ")")


def flat(source: Source) -> str:
    """An expression in one line."""
    if isinstance(source, str):
        return source
    return source.head + ", ".join(label + flat(item) for label, item in source.items) + source.tail


def lines(source: Source, before: str = "", after: str = "", indent: str = "") -> Iterator[str]:
    """An expression in as many lines as it needs, with what stands before and after it."""
    whole = indent + before + flat(source) + after
    if isinstance(source, str) or len(whole) <= LONGEST or not source.items:
        yield whole
        return
    yield indent + before + source.head
    for label, item in source.items:
        yield from lines(item, label, ",", indent + STEP)
    yield indent + source.tail.lstrip(",") + after
