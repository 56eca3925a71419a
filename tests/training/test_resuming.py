"""A training that was interrupted goes on as if it had not been: bit for bit, also after its process was killed."""

from __future__ import annotations

import functools
import os
import random
import signal
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery import InputError
from surgery.twin.elastic import state_of
from tests.processes import killed
from tests.small_models import Net, X, mlp, seen_widths

KILLED, GOES_ON, WHOLE = "killed", "goes on", "whole"
STEPS = 6


def train(how: str, path: Path, loop: str) -> dict[str, Any]:
    """A training of six steps; half of it, ending in the middle of nowhere; or the rest of it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    wrapped = surgery.wrap(model, X, draw=DRAWS[loop]()).train()
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=1e-2)
    first = 0
    if how == GOES_ON:
        saved = torch.load(path, weights_only=True)
        wrapped.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        surgery.load_training_state(wrapped, saved["draws"])
        torch.set_rng_state(saved["random"])
        first = saved["step"]
    y = torch.arange(len(X)) % 3
    for step in range(first, STEPS):
        optimizer.zero_grad()
        if loop == "step":
            surgery.train_step(wrapped, X, lambda output: F.cross_entropy(output, y))
        else:
            F.cross_entropy(wrapped(X), y).backward()
        optimizer.step()
        if step == 2 and how == KILLED:
            states = {"model": wrapped.state_dict(), "optimizer": optimizer.state_dict()}
            states |= {"draws": surgery.training_state(wrapped), "random": torch.get_rng_state(), "step": step + 1}
            torch.save(states, path)
        if step == 4 and how == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
    return wrapped.state_dict()


class Own:
    """A draw as people write it: a count, a schedule, generators of its own."""

    def __init__(self) -> None:
        self.steps, self.recent, self.known = 0, deque([1.0], maxlen=3), {"first": None}
        self.mine, self.numpy = random.Random(0), np.random.default_rng(0)

    def __call__(self, plan: Any, generator: torch.Generator) -> dict[str, float]:
        self.steps += 1
        self.known["first"] = self.known["first"] or self.steps
        share = self.mine.choice([0.25, 0.5, 0.75]) * self.numpy.uniform(0.3, 1) + 0.02 * self.steps
        self.recent.append(share)
        return dict.fromkeys(plan.groups, sum(self.recent) / len(self.recent))


def counting() -> Any:
    """A draw that keeps its count in a variable of the function around it, and draws from a generator there."""
    count, mine = 0, random.Random(0)

    def draw(plan: Any, generator: torch.Generator) -> dict[str, float]:
        nonlocal count
        count += 1
        return dict.fromkeys(plan.groups, mine.choice([0.25, 0.5, 0.75]) if count % 2 else 1.0)

    return draw


def listing(counts: list[int], plan: Any, generator: torch.Generator) -> dict[str, float]:
    """A draw that counts in what a partial function gives it."""
    counts[0] += 1
    return dict.fromkeys(plan.groups, (1.0, 0.25, 0.5)[counts[0] % 3])


DRAWS: dict[str, Any] = {
    "step": lambda: None,
    "default": lambda: None,
    "sandwich": lambda: surgery.sandwich([0.25, surgery.shared(p=1.0)]),
    "warmup": lambda: surgery.warmup(surgery.sandwich(), 2),
    "own": Own,
    "method": lambda: Own().__call__,
    "function": counting,
    "partial": lambda: functools.partial(listing, [0]),
    "function inside": lambda: surgery.warmup(counting(), 2),
}

# --- a process that is killed ---


@pytest.mark.parametrize("loop", ["step", "warmup"])
def test_a_training_that_was_killed_goes_on_bit_for_bit(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    code = f"from tests.training.test_resuming import *; train(KILLED, Path({str(path)!r}), {loop!r})"
    killed(code)
    with torch.random.fork_rng(devices=[]):
        whole, rest = train(WHOLE, path, loop), train(GOES_ON, path, loop)
    assert all(torch.equal(rest[name], tensor) for name, tensor in whole.items())


@pytest.mark.parametrize("loop", DRAWS)
def test_what_is_drawn_next(loop: str) -> None:
    first = surgery.wrap(Net(), X, draw=DRAWS[loop]())
    seen = seen_widths(first, 5)
    again = surgery.wrap(Net(), X, draw=DRAWS[loop]())
    saved = surgery.training_state(first)
    after = seen_widths(first, 7)
    surgery.load_training_state(again, saved)
    assert seen_widths(again, 7) == after
    surgery.load_training_state(first, saved)  # back, in the same twin
    assert seen_widths(first, 7) == after
    assert len({*seen, *after}) > 2


# --- the rest of it ---


def test_the_state_dict_stays_that_of_the_model() -> None:
    model = Net()
    assert surgery.wrap(model, X).state_dict().keys() == model.state_dict().keys()


def test_widths_that_are_set_and_what_the_loss_told_come_along() -> None:
    first, again = (surgery.wrap(Net(), X).train() for _ in range(2))
    surgery.set_widths(first, {"fc1.o": 5})
    surgery.train_step(first, X, loss := lambda output: F.cross_entropy(output, torch.zeros(5).long()))
    surgery.load_training_state(again, surgery.training_state(first))
    assert surgery.widths(again) == surgery.widths(first)
    assert state_of(again).class_dims == state_of(first).class_dims != {}
    assert loss is not None
    assert again.eval().fc1(X).shape[1] == 5


def test_inside_of_another_module_and_before_the_first_forward() -> None:
    first = surgery.wrap(Net(), X, draw=surgery.sandwich())
    seen_widths(first, 3)
    surgery.set_widths(first, 0.5)
    outer = nn.ModuleDict({"net": surgery.wrap(Net(), draw=surgery.sandwich())})
    surgery.load_training_state(outer, surgery.training_state(first))
    outer["net"].eval()(X)
    assert surgery.widths(outer["net"]) == surgery.widths(first)
    assert seen_widths(outer["net"], 4) == seen_widths(first, 4)
    early = surgery.training_state(surgery.wrap(Net(), draw=surgery.sandwich()))
    surgery.load_training_state(outer, early)
    assert seen_widths(outer["net"], 1) == [(16, 8)]


class Odd:
    """A draw that keeps something whose state nobody can read."""

    def __init__(self) -> None:
        self.turns = iter([0.5, 0.25])

    def __call__(self, plan: Any, generator: torch.Generator) -> dict[str, float]:
        return dict.fromkeys(plan.groups, next(self.turns))


class Known(Odd):
    def state_dict(self) -> dict[str, int]:
        return {"left": len(list(self.turns))}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.turns = iter([0.5] * state["left"])


def test_a_draw_whose_state_cannot_be_read_is_refused_unless_it_has_ways_of_its_own() -> None:
    with pytest.raises(InputError, match=r"draw\.turns is a list_iterator, whose state cannot be saved"):
        surgery.training_state(surgery.wrap(Net(), X, draw=Odd()))
    first, again = (surgery.wrap(Net(), X, draw=Known()) for _ in range(2))
    surgery.load_training_state(again, surgery.training_state(first))
    assert seen_widths(again, 2) == [(8, 4)] * 2


CALLS = 0


def globally(plan: Any, generator: torch.Generator) -> dict[str, float]:
    global CALLS
    CALLS += 1
    return dict.fromkeys(plan.groups, 0.5 if CALLS % 2 else 1.0)


def test_a_draw_that_counts_in_a_global_variable_is_refused() -> None:
    with pytest.raises(InputError, match="draw counts in a global variable, CALLS, which is not saved"):
        surgery.training_state(surgery.wrap(Net(), X, draw=globally))


def test_a_foreign_state_is_refused_at_each_first_forward() -> None:
    """There is nothing to compare with before; and a forward that was refused has changed nothing."""
    saved = surgery.training_state(surgery.wrap(mlp(6, 4, 3), X))
    wrapped = surgery.wrap(Net()).train()
    surgery.load_training_state(wrapped, saved)
    for _ in range(2):
        with pytest.raises(InputError, match="of another model than this Net"):
            wrapped(X)


def damaged(**parts: Any) -> Any:
    return lambda: surgery.training_state(surgery.wrap(Net(), X, draw=DRAW())) | parts


WRONG = {
    "no draw": (damaged(draw=5), "the draw in this state of a training cannot be read: 5"),
    "no losses": (damaged(dims=5), "what this state of a training says of losses cannot be read"),
    "half of a loss": (damaged(dims=[["a"]]), "what this state of a training says of losses cannot be read"),
    "other statistics": (damaged(statistics={"zz": 1}), "the state has widths that this Net cannot have"),
    "no statistics": (damaged(statistics=5), "the state has widths that this Net cannot have"),
    "none": (lambda: None, "this is no state of a training"),
    "another format": (lambda: {"format": "x"}, "this is no state of a training"),
    "a state_dict": (lambda: Net().state_dict(), "this is no state of a training"),
    "another model": (lambda: surgery.training_state(surgery.wrap(mlp(6, 4, 3), X)), "of another model than this Net"),
    "other groups": (lambda: surgery.training_state(surgery.wrap(Net(), X, fixed="fc1")), "the same fixed= and only="),
    "another draw": (
        lambda: surgery.training_state(surgery.wrap(Net(), X, draw=surgery.grid([0.5]))),
        "draw is a Warmup here, and was a Grid when this state was saved",
    ),
    "another length": (
        lambda: surgery.training_state(surgery.wrap(Net(), X, draw=surgery.warmup(surgery.shared(), 9))),
        r"draw\.length is 2, and was 9 when this state was saved",
    ),
    "another share": (
        lambda: surgery.training_state(surgery.wrap(Net(), X, draw=surgery.warmup(surgery.shared(p=0.5), 2))),
        r"draw\.draw\.p is 0\.9, and was 0\.5",
    ),
    "no generator": (
        lambda: surgery.training_state(surgery.wrap(Net(), X, draw=DRAW())) | {"generator": torch.zeros(3)},
        "the generator in this state of a training cannot be read",
    ),
}


def DRAW() -> Any:
    return surgery.warmup(surgery.shared(), 2)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_state_of_something_else_changes_nothing(wrong: str) -> None:
    wrapped = surgery.wrap(Net(), X, draw=DRAW())
    seen_widths(wrapped, 3)
    make, message = WRONG[wrong]
    before = surgery.training_state(wrapped)
    with pytest.raises(InputError, match=message):
        surgery.load_training_state(wrapped, make())
    after = surgery.training_state(wrapped)
    assert torch.equal(before.pop("generator"), after.pop("generator")) and before == after


def test_only_wrapped_models_have_one() -> None:
    saved = surgery.training_state(surgery.wrap(Net(), X))
    with pytest.raises(InputError, match="Net is not wrapped"):
        surgery.training_state(Net())
    with pytest.raises(InputError, match="Net is not wrapped"):
        surgery.load_training_state(Net(), saved)
