"""The table of the zoo: every entry of every suite whose library is installed."""

from __future__ import annotations

import fnmatch
import importlib.metadata
from collections.abc import Callable, Iterator
from importlib.util import find_spec

from . import thirdparty_models, timm_models, torchvision_models, transformers_models
from .entry import Entry

SUITES: dict[str, Callable[[], Iterator[Entry]]] = {
    "torchvision": torchvision_models.entries,
    "timm": timm_models.entries,
    "transformers": transformers_models.entries,
    "thirdparty": thirdparty_models.entries,
}


def installed(suite: str) -> bool:
    """Whether some model of the suite can be built."""
    return thirdparty_models.installed() if suite == "thirdparty" else find_spec(suite) is not None


def versions(suites: list[str]) -> dict[str, str]:
    """What the models of some suites are made of, and torch: distributions, with their versions."""
    own = {name: importlib.metadata.version(name) for name in ("torch", *suites) if name != "thirdparty"}
    return own | (thirdparty_models.versions() if "thirdparty" in suites else {})


def every(suites: list[str]) -> list[Entry]:
    """All entries of some suites, in order."""
    return [entry for suite in suites for entry in SUITES[suite]()]


def entries(suites: list[str], *patterns: str) -> list[Entry]:
    """The entries of some suites that can be built, and whose name, or suite/name, fits one of the globs."""
    found = [e for e in every(suites) if e.suite != "thirdparty" or thirdparty_models.buildable(e)]
    return [e for e in found if any(fnmatch.fnmatchcase(text, p) for text in (e.name, e.key) for p in patterns or "*")]
