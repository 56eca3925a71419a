"""A plan is rehearsed before it is believed: a twin runs at full width, at the smallest widths, and at mixed ones.

What rules and formulas say holds for the code that was recorded. Python may decide by what nobody recorded (a class, a
number that it reads somewhere else), so the twin must come out as the model does, and run at widths that are promised.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from surgery.capture.callsites import line_of
from surgery.errors import ProofError
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.copying import copy_of
from surgery.modules.inputs import Examples, Inputs, runs, tensors
from surgery.modules.tensors import Parts
from surgery.modules.verify import difference, proving
from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from surgery.twin.elastic import elastic_of
from surgery.twin.install import twin_of
from surgery.twin.setting import at_widths

Widths = dict[str, int]
STEPS = 6  # that are tried for a group
MORE = 3  # positions or samples of other inputs


@dataclass(frozen=True)
class Refused:
    """What does not come out right, each with the reason: new forwards by their modules' paths, and groups by name.

    Groups in `steps` do with so many units and multiples of them, but not with fewer.
    """

    forwards: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    steps: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.forwards or self.groups or self.steps)


def rehearse(
    parts: Parts, plan: Plan, examples: Examples, recorded: Sequence[Any], training: bool, thorough: bool = True
) -> Refused:
    """What of a plan does not hold when its twin runs.

    At full width the twin must return what was `recorded` of the model for each of the examples. Where it does not, the
    model runs again beside its twin: what one run leaves behind for the next, a recording does not show. At narrow
    widths it must run, and give no NaN; in training mode too, where the plan knows that mode. Where it is not to be
    `thorough`, it must run at the smallest widths.
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
        smallest, *others = mixes(plan)
        tried = [smallest, *others] if thorough else [smallest]
        found = _narrow(twin, plan, run, tried, training=False, values=thorough)
        if not found and training and thorough:
            found = _narrow(twin, plan, run, [smallest], training=True, values=True)
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
        paths = _rewritten(error.__traceback__, plan) or list(plan.rewrites)
        return Refused(forwards=dict.fromkeys(paths, _reason(error)))
    reason = f"its twin does not come out right at full width: {_told(error)}"
    return Refused(groups=dict.fromkeys(plan.groups, reason))


def _narrow(twin: nn.Module, plan: Plan, run: Inputs, tried: Sequence[Widths], training: bool, values: bool) -> Refused:
    """What fails at narrow widths; nothing where the model itself does not run on this."""
    with proving(twin, training=training) as output:

        def fails(widths: Widths) -> Exception | None:
            try:
                with at_widths(twin, widths):
                    made = output(twin, run)
                if values:
                    _finite(made)
            except Exception as error:
                return error
            return None

        for widths in tried:
            error = fails(widths)
            if error is None:
                continue
            if not fails(plan.full()):
                return _blamed(plan, widths, error, fails)
            # the model gives NaN or infinity itself: that it runs at all is still to be seen
            return _narrow(twin, plan, run, tried, training, values=False) if values else Refused()
    return Refused()


def mixes(plan: Plan) -> Iterator[Widths]:
    """Widths to try: the smallest; every other group at its smallest, where there are others; and mixed ones."""
    full, smallest = plan.full(), {name: g.smallest for name, g in plan.groups.items()}
    yield smallest
    if len(full) > 1:
        yield {name: (full if i % 2 else smallest)[name] for i, name in enumerate(full)}
    generator = random.Random(0)
    yield {name: step * generator.randint(1, max(1, full[name] // step)) for name, step in smallest.items()}


def _blamed(plan: Plan, widths: Widths, error: Exception, fails: Callable[[Widths], Exception | None]) -> Refused:
    """Which new forward, or else which groups, an error at some widths is to be laid to."""
    paths = _rewritten(error.__traceback__, plan)
    if paths:
        return Refused(forwards=dict.fromkeys(paths, _reason(error)))
    full = plan.full()
    narrow = [name for name, width in widths.items() if width != full[name]]
    kept = _fewest(narrow, lambda names: fails({**full, **{name: widths[name] for name in names}}) is not None)
    step = (
        _step(plan.groups[kept[0]], widths[kept[0]], lambda more: fails({**full, **more})) if len(kept) == 1 else None
    )
    if step is not None:
        return Refused(steps={kept[0]: step})
    last = fails({**full, **{name: widths[name] for name in kept}}) or error
    told = ", ".join(f"{name} at {widths[name]} of {full[name]}" for name in kept)
    return Refused(groups=dict.fromkeys(kept, f"with {told} it does not run: {_told(last)}"))


def _step(group: Group, width: int, fails: Callable[[Widths], Exception | None]) -> int | None:
    """The smallest step in which a group can go, where it cannot at its present one."""
    larger = range(width + 1, group.size // 2 + 1)
    steps = [n for n in larger if group.size % n == 0 and n % group.granularity == 0]
    return next((n for n in steps[:STEPS] if fails({group.name: n}) is None), None)


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
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all():
            raise ProofError("the output holds NaN or infinity")


def _rewritten(trace: TracebackType | None, plan: Plan) -> list[str]:
    """The innermost module with a new forward of this plan in a traceback."""
    paths: list[str] = []
    while trace is not None:
        rewritten = trace.tb_frame.f_locals.get("self")
        if isinstance(rewritten, Rewritten):
            elastic = elastic_of(rewritten.owner)
            paths = [elastic.path] if elastic is not None and elastic.path in plan.rewrites else paths
        trace = trace.tb_next
    return paths


def other_inputs(parts: Parts, plan: Plan, examples: Examples) -> Inputs | None:
    """Inputs of another length or batch that the model takes, and that its twin does not take alike at full width.

    Only code that was rewritten can tell them from the examples: it knows the sizes that it has seen.
    """
    model = copy_of(parts, lambda _, tensor: tensor).model
    twin = twin_of(parts, plan, examples)
    with proving(model, twin) as output, at_widths(twin, 1.0):
        for run in runs(examples):
            for other in filter(None, (longer(run, 1), longer(run, 0))):
                try:
                    right = output(model, other)
                except Exception:  # the model takes no inputs of this kind
                    continue
                try:
                    difference(right, output(twin, other))
                except Exception:
                    return other
    return None


def longer(run: Inputs, dim: int) -> Inputs | None:
    """Inputs with more positions in a dimension: all that are as long as the first there; None where there are none."""
    given = [tensor for tensor in tensors((run.args, run.kwargs)) if tensor.dim() > dim and tensor.dim() < 4]
    if not given or any(tensor.is_meta for tensor in given):
        return None
    size = given[0].shape[dim]

    def grown(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor) or leaf.dim() <= dim or leaf.shape[dim] != size:
            return leaf
        return leaf.index_select(dim, torch.arange(size + MORE, device=leaf.device) % size)

    return Inputs(*pytree.tree_map(grown, (run.args, run.kwargs)))
