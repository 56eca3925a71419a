"""What a searched model may cost, and the largest uniform model that fits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from surgery.curves.curve import Curve
from surgery.curves.limits import Bound, bound
from surgery.curves.points import MEASURES, Point
from surgery.errors import InputError, WidthError
from surgery.measuring.rows import listed
from surgery.plan.costs import CostModel

LIMITS = ("max_params", "max_bytes", "max_macs", "max_latency")


@dataclass(frozen=True)
class Budget:
    """The limits on one model, as `choose` reads them."""

    bounds: tuple[Bound, ...]

    def fits(self, point: Point) -> bool:
        return all(item.excess(point) <= 0 for item in self.bounds)

    def load(self, costs: Tensor, seconds: Tensor | None = None) -> Tensor:
        """(B) the largest share of a limit that (B, 3) costs and (B) seconds take."""
        known = dict(zip(MEASURES, costs.unbind(1), strict=True)) | ({} if seconds is None else {"latency": seconds})
        shares = [known[item.measure].double() / item.limit for item in self.bounds if item.measure in known]
        return torch.stack(shares).amax(0) if shares else torch.zeros(len(costs))

    @property
    def timed(self) -> bool:
        return any(item.measure == "latency" for item in self.bounds)

    def __str__(self) -> str:
        return ", ".join(map(str, self.bounds))


BudgetSpec: TypeAlias = "float | str | Mapping[str, float | str]"


def budgets(curve: Curve, given: Iterable[BudgetSpec]) -> list[Budget]:
    """The budgets that a search was given: a share is one of the MACs. Raises InputError for anything else."""
    items = listed("search", "budgets", given, "(0.5, 0.25)")
    found = [_budget(curve, {"max_macs": item} if isinstance(item, float | str) else item) for item in items]
    if not found:
        raise InputError("search was given no budgets: pass for example budgets=(0.5, 0.25)")
    return found


def _budget(curve: Curve, given: Mapping[str, float | str]) -> Budget:
    if not isinstance(given, Mapping) or not given or set(given) - set(LIMITS):
        raise InputError(
            f"search: a budget is a float, a share of the MACs, or a mapping of {', '.join(LIMITS)}, got {given!r}"
        )
    return Budget(tuple(bound(curve, name, value) for name, value in given.items()))


def largest(
    budget: Budget,
    fractions: list[float],
    widths: Callable[[float], dict[str, int]],
    prices: CostModel,
    seconds: Callable[[dict[str, int]], float],
) -> float:
    """The largest fraction whose uniform model fits. Raises WidthError where not even the smallest does."""
    rows = torch.stack([prices.row(widths(fraction)) for fraction in fractions])
    fitting = budget.load(prices(rows)) <= 1
    count = int(fitting.sum())  # costs rise with the fraction: those that fit are the first ones
    if budget.timed:
        count = _timed(budget, count, lambda row: seconds(widths(fractions[row])))
    if count == 0:
        smallest = ", ".join(f"{int(c):,} {name}" for name, c in zip(MEASURES, prices(rows[:1])[0], strict=True))
        percent = next((item.limit for item in budget.bounds if item.measure != "latency" and item.limit <= 100), None)
        hint = "" if percent is None else f". A share is at most 1, or written as '{percent:g}%'"
        raise WidthError(f"search: no uniform model is within {budget}. The smallest one has {smallest}{hint}")
    return fractions[count - 1]


def _timed(budget: Budget, high: int, seconds: Callable[[int], float]) -> int:
    """How many of the first `high` models are fast enough, by halving: as if time rose with the fraction."""
    limit = min(item.limit for item in budget.bounds if item.measure == "latency")
    low = 0
    while low < high:
        middle = (low + high) // 2
        if seconds(middle) <= limit:
            low = middle + 1
        else:
            high = middle
    return low
