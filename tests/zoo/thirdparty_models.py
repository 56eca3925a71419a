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
    """The listed models whose package is installed."""
    there = {package: find_spec(package) is not None for package in packages()}
    for name in listed(ENTRIES):
        if there[name.partition("/")[0]]:
            yield Entry("thirdparty", name, partial(build, name), RECIPES[name].data_decides)


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
