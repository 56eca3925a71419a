"""Integers in plain data objects that modules hold: each module follows its own, and nobody's object changes."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import enum
import random
import types

import pytest
import torch
from torch import nn

import surgery
from surgery.modules.plain_data import is_plain_data
from surgery.modules.verify import compare
from surgery.twin.setting import plan_of


@dataclasses.dataclass(frozen=True)
class Frozen:
    heads: int = 4
    head: int = 6
    width: int = 24
    rates: tuple = (1, 2)


class Guarded:
    """A configuration that does more than hold values when it is made and set."""

    made = 0

    def __init__(self, **values):
        type(self).made += 1
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name, value):
        if name in vars(self):
            raise AttributeError(f"{name} is set for good")
        super().__setattr__(name, value)

    @property
    def inner(self):
        return self.heads * self.head


class Nested(types.SimpleNamespace):
    """Attributes of `text` under names of its own, as in the configurations of two-tower models."""


SIZES = {"heads": 4, "head": 6, "width": 24}
CONFIGS = {
    "dataclass": Frozen(),
    "namespace": types.SimpleNamespace(**SIZES),
    "argparse": argparse.Namespace(**SIZES, name="tiny"),
    "guarded": Guarded(**SIZES),
    "nested": Nested(**SIZES, text=types.SimpleNamespace(layers=2, table=dict.fromkeys(range(99), 7))),
}


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.qkv = nn.Linear(config.width, 3 * config.heads * config.head)
        self.out = nn.Linear(config.heads * config.head, config.width)

    def forward(self, x):
        c = self.config
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, c.heads, c.head).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return x + self.out(y.reshape(b, n, c.heads * c.head))


@pytest.mark.parametrize("name", CONFIGS)
def test_each_module_has_the_integers_that_follow(name: str) -> None:
    config = CONFIGS[name]
    model = nn.Sequential(nn.Linear(5, 24), Attention(config), Attention(config), nn.Linear(24, 3))
    x = torch.randn(2, 4, 5)
    before, made = copy.copy(vars(config)), Guarded.made
    wrapped = surgery.wrap(model, x)
    plan = plan_of(wrapped)
    assert "1.config.heads" in plan.groups["1.qkv.o.0"].sets and not plan.rewrites
    widths = {"1.qkv.o.0": 2, "1.qkv.o.1": 3, "2.qkv.o.0": 1}
    small = surgery.shrink(wrapped, widths)
    with surgery.at_widths(wrapped, widths):
        assert (wrapped[1].config.heads, wrapped[2].config.heads) == (2, 1)
    assert [(m.config.heads, m.config.head) for m in small[1:3]] == [(2, 3), (1, 6)]
    assert all(type(v) is type(before[k]) for m in small[1:3] for k, v in vars(m.config).items())
    assert model[1].config is model[2].config is config and Guarded.made == made
    assert vars(config) == before and all(type(v) is type(before[k]) for k, v in vars(config).items())


class Counting(nn.Module):
    """What the first module writes into the object, the second one reads."""

    def __init__(self, shared, writes):
        super().__init__()
        self.shared, self.writes = shared, writes
        self.lin = nn.Linear(8, 8)

    def forward(self, x):
        if self.writes:
            self.shared.scale = self.shared.base + 1
        return torch.relu(self.lin(x)) / self.shared.scale


@pytest.mark.parametrize("scale", [None, 1])
def test_objects_that_forwards_write_into_stay_shared(scale: int | None) -> None:
    shared = types.SimpleNamespace(base=2, scale=scale)
    model = nn.Sequential(nn.Linear(4, 8), Counting(shared, True), Counting(shared, False), nn.Linear(8, 2))
    x = torch.randn(3, 4)
    wrapped = surgery.wrap(model, x)
    assert shared.scale == scale
    with surgery.at_widths(wrapped, 0.5):
        compare(wrapped, surgery.shrink(wrapped, 0.5), x, 1e-6, ("the twin", "the small model"))
        assert wrapped[1].shared is wrapped[2].shared and wrapped[2].shared.scale == 3


class CountingInTraining(Counting):
    def forward(self, x):
        if self.training and self.writes:
            self.shared.scale = self.shared.base + 1
        return torch.relu(self.lin(x)).unflatten(-1, (self.shared.halves, -1)).flatten(-2) / self.shared.scale


def test_one_run_that_writes_into_an_object_keeps_it_shared_in_all() -> None:
    shared = types.SimpleNamespace(base=2, scale=1, halves=2)
    model = nn.Sequential(nn.Linear(4, 8), *(CountingInTraining(shared, writes) for writes in (True, False)))
    wrapped = surgery.wrap(model, torch.randn(3, 4), draw=surgery.shared(p=1.0))
    wrapped.train()(torch.randn(3, 4))
    assert wrapped[1].shared is wrapped[2].shared
    assert not any(sets.startswith("1.shared") for g in plan_of(wrapped).groups.values() for sets in g.sets)


class Slotted:
    __slots__ = ("__dict__", "width")


class Colour(enum.Enum):
    RED = 1


NOT_PLAIN = {
    "holds a tensor": types.SimpleNamespace(a=torch.ones(1)),
    "holds a function": types.SimpleNamespace(a=len),
    "more than its dict": random.Random(0),
    "slots": Slotted(),
    "a kind of dict": type("Attributes", (dict,), {})(a=1),
    "one of a kind": Colour.RED,
    "a module": types,
    "callable": type("Callable", (), {"__call__": lambda self: 1})(),
}
NOT_PLAIN["slots"].width = 1


@pytest.mark.parametrize("what", NOT_PLAIN)
def test_other_objects_are_left_alone(what: str) -> None:
    assert not is_plain_data(NOT_PLAIN[what])
