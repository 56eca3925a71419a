"""What a forward leaves on modules stays there, as in the model; what follows the widths does not outlive them."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.laws.laws import EXACT
from tests.small_models import Given, X

INPUTS = [X.double() * (i + 1) for i in range(3)]


class Tally:
    """A loss and a number of calls, on an object of its own."""

    loss: Any = 0.0
    calls = 0


def attributes(net: Any, y: Tensor) -> Tensor:
    net.loss = y.square().mean()
    net.calls += 1
    net.seen.append(float(net.calls))
    return y


def containers(net: Any, y: Tensor) -> Tensor:
    net.table["loss"] = y.square().mean()
    net.table["calls"] = net.table.get("calls", 0) + 1
    net.recent.append(net.table["calls"])
    return y


def an_object(net: Any, y: Tensor) -> Tensor:
    net.tally.loss = y.square().mean()
    net.tally.calls += 1
    return y


def kept(net: Any) -> tuple[Any, int, list[Any]]:
    """The loss, the number of calls and the list that a model has, wherever it keeps them."""
    if hasattr(net, "tally"):
        return net.tally.loss, net.tally.calls, []
    if hasattr(net, "table"):
        return net.table["loss"], net.table["calls"], list(net.recent)
    return net.loss, net.calls, net.seen


KEEPERS: dict[str, tuple[Callable, Callable[[], dict[str, Any]]]] = {
    "attributes and a list": (attributes, lambda: {"loss": 0.0, "calls": 0, "seen": []}),
    "a dictionary and a deque": (containers, lambda: {"table": {}, "recent": deque(maxlen=2)}),
    "an object": (an_object, lambda: {"tally": Tally()}),
}


def keeper(name: str) -> Given:
    keep, start = KEEPERS[name]
    return Given(lambda net, x: net.b(keep(net, net.a(x)).relu()), **start()).double()


@pytest.mark.parametrize("name", KEEPERS)
def test_losses_counters_and_lists_stay_as_in_the_model(name: str) -> None:
    model = keeper(name)
    wrapped, alone = surgery.wrap(model, INPUTS[0]).train(), copy.deepcopy(model)
    with surgery.at_widths(wrapped, 1.0):
        for i, x in enumerate(INPUTS):
            assert (wrapped(x) - alone(x)).abs().max() <= EXACT
            (loss, calls, seen), (right, *rest) = kept(wrapped), kept(alone)
            assert loss.item() == pytest.approx(right.item()) and [calls, seen] == rest and calls == i + 1
    kept(wrapped)[0].backward()
    kept(alone)[0].backward()
    torch.testing.assert_close(model.a.weight.grad, alone.a.weight.grad)


def dictionary(net: Any, y: Tensor) -> Tensor:
    net.table["loss"], net.table["calls"] = y.square().mean(), net.table.get("calls", 0) + 1
    net.recent.append(net.table["calls"])
    return y


KEEPERS["a dictionary and a list"] = (dictionary, lambda: {"table": {}, "recent": []})


@pytest.mark.parametrize("name", ["attributes and a list", "a dictionary and a list"])
def test_shrink_and_reorder_leave_what_the_twin_has_left_alone(name: str) -> None:
    wrapped = surgery.wrap(keeper(name), INPUTS[0]).eval()
    for x in INPUTS:
        wrapped(x)
    loss, calls, seen = kept(wrapped)
    surgery.shrink(wrapped, 0.5)
    surgery.reorder(wrapped, {"a.o": torch.arange(7, -1, -1)})
    surgery.cost(wrapped, 0.5)
    assert kept(wrapped)[0] is loss and kept(wrapped)[1:] == (calls, seen)


@pytest.mark.parametrize("flag", ["ready", "steps"])
def test_a_flag_goes_with_what_it_says_is_there(flag: str) -> None:
    """A flag, or a number that is none: it is told by `== 0`. Other numbers go on counting."""

    def normed(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        if not net.ready if flag == "ready" else net.steps == 0:
            net.mean, net.std = y.detach().mean(0), y.detach().std(0) + 0.1
        net.ready = True
        net.steps += 1
        net.calls += 1
        return net.b(((y - net.mean) / net.std).relu())

    model = Given(normed, ready=False, steps=0, mean=None, std=None, calls=0).double()
    wrapped = surgery.wrap(model, INPUTS[0]).eval()
    for width in (1.0, 0.5, 0.25, 1.0):
        small = surgery.shrink(wrapped, width)
        with surgery.at_widths(wrapped, width):
            for x in INPUTS:
                assert (wrapped(x) - small(x)).abs().max() <= EXACT * 10
    assert wrapped.ready and wrapped.calls == 12


def test_what_a_twin_has_kept_is_left_out_of_proofs() -> None:
    """A small model starts as before any forward, and so does its twin beside it."""

    def centred(net: Any, x: Tensor) -> Tensor:
        y = net.a(x)
        now = y.detach().mean(0)
        net.mean = now if net.mean is None else 0.5 * net.mean + 0.5 * now
        return net.b((y - net.mean).relu())

    wrapped = surgery.wrap(Given(centred, mean=None).double(), INPUTS[0]).eval()
    for x in INPUTS:
        wrapped(x)
    before = wrapped.mean.clone()
    surgery.shrink(wrapped, 1.0)
    surgery.reorder(wrapped, {"a.o": torch.arange(7, -1, -1)})
    assert torch.equal(wrapped.mean, before)


def counters(net: Any, y: Tensor) -> Tensor:
    net.notes["n"] += 1
    net.nested["a"]["n"] += 1
    net.nested["seen"].append(net.notes["n"])
    net.recent.append(net.notes["n"])
    net.tally.calls += 1
    return y * net.notes["n"] + net.nested["a"]["n"] + len(net.recent) + net.tally.calls


def test_proofs_leave_no_trace_in_containers_and_objects() -> None:
    """Numbers that are counted in place, however deep they lie; and the small model starts where its twin stands."""
    held: dict[str, Any] = {"notes": {"n": 0}, "nested": {"a": {"n": 0}, "seen": []}, "recent": deque(maxlen=2)}
    model = Given(lambda net, x: net.b(counters(net, net.a(x)).relu()), **held, tally=Tally()).double()
    wrapped = surgery.wrap(model, INPUTS[0]).eval()
    wrapped(INPUTS[0])
    small = surgery.shrink(wrapped, 0.5)
    surgery.reorder(wrapped, {"a.o": torch.arange(7, -1, -1)})
    for net, n in ((model, 0), (wrapped, 1), (small, 1)):
        assert (
            net.notes["n"] == net.nested["a"]["n"] == net.tally.calls == len(net.nested["seen"]) == len(net.recent) == n
        )
    with surgery.at_widths(wrapped, 0.5):
        for x in INPUTS:
            assert (wrapped(x) - small(x)).abs().max() <= EXACT * 10


class Carries(nn.Module):
    """Starts every forward from a hidden state that the last one has left, in a way of its own."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.a, self.b = way, nn.Linear(6, 8), nn.Linear(8, 3)
        self.state: Any = {} if way == "in a dictionary" else None
        if way == "as a pair":
            self.state = (None, 0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        last = self.state.get("h") if self.way == "in a dictionary" else self.state
        last, steps = last if self.way == "as a pair" else (last, 0)
        if last is not None:
            y = y + last.tanh()
        if self.way == "in a dictionary":
            self.state["h"] = y.detach()
        else:
            self.state = (y.detach(), steps + 1) if self.way == "as a pair" else y.detach()
        return self.b(y)

    def hidden(self) -> Any:
        return (
            self.state.get("h")
            if self.way == "in a dictionary"
            else self.state[0]
            if self.way == "as a pair"
            else self.state
        )


WAYS = ["in an attribute", "in a dictionary", "as a pair"]  # a deque or another object is pinned, which is exact too


@pytest.mark.parametrize("way", WAYS)
def test_three_forwards_at_full_width_are_the_models(way: str) -> None:
    """Law 1 over several forwards: the second and the third start from what the one before has left."""
    model = Carries(way).double()
    wrapped, alone = surgery.wrap(model, INPUTS[0]).eval(), copy.deepcopy(model)
    for x in INPUTS:
        right, mine = alone(x), wrapped(x)
        assert (right - mine).abs().max() <= EXACT * right.abs().max()


@pytest.mark.parametrize("way", WAYS)
def test_a_hidden_state_lives_at_one_width_and_no_longer(way: str) -> None:
    wrapped = surgery.wrap(Carries(way).double(), INPUTS[0]).eval()
    for share in (0.5, 0.25, 1.0):
        surgery.set_widths(wrapped, share)
        small = surgery.shrink(wrapped, share).eval()
        assert small.hidden() is None
        for x in INPUTS:
            torch.testing.assert_close(wrapped(x), small(x))


@pytest.mark.parametrize("way", WAYS)
def test_small_models_start_without_features_that_a_forward_left(way: str) -> None:
    model = Carries(way).double()
    wrapped = surgery.wrap(model, INPUTS[0]).eval()
    for x in INPUTS:
        wrapped(x)
    small = surgery.shrink(wrapped, 0.5)
    assert small.hidden() is None and wrapped.hidden().shape == (5, 8) and model.hidden() is None
    small(INPUTS[0])
    assert small.hidden().shape[-1] < 8


@pytest.mark.parametrize("name", ["attributes and a list", "a dictionary and a list"])
def test_what_does_not_follow_the_widths_outlives_them(name: str) -> None:
    wrapped = surgery.wrap(keeper(name), INPUTS[0]).train()
    for i, share in enumerate((0.25, 1.0, 0.5)):
        with surgery.at_widths(wrapped, share):
            wrapped(INPUTS[i])
    loss, calls, seen = kept(wrapped)
    assert calls == len(seen) == 3 and loss.requires_grad
