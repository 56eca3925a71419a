"""Least-squares refits: what reads cut axes is fitted to what the full model says there, site by site.

Rows X of a site's inputs in a small model, T what the full model has at the same places. The weight V that takes the
place of the slice W is argmin |X V' - T|² + ridge |V - W|². So it is W where X W' is T already, and never worse on the
rows than W. For several widths at once, with one weight for all of them, the sum over the widths is minimised: the
expected error under structural dropout, in closed form.
"""

# R rows, I columns (with a one for the bias), O outputs

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from tqdm import tqdm

from surgery.adapters.plain_attention import MultiheadAttention
from surgery.axes import layout
from surgery.axes.layout import Layout
from surgery.modules.inputs import Inputs
from surgery.modules.modes import evaluating
from surgery.modules.tree import named_modules, named_parameters
from surgery.plan.plan import Plan
from surgery.refitting.lockstep import Pause, together
from surgery.refitting.sites import Listener, Site, Visit
from surgery.refitting.statistics import ROWS, names_of, picked, whole, with_ones

RIDGE = 1e-3  # of the mean square of a column


@dataclass
class Member:
    """A small model of a family, and how much it counts."""

    model: nn.Module
    widths: Mapping[str, int]
    weight: float = 1.0
    parameters: Mapping[str, Tensor] = field(default_factory=dict)


@torch.no_grad()
def refit(
    full: nn.Module, members: Sequence[Member], plan: Plan, batches: Sequence[Inputs], progress: bool = False
) -> dict[str, Tensor]:
    """Fit the weights of small models to the full one, in place. Returns the full-size weights that they are slices of.

    `full` and the members are plain models over tensors of their own; where members share units, they share weights.
    """
    for member in members:
        member.parameters = {plan.canonical(name): p for name, p in named_parameters(member.model)}
    originals = {plan.canonical(name): p for name, p in named_parameters(full)}
    shared = _used_otherwise(full, plan, batches[0])
    models = [full, *(member.model for member in members)]
    names = {id(model): names_of(model, plan) for model in models}
    found: dict[str, Tensor] = {}
    with contextlib.ExitStack() as stack:
        for model in models:
            stack.enter_context(evaluating(model))
            stack.enter_context(open_attention(model))
        pairs = list(itertools.product(models, batches))
        bodies = [_body(model, names[id(model)], run) for model, run in pairs]
        sites = tqdm(together(bodies), "refit", disable=not progress, leave=False, unit=" sites")
        for weight, visits in sites:
            if weight in shared:
                continue
            rows = [visits[i : i + len(batches)] for i in range(0, len(visits), len(batches))]
            known = [visit for visit in visits if visit is not None]
            if all(visit.site == known[0].site for visit in known) and any(rows[0]):
                found |= _fit(known[0].site, originals, rows, members, plan)
    return found


def _body(model: nn.Module, names: Mapping[int, str], run: Inputs) -> Callable[[Pause], None]:
    def body(pause: Pause) -> None:
        with Listener(names, pause):
            model(*run.args, **run.kwargs)

    return body


def _used_otherwise(full: nn.Module, plan: Plan, run: Inputs) -> set[str]:
    """The parameters that other calls than those at sites use, such as a table of words that is the last weight."""
    with evaluating(full), open_attention(full), Listener(names_of(full, plan), lambda _: None) as listener:
        full(*run.args, **run.kwargs)
    others: set[str] = listener.others
    return others


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
class _Seen:
    """What a member has seen at a site: which outputs and columns, `of` how many, and moments of inputs and lacks."""

    of: int
    out: Tensor
    columns: Tensor
    inputs: Tensor  # (I, I) of its columns
    lacks: Tensor  # (O, I) of its outputs and columns


def _fit(
    site: Site,
    originals: Mapping[str, Tensor],
    visits: Sequence[Sequence[Visit | None]],
    members: Sequence[Member],
    plan: Plan,
) -> dict[str, Tensor]:
    """The new weight of a site and its bias, in full size; every member has its slice of them."""
    original = whole(site, originals).double().cpu()
    seen = [_seen(site, original, visits[0], mine, m, plan) for mine, m in zip(visits[1:], members, strict=True)]
    new = original.clone()
    has = torch.stack([_mask(len(original), one.out) for one in seen])
    for pattern in has.unique(dim=1).T:  # outputs that the same members have are fitted together
        if bool(pattern.any()):
            mine = (has == pattern[:, None]).all(0)
            new[mine] += _step(mine, [(one, m.weight) for one, m, of in zip(seen, members, pattern, strict=True) if of])
    for one, member in zip(seen, members, strict=True):
        _write(site, member.parameters, new[one.out][:, one.columns])
    full = {name: originals[name].clone() for name in (site.weight, site.bias) if name is not None}
    _write(site, full, new)
    return full


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
    zeros = original.new_zeros(len(columns), len(columns)), original.new_zeros(len(out), len(columns))
    one = _Seen(original.shape[1], out, columns, *zeros)
    part, share = original[out][:, columns], -(-ROWS // len(full))
    for number, (a, b) in enumerate(zip(full, own, strict=True)):
        if a is None or b is None or a.count != b.count:
            continue
        index = picked(a, share, number)
        x, y = (with_ones(visit.rows(index), site).float() for visit in (b, a))
        lack = y @ original[out].to(y).T - x @ part.to(x).T
        one.inputs += (x.T @ x).double().cpu()
        one.lacks += (lack.T @ x).double().cpu()
    return one


def _step(outputs: Tensor, seen: Sequence[tuple[_Seen, float]]) -> Tensor:
    """(O, I) what is to be added to some outputs' weights. Columns that nobody has stay."""
    used = torch.cat([one.columns for one, _ in seen]).unique()
    inputs, lacks = torch.zeros(len(used), len(used)).double(), torch.zeros(len(outputs), len(used)).double()
    for one, weight in seen:
        at = torch.searchsorted(used, one.columns)
        inputs[at[:, None], at] += weight * one.inputs
        lacks[one.out[:, None], at] += weight * one.lacks
    inputs.diagonal().add_(RIDGE * inputs.diagonal().mean() + torch.finfo(torch.float64).tiny)
    step = torch.zeros(int(outputs.sum()), seen[0][0].of).double()
    step[:, used] = torch.cholesky_solve(lacks[outputs].T, torch.linalg.cholesky(inputs)).T
    return step


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
