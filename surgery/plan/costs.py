"""What a model costs at many widths at once: the costs of a plan as sums of products of widths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from surgery.axes.layout import Layout, Sum
from surgery.curves.points import MEASURES
from surgery.plan.plan import Plan

Terms = Counter[tuple[int, ...]]  # a factor for each product of groups, told by their columns


@dataclass(frozen=True)
class CostModel:
    """Exact costs by widths, as `surgery.cost` gives them, but for thousands of models in a moment.

    Attributes:
        groups: the column of each group, by name.
        columns: (T, D) the columns that each term is a product of; one more column holds ones.
        factors: (T, 3) what each term counts for parameters, bytes and MACs.
    """

    groups: Mapping[str, int]
    columns: Tensor
    factors: Tensor

    def __call__(self, widths: Tensor) -> Tensor:
        """(B, 3) parameters, bytes and MACs of (B, groups) widths, all int64."""
        ones = torch.ones(len(widths), 1, dtype=torch.long)
        return torch.cat([widths, ones], 1)[:, self.columns].prod(2) @ self.factors

    def row(self, widths: Mapping[str, int]) -> Tensor:
        """(groups) the widths as a tensor."""
        return torch.tensor([widths[name] for name in self.groups], dtype=torch.long)

    def named(self, row: Tensor) -> dict[str, int]:
        return dict(zip(self.groups, row.tolist(), strict=True))


def cost_model(plan: Plan) -> CostModel:
    """The costs of a plan, ready to be asked for many widths."""
    groups = {name: column for column, name in enumerate(plan.groups)}
    elements = {name: _product(dims, groups) for name, dims in plan.layouts.items()}
    totals: list[Terms] = [Counter() for _ in MEASURES]
    for name, full in plan.parameters.items():
        _add(totals[0], elements.get(name, Counter({(): full})))
    for name, (full, size) in plan.stored_elements.items():
        _add(totals[1], elements.get(name, Counter({(): full})), size)
    for dim in plan.macs:
        _add(totals[2], _polynomial(dim, groups))
    terms = sorted(set().union(*totals)) or [()]
    depth = max(1, max(map(len, terms)))
    columns = [[*term, *[len(groups)] * (depth - len(term))] for term in terms]
    return CostModel(groups, torch.tensor(columns), torch.tensor([[total[term] for total in totals] for term in terms]))


def _add(total: Terms, part: Terms, times: int = 1) -> None:
    for term, factor in part.items():
        total[term] += times * factor


def _product(dims: Iterable[Layout], groups: Mapping[str, int]) -> Terms:
    result: Terms = Counter({(): 1})
    for dim in dims:
        result = _times(result, _polynomial(dim, groups))
    return result


def _polynomial(dim: Layout, groups: Mapping[str, int]) -> Terms:
    """The size of a dimension, as a sum of products of widths."""
    result: Terms = Counter({(): 1})
    for factor in dim:
        part: Terms = Counter()
        if isinstance(factor, Sum):
            for layout in factor.terms:
                _add(part, _polynomial(layout, groups))
        else:
            term: tuple[int, ...] = (groups[factor.group],) if factor.group else ()
            part[term] = 1 if factor.group else factor.size
        result = _times(result, part)
    return result


def _times(a: Terms, b: Terms) -> Terms:
    result: Terms = Counter()
    for first, x in a.items():
        for second, y in b.items():
            result[tuple(sorted(first + second))] += x * y
    return result


@dataclass(frozen=True)
class Cost:
    """Costs of one model.

    Attributes:
        params: parameter elements, tied ones once.
        bytes: of the state_dict's parameters and buffers.
        macs: multiply-adds of the example inputs in eval mode: matmuls, convolutions, attention and recurrences. Where
            the amount of work depends on data, it is that of the captured run.
    """

    params: int
    bytes: int
    macs: int
