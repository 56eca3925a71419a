"""The integers of a configuration, which is a plain data object of any class: where they are, and what they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from surgery.axes.formulas import Field, Steps
from surgery.modules.plain_data import LONGEST, at, is_plain_data
from surgery.nested import Nested

Config: TypeAlias = Nested  # an object, of the user's class, that holds integers, lists of such, and other objects


def fields(config: Config, path: Steps = ()) -> Iterator[tuple[Steps, int | None]]:
    """The integers and the absent values of a configuration: its own, in nested ones, and in lists."""
    if type(config) is int or config is None:
        yield path, config
    elif type(config) in (list, tuple) and len(config) <= LONGEST:
        for i, item in enumerate(config):
            if type(item) is int:
                yield (*path, i), item
    elif is_plain_data(config):
        for name, value in vars(config).items():
            if not name.startswith("_"):
                yield from fields(value, (*path, Field(name)))


def differs(config: Config, path: Steps, value: int | None) -> bool:
    """Whether a configuration holds another value at a path, or none."""
    try:
        return bool(at(config, path) != value)
    except (LookupError, TypeError):
        return True
