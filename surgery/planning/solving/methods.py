"""Methods that a rewritten forward calls, and that users may call themselves: `model.encode(x)`.

Such a method gets the sizes of the forward, if all recorded calls of it are calls by that forward, with the same sizes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import CodeType, FunctionType

from torch import nn

from surgery.capture.frames import info
from surgery.modules.code.rewritten import Routine
from surgery.modules.code.source import collapsed, text
from surgery.plan.groups import Rewrite
from surgery.planning.analysis import Analysis


def with_methods(analysis: Analysis, rewrites: Mapping[str, Rewrite]) -> dict[str, Rewrite]:
    """The same rewrites, with the methods of modules that are rewritten with them."""
    if not rewrites:
        return {}
    elsewhere = set(_unchanged(analysis, rewrites))
    return {
        path: replace(rewrite, methods=tuple(_methods(analysis.modules, path, rewrite.routine, elsewhere)))
        for path, rewrite in rewrites.items()
    }


def _methods(
    modules: Mapping[str, nn.Module], path: str, root: Routine, elsewhere: set[int]
) -> Iterator[tuple[str, str, Routine]]:
    """The path of a module, the name of a method of it, and that with its sizes."""
    called = list(dict.fromkeys(_below(root)))
    below = {p: m for p, m in modules.items() if p == path or not path or p.startswith(f"{path}.")}
    for routine in called:
        if sum(other.text == routine.text for other in called) > 1:
            continue  # several widths in one method
        name = routine.text.name.rpartition(".")[2]
        holders = [p for p, module in below.items() if _is_method(type(module), name, routine, elsewhere)]
        if path in holders or len(holders) == 1:  # of several, nothing tells which one was called
            yield path if path in holders else holders[0], name, routine


def _is_method(cls: type, name: str, routine: Routine, elsewhere: set[int]) -> bool:
    function = inspect.getattr_static(cls, name, None)
    if not isinstance(function, FunctionType) or id(function.__code__) in elsewhere:
        return False
    return function.__code__.co_qualname == routine.text.name and text(function.__code__) == routine.text


def _below(routine: Routine) -> Iterator[Routine]:
    for _, routines in routine.calls:
        for called in routines:
            yield called
            yield from _below(called)


def _unchanged(analysis: Analysis, rewrites: Mapping[str, Rewrite]) -> Iterator[int]:
    """The functions that recorded calls were made by without a change: what calls them needs them as they are."""
    for capture in analysis.captures:
        for node in capture.graph.nodes:
            known = info(node)
            path = None if known.frame is None else capture.frames[known.frame].path
            yield from map(id, _as_they_are(known.chain, rewrites.get(path) if path is not None else None))


def _as_they_are(chain: tuple[tuple[CodeType, int], ...], rewrite: Rewrite | None) -> Iterator[CodeType]:
    routine, where = (rewrite.routine if rewrite else None), None
    for i, (code, span) in enumerate(collapsed(chain)):
        if i and routine is not None:
            called = [r for at, routines in routine.calls if at == where for r in routines]
            routine = next((r for r in called if r.text.name == code.co_qualname), None)
        if routine is None:
            yield code
        where = span
