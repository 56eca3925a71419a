"""A table of mistakes: what a new user does, and what must be said to it. A row is an error, a warning, or a result."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from surgery import SurgeryError

Act = Callable[[], Any]
Told = tuple[str, str]  # how it was said, and the words
NOTHING = "nothing was said"


def _done(act: Act) -> tuple[Any, list[Told]]:
    """What an act gives, and all that was said: its warnings, then its error."""
    result = None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = act()
            error: list[Told] = []
        except Exception as raised:
            error = [("of the library" if isinstance(raised, SurgeryError) else type(raised).__name__, str(raised))]
            if type(raised).__module__.startswith("surgery"):
                error.append((type(raised).__name__, str(raised)))
    return result, [*((one.category.__name__, str(one.message)) for one in caught), *error]


def _row(name: str, check: Act) -> Any:
    return pytest.param(check, id=name)


def refused(name: str, act: Act, error: type[BaseException], says: str) -> Any:
    """A row: an error of this class, whose message says what was seen and what to do."""

    def check() -> None:
        _, told = _done(act)
        said = [words for how, words in told if how == error.__name__]
        assert said, f"{error.__name__} was expected: {told or NOTHING}"
        assert re.search(says, said[0], re.DOTALL), said[0]

    return _row(name, check)


def noticed(name: str, act: Act, says: str) -> Any:
    """A row: a warning, or an error of the library, with these words."""

    def check() -> None:
        _, told = _done(act)
        said = [words for how, words in told if how in ("of the library", "UserWarning")]
        assert any(re.search(says, words, re.DOTALL) for words in said), told or NOTHING

    return _row(name, check)


def works(name: str, act: Act, result: Any) -> Any:
    """A row: what comes out is what was meant, and nothing is said."""

    def check() -> None:
        found, told = _done(act)
        assert not told, told
        assert found == result, found

    return _row(name, check)
