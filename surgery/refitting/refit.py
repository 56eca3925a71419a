"""Least-squares refits: what reads cut axes is fitted to what the full model says there, site by site.

Rows X of a site's inputs in a small model, T what the full model has at the same places. The weight V that takes the
place of the slice W is argmin |X V' - T|² + ridge |V - W|². So it is W where X W' is T already, and on the rows never
worse than W. How large the ridge is, rows tell that are held out; where none helps on these, W stays.

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
from surgery.refitting.sites import Listener, Site, Visit
from surgery.refitting.statistics import ROWS, apart, check_finite, names_of, parameters_of, picked, whole, with_ones

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
    originals, *own = (parameters_of(model, plan) for model in (full, *(member.model for member in members)))
    several = _used_several_times(full, plan, batches[0])
    models = [full, *(member.model for member in members)]
    found: dict[str, Tensor] = {}
    bodies = [_body(model, plan, run) for model in models for run in batches]
    for weight, visits in tqdm(together(bodies), "refit", disable=not progress, leave=False, unit=" sites"):
        rows = [visits[i : i + len(batches)] for i in range(0, len(visits), len(batches))]
        known = [visit for visit in visits if visit is not None]
        site = known[0].site
        if not {weight, site.bias} & several and all(visit.site == site for visit in known) and any(rows[0]):
            new, seen = _fitted(site, originals, rows, members, plan)
            for one, parameters in zip(seen, own, strict=True):
                _write(site, parameters, new[one.out][:, one.columns])
            written = {name: originals[name].clone() for name in (site.weight, site.bias) if name is not None}
            _write(site, written, new)
            found |= written
    return found


def _body(model: nn.Module, plan: Plan, run: Inputs) -> Callable[[Pause], None]:
    """A run of a copy, over the same parameters: what a forward keeps on modules is not that of another batch."""

    def body(pause: Pause) -> None:
        copy = apart(model).eval()
        with open_attention(copy), Listener(names_of(copy, plan), pause):
            copy(*run.args, **run.kwargs)

    return body


def _used_several_times(full: nn.Module, plan: Plan, run: Inputs) -> set[str | None]:
    """The parameters that are used at several places: a table of words as the last weight, a layer called twice."""
    seen: Counter[str] = Counter()
    copy = apart(full).eval()

    def visited(visit: Visit) -> None:
        seen.update(name for name in (visit.site.weight, visit.site.bias) if name is not None)

    with open_attention(copy), Listener(names_of(copy, plan), visited) as listener:
        copy(*run.args, **run.kwargs)
    return {*listener.others, *(name for name, times in seen.items() if times > 1)}


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
    """What a member has seen at a site: which outputs and columns it has, and moments of rows to fit and held out."""

    out: Tensor
    columns: Tensor
    moments: tuple[_Moments, _Moments]


def _fitted(
    site: Site,
    originals: Mapping[str, Tensor],
    visits: Sequence[Sequence[Visit | None]],
    members: Sequence[Member],
    plan: Plan,
) -> tuple[Tensor, list[_Seen]]:
    """The new weight of a site, in full size, and what each member has of it."""
    original = whole(site, originals).double().cpu()
    seen = [_seen(site, original, visits[0], mine, m, plan) for mine, m in zip(visits[1:], members, strict=True)]
    new = original.clone()
    has = torch.stack([_mask(len(original), one.out) for one in seen])
    for pattern in has.unique(dim=1).T:  # outputs that the same members have are fitted together
        if bool(pattern.any()):
            mine = (has == pattern[:, None]).all(0)
            sharing = [(one, m.weight) for one, m, of in zip(seen, members, pattern, strict=True) if of]
            new[mine] += _step(mine, original.shape[1], sharing)
    return new, seen


def _seen(
    site: Site, original: Tensor, full: Sequence[Visit | None], own: Sequence[Visit | None], member: Member, plan: Plan
) -> _Seen:
    layouts = plan.layouts[site.weight]
    out = _index(layouts[site.out], member.widths)
    channels = layout.width(layouts[site.inside], {})
    places = (original.shape[1] - (site.bias is not None)) // channels
    columns = (_index(layouts[site.inside], member.widths)[:, None] * places + torch.arange(places)).flatten()
    if site.bias is not None:
        columns = torch.cat([columns, torch.tensor([original.shape[1] - 1])])
    parts = [
        _Moments(original.new_zeros(len(columns), len(columns)), original.new_zeros(len(out), len(columns)))
        for _ in range(2)
    ]
    part, share = original[out][:, columns], -(-ROWS // len(full))
    for number, (a, b) in enumerate(zip(full, own, strict=True)):
        if a is None or b is None or a.count != b.count:
            continue
        index = picked(a, share, number)
        x, y = (with_ones(visit.rows(index), site).float() for visit in (b, a))
        lack = y @ original[out].to(y).T - x @ part.to(x).T
        held = torch.arange(len(x)) % HELD == 0 if len(full) < HELD else torch.full((len(x),), number % HELD == 0)
        for moments, rows in zip(parts, (~held, held), strict=True):
            moments.inputs += (x[rows].T @ x[rows]).double().cpu()
            moments.lacks += (lack[rows].T @ x[rows]).double().cpu()
    for moments in parts:
        check_finite(site.weight, moments.lacks)
    return _Seen(out, columns, (parts[0], parts[1]))


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


def _write(site: Site, parameters: Mapping[str, Tensor], matrix: Tensor) -> None:
    weight = parameters[site.weight]
    if site.bias is not None:
        parameters[site.bias].data.copy_(matrix[:, -1])
        matrix = matrix[:, :-1]
    weight.data.copy_(site.weight_of(matrix, weight))
