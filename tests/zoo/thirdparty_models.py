"""Other packages of the index: the listed models, built small, with random weights."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from .entry import Built, Entry, listed
from .recipe import Recipe
from .thirdparty import RECIPES

ENTRIES = "thirdparty.txt"


def entries() -> Iterator[Entry]:
    """All that are listed, installed or not: `buildable` tells."""
    for name in listed(ENTRIES):
        yield Entry("thirdparty", name, partial(build, name), RECIPES[name].data_decides)


def buildable(entry: Entry) -> bool:
    """Whether the package that the model comes from is installed."""
    return find_spec(entry.name.partition("/")[0]) is not None


def packages() -> list[str]:
    """Their import names."""
    return list(dict.fromkeys(name.partition("/")[0] for name in listed(ENTRIES)))


def installed() -> bool:
    return any(find_spec(package) is not None for package in packages())


def versions() -> dict[str, str]:
    """The versions of the distributions that are installed, by the distributions' names."""
    known = importlib.metadata.packages_distributions()
    names = [known[package][0] for package in packages() if package in known]
    return {name: importlib.metadata.version(name) for name in names}


def build(name: str) -> Built:
    recipe: Recipe = RECIPES[name]
    return Built(recipe.model(), recipe.inputs)
