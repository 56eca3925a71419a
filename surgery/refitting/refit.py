"""Least-squares refits: what reads cut axes is fitted to what the full model says there, site by site.

Rows X of a site's inputs in a small model, T what the full model has at the same places. The weight V that takes the
place of the slice W is argmin |X V' - T|² + ridge |V - W|². So it is W where X W' is T already, and on the rows never
worse than W. Where the output is added to something (a residual stream), T makes up for what is wrong there as well.
How large the ridge is, rows tell that are held out; where none helps on these, W stays.

For several widths at once, with one weight for all of them, the sum over the widths is minimised: the expected error
under structural dropout, in closed form.
"""

# R rows, I columns (with a one for the bias), O outputs

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from tqdm import tqdm

from surgery.adapters.plain_attention import MultiheadAttention
from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.modules.inputs import Inputs
from surgery.modules.tree import named_modules
from surgery.plan.plan import Plan
from surgery.refitting.lockstep import Pause, together
from surgery.refitting.sites import Addend, Listener, Site, Visit
from surgery.refitting.statistics import (
    ROWS,
    WHOLE,
    WIDEST,
    apart,
    check_finite,
    lacks_modules,
    names_of,
    parameters_of,
    picked,
    whole,
    with_ones,
)
from surgery.refitting.sums import Sums

RIDGES = (1e-3, 1e-2, 1e-1)  # of the mean square of a column; which one is right, rows tell that were held out
TINY = torch.finfo(torch.float64).tiny
HELD = 5  # one batch in so many is held out, or one row where there are fewer batches


@dataclass
class Member:
    """A small model of a family, and how much it counts."""

    model: nn.Module
    widths: Mapping[str, int]
    weight: float = 1.0


@torch.no_grad()
def refit(
    full: nn.Module, members: Sequence[Member], plan: Plan, batches: Sequence[Inputs], progress: bool = False
) -> dict[str, Tensor]:
    """Fit the weights of small models to the full one, in place. Returns the full-size weights that they are slices of.

    `full` and the members are plain models over tensors of their own; where members share units, they share weights.
    """
    originals, own = parameters_of(full, plan), [parameters_of(m.model, plan, m.widths) for m in members]
    several, addends = _looked_at(Member(full, WHOLE), plan, batches[0])
    found: dict[str, Tensor] = {}
    bodies = [_body(one, plan, run, addends) for one in (Member(full, WHOLE), *members) for run in batches]
    for visits in tqdm(together(bodies), "refit", disable=not progress, leave=False, unit=" sites"):
        rows = [visits[i : i + len(batches)] for i in range(0, len(visits), len(batches))]
        full_visit = next((visit for visit in rows[0] if visit is not None), None)
        if full_visit is None or {full_visit.site.weight, full_visit.site.bias} & several:
            continue
        original = whole(full_visit, originals).double().cpu()
        if original.shape[1] > WIDEST:
            continue
        new, seen = _fitted(full_visit, original, rows, members, plan)
        for one, parameters in zip(seen, own, strict=True):
            if one.visit is not None:
                _write(one.visit, parameters, new[one.out][:, one.columns])
        site = full_visit.site
        found |= {n: originals[n].clone() for n in (site.weight, site.bias) if n is not None and n not in found}
        _write(full_visit, found, new)
    return found


def _body(one: Member, plan: Plan, run: Inputs, addends: Mapping[Site, Addend]) -> Callable[[Pause], None]:
    """A run of a copy, over the same parameters: what a forward keeps on modules is not that of another batch.

    Calls of a model that lacks modules have other numbers than those of the full one: it is looked at by itself.
    """
    if lacks_modules(plan, one.widths):
        addends = _looked_at(one, plan, run)[1]

    def body(pause: Pause) -> None:
        copy = apart(one.model).eval()
        with open_attention(copy), Listener(names_of(copy, plan, one.widths), pause, addends):
            copy(*run.args, **run.kwargs)

    return body


def _looked_at(one: Member, plan: Plan, run: Inputs) -> tuple[set[str | None], dict[Site, Addend]]:
    """The parameters that are used at several places (a table of words as the last weight, a layer called twice).

    And for sites whose output is added to something, which call makes that.
    """
    seen: Counter[tuple[str, int]] = Counter()
    copy = apart(one.model).eval()

    def visited(visit: Visit) -> None:
        site = visit.site
        seen.update((name, site.group) for name in (site.weight, site.bias) if name is not None)

    with open_attention(copy), Sums(names_of(copy, plan, one.widths), visited) as sums:
        sums.returned(copy(*run.args, **run.kwargs))
    return {*sums.others, *(name for (name, _), times in seen.items() if times > 1)}, sums.addends


@contextlib.contextmanager
def open_attention(model: nn.Module) -> Iterator[None]:
    """Attention of torch computes in the open inside, so that its last layer is seen."""
    layers = [module for _, module in named_modules(model) if type(module) is nn.MultiheadAttention]
    for layer in layers:
        layer.__class__ = MultiheadAttention
        vars(layer)["head_dim"] = vars(layer).get("head_dim", layer.embed_dim // layer.num_heads)
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = nn.MultiheadAttention


@dataclass
class _Moments:
    """Sums over rows of a member: of products of inputs (I, I), and of what outputs lack with inputs (O, I)."""

    inputs: Tensor
    lacks: Tensor

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.inputs + other.inputs, self.lacks + other.lacks)


@dataclass
class _Seen:
    """What a member has seen at a site: which outputs and columns it has, and moments of rows to fit and held out.

    Without a visit it has none of the site.
    """

    visit: Visit | None
    out: Tensor
    columns: Tensor
    moments: tuple[_Moments, _Moments]


def _fitted(
    visit: Visit,
    original: Tensor,
    visits: Sequence[Sequence[Visit | None]],
    members: Sequence[Member],
    plan: Plan,
) -> tuple[Tensor, list[_Seen]]:
    """The new weight of a site, in full size, and what each member has of it."""
    seen = [_seen(visit, original, visits[0], mine, m, plan) for mine, m in zip(visits[1:], members, strict=True)]
    new = original.clone()
    has = torch.stack([_mask(len(original), one.out) for one in seen])
    for pattern in has.unique(dim=1).T:  # outputs that the same members have are fitted together
        if bool(pattern.any()):
            mine = (has == pattern[:, None]).all(0)
            sharing = [(one, m.weight) for one, m, of in zip(seen, members, pattern, strict=True) if of]
            new[mine] += _step(mine, original.shape[1], sharing)
    return new, seen


def _seen(
    visit: Visit,
    original: Tensor,
    full: Sequence[Visit | None],
    own: Sequence[Visit | None],
    member: Member,
    plan: Plan,
) -> _Seen:
    site, first = visit.site, next((one for one in own if one is not None), None)
    out, columns = _remaining(visit, first, original.shape[1], member, plan)
    if not len(out):
        first = None
    parts = [
        _Moments(original.new_zeros(len(columns), len(columns)), original.new_zeros(len(out), len(columns)))
        for _ in range(2)
    ]
    part, share = original[out][:, columns], -(-ROWS // len(full))
    for number, (a, b) in enumerate(zip(full, own, strict=True)):
        if first is None or a is None or b is None or a.count != b.count:
            continue
        index = picked(a, share, number)
        x, y = (with_ones(one.rows(index), site).float() for one in (b, a))
        lack = y @ original[out].to(y).T - x @ part.to(x).T + _apart(a.addend(index), b.addend(index), out)
        held = torch.arange(len(x)) % HELD == 0 if len(full) < HELD else torch.full((len(x),), number % HELD == 0)
        for moments, rows in zip(parts, (~held, held), strict=True):
            moments.inputs += (x[rows].T @ x[rows]).double().cpu()
            moments.lacks += (lack[rows].T @ x[rows]).double().cpu()
    for moments in parts:
        check_finite(site.weight, moments.lacks)
    return _Seen(first, out, columns, (parts[0], parts[1]))


def _apart(full: Tensor | None, own: Tensor | None, out: Tensor) -> Tensor | float:
    """(R, O) how far what outputs are added to is from what it is in the full model."""
    if full is None or own is None or own.shape != (len(full), len(out)):
        return 0.0
    return (full[:, out] - own).float()


def _remaining(full: Visit, own: Visit | None, count: int, member: Member, plan: Plan) -> tuple[Tensor, Tensor]:
    """Which outputs and columns of a site a member has; no outputs where it is not there, or a group is another one."""
    layouts = plan.layouts[full.site.weight]
    every = torch.arange(layout.width(layouts[full.site.out], {}))
    out = _index(layouts[full.site.out], member.widths)
    out = out[:0] if own is None else out[own.outputs]
    mine = every[full.outputs]
    out = out - int(mine[0]) if bool(torch.isin(out, mine).all()) else out[:0]
    channels = layout.width(layouts[full.site.inside], {})
    places = (count - (full.site.bias is not None)) // channels
    columns = (_index(layouts[full.site.inside], member.widths)[:, None] * places + torch.arange(places)).flatten()
    return out, columns if full.site.bias is None else torch.cat([columns, torch.tensor([count - 1])])


def _step(outputs: Tensor, width: int, seen: Sequence[tuple[_Seen, float]]) -> Tensor:
    """(O, `width`) what is to be added to some outputs' weights; nothing, where that would not help on other rows."""
    used = torch.cat([one.columns for one, _ in seen]).unique()
    fitted, held = (_united(outputs, used, [(one, one.moments[part], w) for one, w in seen]) for part in (0, 1))
    gains = [(_gain(_solved(fitted, ridge), held), ridge) for ridge in RIDGES]
    gain, ridge = max(gains)
    step = torch.zeros(int(outputs.sum()), width).double()
    if gain > 0:
        step[:, used] = _solved(fitted + held, ridge)
    return step


def _united(outputs: Tensor, used: Tensor, parts: Sequence[tuple[_Seen, _Moments, float]]) -> _Moments:
    """The moments of several members, over the columns that any of them has."""
    sums = _Moments(torch.zeros(len(used), len(used)).double(), torch.zeros(len(outputs), len(used)).double())
    for one, moments, weight in parts:
        at = torch.searchsorted(used, one.columns)
        sums.inputs[at[:, None], at] += weight * moments.inputs
        sums.lacks[one.out[:, None], at] += weight * moments.lacks
    return _Moments(sums.inputs, sums.lacks[outputs])


def _solved(moments: _Moments, ridge: float) -> Tensor:
    diagonal = moments.inputs.diagonal()
    damped = moments.inputs + torch.diag(torch.full_like(diagonal, ridge * float(diagonal.mean()) + TINY))
    return torch.cholesky_solve(moments.lacks.T, torch.linalg.cholesky(damped)).T


def _gain(step: Tensor, moments: _Moments) -> float:
    """What a step takes from the squared error of some rows."""
    return float(2 * (step * moments.lacks).sum() - (step @ moments.inputs * step).sum())


def _index(dim: Layout, widths: Mapping[str, int]) -> Tensor:
    """The positions of a dimension that remain."""
    kept = layout.kept(dim, widths)
    return kept if isinstance(kept, Tensor) else torch.arange(layout.width(dim, {}) if kept is None else kept)


def _mask(size: int, index: Tensor) -> Tensor:
    return torch.zeros(size, dtype=torch.bool).index_fill(0, index, True)


def _write(visit: Visit, parameters: Mapping[str, Tensor], matrix: Tensor) -> None:
    site = visit.site
    weight = parameters[site.weight].data[visit.outputs]
    if site.bias is not None:
        parameters[site.bias].data[visit.outputs] = matrix[:, -1].to(weight)
        matrix = matrix[:, :-1]
    weight.copy_(site.weight_of(matrix, weight))
