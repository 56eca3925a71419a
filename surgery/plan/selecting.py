"""Which groups a user means: names, globs, module paths, and kinds."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from surgery.errors import InputError, WidthError
from surgery.plan.groups import DEPTH, EXPERTS, KINDS, Group

SHOWN = 6  # groups named in a message
LISTS = (DEPTH, EXPERTS)
# All, none, or globs over names of groups and module paths; as a mapping, with an order of importance for each.
Patterns: TypeAlias = "bool | str | Iterable[str] | Mapping[str, Sequence[int]]"


def patterns_of(asked: Patterns, what: str) -> bool | list[str]:
    """What was asked for, as it is kept. Raises InputError for what says nothing of groups."""
    if isinstance(asked, bool):
        return asked
    listed = [asked] if isinstance(asked, str) else list(asked) if isinstance(asked, Iterable) else None
    if listed is None or not all(isinstance(pattern, str) for pattern in listed):
        raise InputError(f"{what} is True, or globs over group names or module paths, got {asked!r}")
    return listed


def selected(groups: Mapping[str, Group], pattern: str, model: str) -> list[str]:
    """The groups that a pattern selects.

    Args:
        groups: those of the plan, by name.
        pattern: a name; a glob over names; a module path, which selects the groups that cut a tensor below it; a kind
            such as "ffn"; or any of the first three and a kind, as in `"encoder:ffn"` and `"*:heads"`.
        model: what the model is called in messages.

    Raises WidthError where there are none, and where a kind is a module path as well that selects other groups.
    """
    if pattern in groups and not any(g.kind == pattern for name, g in groups.items() if name != pattern):
        return [pattern]
    place, colon, kind = pattern.rpartition(":")
    if colon and kind in KINDS:
        inside = _placed(groups, place) if place else list(groups)
        found = [name for name in inside if groups[name].kind == kind]
    else:
        found = _placed(groups, pattern)
        of_kind = [name for name, group in groups.items() if group.kind == pattern]
        if found and of_kind and found != of_kind:
            raise WidthError(
                f"{pattern!r} is a kind of group and a module of {model}: write '*:{pattern}' for the groups of that "
                f"kind, or '{pattern}.*' for those of the module"
            )
        found = found or of_kind
    if found:
        return found
    close = difflib.get_close_matches(pattern, list(groups), SHOWN) if len(groups) > SHOWN else []
    shown = list(dict.fromkeys([*close, *groups]))[:SHOWN]
    names = ", ".join(shown) + (", ..." if len(groups) > SHOWN else "")
    kinds = Counter(group.kind for group in groups.values())
    listed = ", ".join(f"{kind} ({count})" for kind, count in kinds.items())
    raise WidthError(
        f"no group matches {pattern!r}. The groups of {model} are: {names or '(none)'}"
        + (f"; by kind: {listed}" if listed else "")
        + (f". Such groups are there if they are asked for: wrap(model, x, {pattern}=True)" if pattern in LISTS else "")
    )


def covers(pattern: str, tensor: str) -> bool:
    """Whether a glob fits the name of a tensor, or a module path has it below."""
    return fnmatch.fnmatchcase(tensor, pattern) or tensor.startswith(pattern.rstrip(".") + ".")


def _placed(groups: Mapping[str, Group], pattern: str) -> list[str]:
    """The groups whose name fits a glob, or that cut a tensor below a module path; `{0..3}` is a range of numbers."""
    span = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if span:
        before, after = pattern[: span.start()], pattern[span.end() :]
        each = (f"{before}{i}{after}" for i in range(int(span[1]), int(span[2]) + 1))
        found = {name for one in each for name in _placed(groups, one)}
        return [name for name in groups if name in found]
    below = pattern.rstrip(".") + "."
    return [
        name
        for name, group in groups.items()
        if fnmatch.fnmatchcase(name, pattern)
        or any(tensor.startswith(below) for tensor, _ in group.cuts)
        or any(f"{listed.path}.".startswith(below) for listed in group.lists)
    ]
