"""The table of the zoo: every entry of every suite whose library is installed."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from . import timm_models, torchvision_models, transformers_models
from .entry import Entry

SUITES: dict[str, Callable[[], Iterator[Entry]]] = {
    "torchvision": torchvision_models.entries,
    "timm": timm_models.entries,
    "transformers": transformers_models.entries,
}


def installed(suite: str) -> bool:
    return find_spec(suite) is not None


def entries(suites: list[str], *patterns: str) -> list[Entry]:
    """The entries of some suites whose name, or suite/name, fits one of the globs."""
    found = [entry for suite in suites for entry in SUITES[suite]()]
    return [e for e in found if any(fnmatch.fnmatchcase(text, p) for text in (e.name, e.key) for p in patterns or "*")]
