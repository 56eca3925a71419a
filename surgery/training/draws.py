"""How widths are drawn at each training forward. A draw is any callable `(plan, generator) -> mapping`.

The method is structural dropout (Knodt 2022, arXiv:2205.06906): every feature after a random index is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType

import torch

from surgery.errors import InputError
from surgery.plan.groups import DEPTH
from surgery.plan.plan import Draw, Plan


def _uniform(count: int, generator: torch.Generator) -> list[float]:
    return torch.rand(count, generator=generator).tolist()


def _probability(value: float, name: str = "p") -> None:
    if not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InputError(f"{name} is a probability in [0, 1], got {value!r}")


def check_draw(draw: object) -> None:
    """Raises InputError for what is no draw, and for a function that makes draws and was not called."""
    if isinstance(draw, FunctionType) and draw.__module__.startswith(__package__) and draw.__name__ in CALLED:
        called = f"surgery.{draw.__name__}({CALLED[draw.__name__]})"
        raise InputError(f"surgery.{draw.__name__} makes draws: call it, {called}")
    if not callable(draw) or isinstance(draw, type):
        raise InputError(f"draw is a callable (plan, generator) -> mapping, such as surgery.paper(), got {draw!r}")


# How the functions that make draws are called.
CALLED = {
    "paper": "", "shared": "", "mixed": "", "deep": "", "sandwich": "", "grid": "[0.25, 0.5]",
    "warmup": "surgery.mixed(), 500",
}  # fmt: skip


@dataclass(frozen=True)
class Paper:
    """The paper's draw; see `paper`."""

    p: float
    lower: int
    step: int
    rescale: bool

    def __call__(self, plan: Plan, generator: torch.Generator) -> dict[str, int]:
        chances = _uniform(2 * len(plan.free), generator)
        drawn = {}
        for name, chance, place in zip(plan.free, chances[::2], chances[1::2], strict=True):
            group = plan.groups[name]
            lower, step = (1, 1) if group.counted else (self.lower, self.step)
            cuts = range(group.at_least(lower), group.size, math.lcm(step, group.granularity))
            if chance < self.p and len(cuts):
                drawn[group.name] = cuts[int(place * len(cuts))]
        return drawn


def paper(p: float = 0.5, lower: int = 1, step: int = 1, rescale: bool = False) -> Paper:
    """With probability `p` each group, independently, is cut at a uniform draw from `range(lower, size, step)`.

    Args:
        p: the probability that a group is cut at a training forward; otherwise it is full.
        lower: the smallest width of features that is drawn.
        step: the distance between widths of features that may be drawn. Widths are multiples of the granularity too.
        rescale: multiply kept features by size / width, as the paper does before the activation. The factor is folded
            into the parameters that make the features, when training and when shrinking alike.
    """
    _probability(p)
    for name, value in {"lower": lower, "step": step}.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} is an int of at least 1, got {value!r}")
    return Paper(p, lower, step, rescale)


@dataclass(frozen=True)
class Shared:
    """One fraction for all groups; see `shared`."""

    p: float
    lower: float
    log: bool
    smallest: float

    def __call__(self, plan: Plan, generator: torch.Generator) -> dict[str, float]:
        return dict.fromkeys(plan.free, self.fraction(generator))

    def fraction(self, generator: torch.Generator) -> float:
        chance, place = _uniform(2, generator)
        if chance >= self.p:
            return 1.0
        place = max(0.0, place - self.smallest) / (1 - self.smallest) if self.smallest < 1 else 0.0
        if self.log:
            return min(1.0, math.pow(self.lower, 1 - place))
        return self.lower + place * (1 - self.lower)


def shared(p: float = 0.9, lower: float = 1 / 32, log: bool = True, smallest: float = 0.0) -> Shared:
    """With probability `p`, one fraction for all groups, between `lower` and 1; else full.

    Args:
        p: the probability that anything is cut at a training forward.
        lower: the smallest fraction that is drawn.
        log: draw log-uniformly, so that each halving is as likely as the next; else uniformly.
        smallest: the share of cuts that are at `lower` itself. It is the hardest width to learn, and helps the others.
    """
    _probability(p)
    _probability(smallest, "smallest")
    if not isinstance(lower, int | float) or not 0 < lower <= 1:
        raise InputError(f"lower is a fraction in (0, 1], got {lower!r}")
    return Shared(p, lower, log, float(smallest))


@dataclass(frozen=True)
class Grid:
    """One of a few fractions for all groups; see `grid`."""

    fractions: tuple[float, ...]

    def __call__(self, plan: Plan, generator: torch.Generator) -> dict[str, float]:
        return dict.fromkeys(plan.free, self.fraction(generator))

    def fraction(self, generator: torch.Generator) -> float:
        return self.fractions[int(torch.randint(len(self.fractions), (1,), generator=generator))]


def grid(fractions: Sequence[float]) -> Grid:
    """One of `fractions`, each as likely as the others, for all groups."""
    chosen = tuple(fractions) if isinstance(fractions, Iterable) else ()
    if not chosen or not all(isinstance(fraction, int | float) and 0 < fraction <= 1 for fraction in chosen):
        raise InputError(f"fractions is a sequence of one or more numbers in (0, 1], got {fractions!r}")
    return Grid(tuple(map(float, chosen)))


@dataclass(frozen=True)
class Mixed:
    """Mostly one fraction for all groups, sometimes one for each; see `mixed`."""

    uniform: Shared | Grid
    independent: float
    p: float = 1.0

    def __call__(self, plan: Plan, generator: torch.Generator) -> dict[str, float]:
        if self.p < 1 and _uniform(1, generator)[0] >= self.p:
            return {}
        (chance,) = _uniform(1, generator)
        if chance >= self.independent:
            return self.uniform(plan, generator)
        return {name: self.uniform.fraction(generator) for name in plan.free}


def mixed(uniform: Shared | Grid | None = None, independent: float = 0.25, p: float = 1.0) -> Mixed:
    """With probability `p` widths are cut: mostly one fraction for all groups, with probability `independent` one each.

    A model that is trained at uniform widths only fails where each group has a width of its own.

    Args:
        uniform: `shared(...)` or `grid(...)`, where fractions come from. Default: `shared()`.
        independent: the probability that every group gets its own fraction.
        p: the probability that anything is cut at a training forward; otherwise all of it is full.
    """
    uniform = shared() if uniform is None else uniform
    if not isinstance(uniform, Shared | Grid):
        raise InputError(f"uniform is surgery.shared(...) or surgery.grid(...), got {uniform!r}")
    _probability(independent, "independent")
    _probability(p)
    return Mixed(uniform, float(independent), float(p))


DEPTHS = (1 / 4, 1 / 2, 3 / 4)
# What is cut, each as likely (docs/benchmarks.md, depth and width): whether depths are, and whether widths are.
TURNS = ((True, False), (True, False), (False, True), (False, True), (True, True))
APART = 0.25  # how often lists of modules have depths of their own


@dataclass(frozen=True)
class Deep:
    """Widths, depths, or both; see `deep`."""

    draw: Draw
    depths: tuple[float, ...]
    turns: tuple[tuple[bool, bool], ...] = TURNS

    @property
    def rescale(self) -> bool:
        return bool(getattr(self.draw, "rescale", False))

    def __call__(self, plan: Plan, generator: torch.Generator) -> Mapping[str, int | float]:
        drawn = self.draw(plan, generator)
        lists = [name for name in plan.free if plan.groups[name].kind == DEPTH]
        if not lists or not drawn:
            return drawn
        widths = {name: width for name, width in drawn.items() if name not in lists}
        if not widths and any(plan.groups[name].kind != DEPTH for name in plan.free):
            return drawn  # a draw of depths alone
        shorter, narrower = self.turns[int(torch.randint(len(self.turns), (1,), generator=generator))]
        apart = float(torch.rand(1, generator=generator)) < APART
        places = torch.randint(len(self.depths), (len(lists),), generator=generator).tolist()
        depths = {name: self.depths[places[i if apart else 0]] for i, name in enumerate(lists)}
        return (widths if narrower else {}) | (depths if shorter else {})


def deep(draw: Draw | None = None, depths: Iterable[float] = DEPTHS) -> Deep:
    """Where modules may be left out: in two of five cuts depths alone, in two widths alone, in one both.

    Drawn together all the time, each is learnt at the other's worst; never together, models that are both shorter and
    narrower are not learnt. A model without such groups draws what `draw` gives.

    Args:
        draw: where the widths come from. Default: `surgery.mixed()`. What it leaves full stays full.
        depths: the fractions of depth that are drawn, each as likely as the others: one for all lists of modules, or
            in a quarter of the cases one for each.

    Raises InputError for what is no draw, and for depths that are no fractions.
    """
    chosen = tuple(depths) if isinstance(depths, Iterable) else ()
    if not chosen or not all(isinstance(depth, int | float) and 0 < depth <= 1 for depth in chosen):
        raise InputError(f"depths is a sequence of one or more numbers in (0, 1], got {depths!r}")
    draw = mixed() if draw is None else draw
    check_draw(draw)
    return Deep(draw, tuple(map(float, chosen)))


# Where a step has one width, few of them are learnt well: each that is added takes from the others. Half of the
# forwards are full, so that wide models keep up (docs/benchmarks.md, what a step draws).
FEW = (1 / 8, 1 / 4, 1 / 2)
ONE: Draw = deep(mixed(grid(FEW)))
DEFAULT: Draw = deep(mixed(grid(FEW), p=0.5))
