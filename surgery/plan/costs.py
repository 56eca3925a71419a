"""What a plan costs, as one polynomial in the widths of its groups: exact for one model, and for thousands at once."""

from __future__ import annotations

import functools
import math
import operator
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import TypeAlias

import torch
from torch import Tensor

from surgery.axes.layout import Layout, Present, Sum
from surgery.plan.units import Home, Units

Term: TypeAlias = tuple[int, ...]  # a product of groups, told by their columns, and of `gates` behind these
Polynomial: TypeAlias = Counter[Term]  # a factor for each product


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


MEASURES = tuple(field.name for field in fields(Cost))


@dataclass(frozen=True)
class CostModel:
    """Costs by widths: of one model by its widths' names (`at`), or of many by a tensor of widths (`__call__`).

    Attributes:
        groups: the column of each group, by name.
        terms: for each product of columns, what it counts for parameters, bytes and MACs.
        gates: columns behind those of groups: one where a group is wider than this, zero where it is not. Modules that
            come and go count by them.
    """

    groups: Mapping[str, int]
    terms: Mapping[Term, tuple[int, int, int]]
    gates: tuple[tuple[int, int], ...] = ()

    def at(self, widths: Mapping[str, int]) -> Cost:
        """The costs of one model, as Python's integers: they are exact, however large."""
        row = [widths[name] for name in self.groups]
        row += [int(row[column] > rank) for column, rank in self.gates]
        products = [math.prod(row[column] for column in term) for term in self.terms]
        return Cost(*(sum(map(operator.mul, products, factors)) for factors in zip(*self.terms.values(), strict=True)))

    def __call__(self, widths: Tensor) -> Tensor:
        """(B, 3) parameters, bytes and MACs of (B, groups) widths, all int64."""
        columns, factors = self._tables
        ones = torch.ones(len(widths), 1, dtype=torch.long)
        gates = [(widths[:, column] > rank).long()[:, None] for column, rank in self.gates]
        return torch.cat([widths, *gates, ones], 1)[:, columns].prod(2) @ factors

    @functools.cached_property
    def _tables(self) -> tuple[Tensor, Tensor]:
        """(T, D) the columns that each term is a product of, filled up with a column of ones; (T, 3) its factors."""
        depth, one = max(1, *map(len, self.terms)), len(self.groups) + len(self.gates)
        columns = [[*term, *[one] * (depth - len(term))] for term in self.terms]
        return torch.tensor(columns), torch.tensor(list(self.terms.values()))

    def row(self, widths: Mapping[str, int]) -> Tensor:
        """(groups) the widths as a tensor."""
        return torch.tensor([widths[name] for name in self.groups], dtype=torch.long)

    def named(self, row: Tensor) -> dict[str, int]:
        """A row as widths by name."""
        return dict(zip(self.groups, row.tolist(), strict=True))


NO_MODULES = Units({})


def cost_model(
    groups: Iterable[str],
    layouts: Mapping[str, Iterable[Layout]],
    parameters: Mapping[str, int],
    stored_elements: Mapping[str, tuple[int, int]],
    macs: Iterable[Layout],
    units: Units = NO_MODULES,
) -> CostModel:
    """The costs of a plan, from these fields of it (`Plan.cost_model`)."""
    columns = _Columns(units, {name: column for column, name in enumerate(groups)})
    elements = {name: _product(dims, columns) for name, dims in layouts.items()}
    params, stored, multiplied = Polynomial(), Polynomial(), Polynomial()

    def tensor(name: str, full: int) -> Polynomial:
        return _times(elements.get(name, Polynomial({(): full})), columns.while_there(units.homes(name)))

    for name, full in parameters.items():
        _add(params, tensor(name, full))
    for name, (full, size) in stored_elements.items():
        _add(stored, tensor(name, full), size)
    for dim in macs:
        _add(multiplied, _size(dim, columns))
    terms = sorted({(), *params, *stored, *multiplied})
    counted = {term: (params[term], stored[term], multiplied[term]) for term in terms}
    return CostModel(columns.groups, counted, tuple(columns.gates))


@dataclass(frozen=True)
class _Columns:
    """The columns of groups, and those of gates, which are added as they are asked for."""

    units: Units
    groups: Mapping[str, int]
    gates: dict[tuple[int, int], int] = field(default_factory=dict)

    def while_there(self, homes: Iterable[Home]) -> Polynomial:
        """One where all these units are there, else zero."""
        wanted = sorted({(self.groups[group], self.units.groups[group].rank(unit)) for group, unit in homes})
        return Polynomial({tuple(self.gates.setdefault(g, len(self.groups) + len(self.gates)) for g in wanted): 1})


def _add(total: Polynomial, part: Polynomial, times: int = 1) -> None:
    for term, factor in part.items():
        total[term] += times * factor


def _product(dims: Iterable[Layout], columns: _Columns) -> Polynomial:
    """The elements of a tensor, as a sum of products of widths."""
    return functools.reduce(_times, (_size(dim, columns) for dim in dims), Polynomial({(): 1}))


def _size(dim: Layout, columns: _Columns) -> Polynomial:
    """The size of a dimension, as a sum of products of widths."""
    result: Polynomial = Polynomial({(): 1})
    for factor in dim:
        if isinstance(factor, Sum):
            part = Polynomial()
            for layout in factor.terms:
                _add(part, _size(layout, columns))
        elif isinstance(factor, Present):
            part = columns.while_there([(factor.group, factor.unit)])
        else:
            part = Polynomial({(columns.groups[factor.group],): 1} if factor.group else {(): factor.size})
        result = _times(result, part)
    return result


def _times(a: Polynomial, b: Polynomial) -> Polynomial:
    result = Polynomial()
    for first, x in a.items():
        for second, y in b.items():
            result[tuple(sorted(first + second))] += x * y
    return result
