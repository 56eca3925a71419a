"""A plan is rehearsed before it is believed: a twin runs at full width, at the smallest widths, and at mixed ones.

What rules and formulas say holds for the code that was recorded. Python may decide by what nobody recorded (a class, a
number that it reads somewhere else), so the twin must come out as the model does, and run at widths that are promised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import nn

from surgery.capture.callsites import line_of
from surgery.errors import ProofError
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.copying import copy_of
from surgery.modules.inputs import Examples, Inputs, runs, tensors
from surgery.modules.tensors import Parts
from surgery.modules.verify import difference, proving
from surgery.plan.plan import Group, Plan
from surgery.twin.elastic import elastic_of
from surgery.twin.install import twin_of
from surgery.twin.setting import at_widths

Widths = dict[str, int]


@dataclass(frozen=True)
class Refused:
    """What does not come out right, each with the reason: new forwards by their modules' paths, and groups by name.

    Groups in `single` do with two units, but not with one.
    """

    forwards: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    single: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.forwards or self.groups or self.single)


def rehearse(parts: Parts, plan: Plan, examples: Examples, recorded: Sequence[Any], training: bool) -> Refused:
    """What of a plan does not hold when its twin runs.

    At full width the twin must return what was `recorded` of the model for each of the examples. Where it does not, the
    model runs again beside its twin: what one run leaves behind for the next, a recording does not show. At narrow
    widths it must run, and give no NaN; in training mode too, where the plan knows that mode.
    """
    twin = twin_of(parts, plan, examples)
    try:
        _full(parts, twin, examples, recorded)
    except Exception:
        twin = twin_of(parts, plan, examples)
        try:
            _full(parts, twin, examples, None)
        except Exception as error:
            return _wrong_at_full_width(plan, error)
    for run in runs(examples):
        found = _narrow(twin, plan, run, list(mixes(plan)), training=False)
        if not found and training:
            found = _narrow(twin, plan, run, [next(mixes(plan))], training=True)
        if found:
            return found
    return Refused()


def _full(parts: Parts, twin: nn.Module, examples: Examples, recorded: Sequence[Any] | None) -> None:
    model = twin if recorded else copy_of(parts, lambda _, tensor: tensor).model  # it may store things on itself
    hollow = any(parameter.is_meta for parameter in parts.parameters.values())
    with proving(*dict.fromkeys((model, twin))) as output, at_widths(twin, 1.0):
        for i, run in enumerate(runs(examples)):
            made = output(twin, run)
            if not hollow:
                difference(recorded[i] if recorded else output(model, run), made)


def _wrong_at_full_width(plan: Plan, error: Exception) -> Refused:
    if plan.rewrites:
        paths = _rewritten(error.__traceback__) or list(plan.rewrites)
        return Refused(forwards=dict.fromkeys(paths, _reason(error)))
    reason = f"its twin does not come out right at full width: {_told(error)}"
    return Refused(groups=dict.fromkeys(plan.groups, reason))


def _narrow(twin: nn.Module, plan: Plan, run: Inputs, tried: Sequence[Widths], training: bool) -> Refused:
    """What fails at narrow widths; nothing where the model itself does not run on this, or gives NaN."""
    with proving(twin, training=training) as output:

        def fails(widths: Widths) -> Exception | None:
            try:
                with at_widths(twin, widths):
                    _finite(output(twin, run))
            except Exception as error:
                return error
            return None

        for widths in tried:
            error = fails(widths)
            if error is not None:
                return Refused() if fails(plan.full()) else _blamed(plan, widths, error, fails)
    return Refused()


def mixes(plan: Plan) -> Iterator[Widths]:
    """Widths to try: the smallest; and every other group at its smallest, where there are others."""
    full, smallest = plan.full(), {name: min(g.granularity, g.size) for name, g in plan.groups.items()}
    yield smallest
    if len(full) > 1:
        yield {name: (full if i % 2 else smallest)[name] for i, name in enumerate(full)}


def _blamed(plan: Plan, widths: Widths, error: Exception, fails: Callable[[Widths], Exception | None]) -> Refused:
    """Which new forward, or else which groups, an error at some widths is to be laid to."""
    paths = _rewritten(error.__traceback__)
    if paths:
        return Refused(forwards=dict.fromkeys(paths, _reason(error)))
    full = plan.full()
    narrow = [name for name, width in widths.items() if width != full[name]]
    kept = _fewest(narrow, lambda names: fails({**full, **{name: widths[name] for name in names}}) is not None)
    if len(kept) == 1 and _does_with_two(plan.groups[kept[0]], widths[kept[0]], lambda two: fails({**full, **two})):
        return Refused(single=frozenset(kept))
    last = fails({**full, **{name: widths[name] for name in kept}}) or error
    told = ", ".join(f"{name} at {widths[name]} of {full[name]}" for name in kept)
    return Refused(groups=dict.fromkeys(kept, f"with {told} it does not run: {_told(last)}"))


def _does_with_two(group: Group, width: int, fails: Callable[[Widths], Exception | None]) -> bool:
    """Whether what one unit of a group cannot do, two of them can: an even group goes in twos then."""
    return width == 1 and group.size % 2 == 0 and group.size > 2 and fails({group.name: 2}) is None


def _fewest(names: list[str], fails: Callable[[list[str]], bool]) -> list[str]:
    """Names of which none can be left out if it is to fail: halves first, then one by one."""
    while len(names) > 1:
        half = len(names) // 2
        part = next((part for part in (names[:half], names[half:]) if fails(part)), None)
        if part is None:
            break
        names = part
    for name in list(names) if len(names) > 1 else ():
        rest = [other for other in names if other != name]
        if fails(rest):
            names = rest
    return names


def _reason(error: Exception) -> str:
    if isinstance(error, ProofError):
        return f"cannot follow, as the model does not come out right with another forward ({error})"
    return f"cannot follow, as its forward does not run at other widths ({type(error).__name__}: {error})"


def _told(error: Exception) -> str:
    where = line_of(error.__traceback__)
    text = " ".join(str(error).split())
    return f"{type(error).__name__} at {where}: {text[:160]}" if where else f"{type(error).__name__}: {text[:160]}"


def _finite(output: Any) -> None:
    for tensor in tensors(output):
        if tensor.is_floating_point() and not tensor.is_meta and torch.isnan(tensor).any():
            raise ProofError("the output holds NaN")


def _rewritten(trace: TracebackType | None) -> list[str]:
    """The innermost module with a new forward in a traceback."""
    paths: list[str] = []
    while trace is not None:
        rewritten = trace.tb_frame.f_locals.get("self")
        if isinstance(rewritten, Rewritten):
            elastic = elastic_of(rewritten.owner)
            paths = [] if elastic is None else [elastic.path]
        trace = trace.tb_next
    return paths
