"""Forwards with sizes in their code stay the model's own code: other inputs, flags and modes take their own way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.modules.inputs import tensors
from surgery.modules.verify import output, verify
from surgery.plan.plan import Plan
from surgery.twin.setting import plan_of
from tests.copies import pickled, saved
from tests.planning.solving.rewritten import CASES, built, found
from tests.small_models import Given


def permutations(plan: Plan) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randperm(group.size, generator=generator) for name, group in plan.groups.items()}


@pytest.mark.parametrize("name", CASES)
def test_other_inputs_take_their_own_way(name: str) -> None:
    model, example, others = built(name)
    wrapped = surgery.wrap(model, example)
    plan = plan_of(wrapped)
    assert list(plan.rewrites) == [""]
    assert plan.elastic_share > 0.9, plan
    sorted_ = surgery.reorder(model, permutations(plan), example)
    for x in (example, *others):
        assert verify(model, wrapped, x) < 1e-4
        assert verify(model, sorted_, x) < 1e-4
        assert type(wrapped(x)) is type(model(x))
        for widths in (0.5, {name: group.granularity for name, group in plan.groups.items()}, {"embed.o": 5}):
            small = surgery.shrink(wrapped, widths)
            with surgery.at_widths(wrapped, widths):
                verify(wrapped, small, x)
                for mode in (True, False):
                    wrapped.train(mode), small.train(mode)
                    torch.manual_seed(1)
                    left = found(wrapped(x))
                    torch.manual_seed(1)
                    for a, b in zip(left, found(small(x)), strict=True):
                        torch.testing.assert_close(a, b)
        wrapped.train()
        sum(t.sum() for t in found(wrapped(x))).backward()
        wrapped.eval()


def test_flags_are_read_when_it_runs() -> None:
    model, x, _ = built("flags")
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    with surgery.at_widths(wrapped, 0.5):
        before = small(x)
        for changed in (wrapped, small):
            changed.double, changed.temperature = True, 0.5
        verify(wrapped, small, x)
    assert not torch.allclose(before, small(x))


PICKLED = [name for name in CASES if name != "nested"]  # a lambda cannot be pickled, with or without a new forward


@pytest.mark.parametrize("again", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("name", PICKLED)
def test_copies_keep_the_forward(name: str, again: Callable[[nn.Module], nn.Module]) -> None:
    model, x, others = built(name)
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    for other in (x, *others):
        verify(small, again(small), other)
        with surgery.at_widths(wrapped, 0.5):
            twin = again(wrapped)
            assert twin.forward is not wrapped.forward
            verify(wrapped, twin, other)
    own = again(small)
    assert own.forward.owner is own  # not the model that it was copied from


@pytest.mark.parametrize("name", ["dropping", "helper", "super", "computed", "spelled", "batched"])
def test_it_compiles_as_one_graph(name: str) -> None:
    model, x, _ = built(name)
    small = surgery.shrink(model, 0.5, x)
    one = name != "super"  # dynamo cannot trace `super().forward` as a value
    compiled = torch.compile(copy.deepcopy(small), backend="eager", fullgraph=one)
    torch.testing.assert_close(compiled(x), small(x))
    exported = torch.export.export(small, (x,))
    torch.testing.assert_close(exported.module()(x), small(x))


@pytest.mark.parametrize("name", CASES)
def test_a_shrunk_model_can_be_shrunk_again(name: str) -> None:
    model, x, others = built(name)
    half = surgery.shrink(model, {"embed.o": 6}, x)
    again = surgery.shrink(half, {"embed.o": 3}, x)
    at_once = surgery.shrink(model, {"embed.o": 3}, x)
    for other in (x, *others):
        verify(again, at_once, other)


class Unlike(nn.Module):
    """The size in its code is another one for other inputs, and nothing in the recorded run says so."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        sizes = [8, 4]
        y = self.first(x)
        return self.second(torch.cat([y[:, : sizes[len(x) > 2]], y[:, sizes[len(x) > 2] :]], 1))


def test_another_size_is_an_error() -> None:
    model, x = Unlike(), torch.randn(2, 4)
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    assert output(small, surgery.inputs(x)).shape == (2, 2)
    with pytest.raises(surgery.InputError, match=r"test_rewrites.py:\d+ computes the size 4, and 8 is what"):
        small(torch.randn(3, 4))


def test_a_forward_without_source_is_pinned() -> None:
    space: dict[str, Any] = {"nn": nn}
    exec(
        "class Model(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)\n"
        "    def forward(self, x):\n"
        "        return self.b(self.a(x).view(-1, 8))\n",
        space,
    )
    plan = surgery.inspect(space["Model"](), torch.randn(2, 4))
    assert not plan.groups
    assert any("the source of Model.forward (<string>) is not available" in fixed.reason for fixed in plan.fixed)


def test_the_new_forward_can_be_read() -> None:
    model, x, _ = built("helper")
    source = surgery.inspect(model, x).rewrites[""].source
    assert "windows" in source
    assert "x.view(b, n // size, size, surgery_module.surgery_size_0)" in source


class Quotients(nn.Module):
    """Two widths, each of them the same quotient of attributes that nothing else states."""

    def __init__(self) -> None:
        super().__init__()
        self.whole, self.ratio = 24, 4
        self.a, self.b, self.c, self.d = nn.Linear(5, 6), nn.Linear(5, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).view(x.shape[0], self.whole // self.ratio)
        g = self.b(x).view(x.shape[0], self.whole // self.ratio)
        return self.c(h.relu()) + self.d(g)


def test_no_attribute_is_solved_for_by_itself() -> None:
    x = torch.randn(2, 5)
    small = surgery.shrink(Quotients(), {"a.o": 4, "b.o": 1}, x)
    assert (small.a.out_features, small.b.out_features) == (4, 1)


def heads(x: Tensor) -> Tensor:
    """A literal size: the forward that calls this is rewritten."""
    return x.view(*x.shape[:-1], 2, 4).flatten(-2)


X = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


def test_a_rewritten_forward_takes_two_tensors_where_it_was_recorded_with_one() -> None:
    model = Given(lambda s, q, k: s.b((heads(s.a(q)) @ heads(s.a(k)).mT).softmax(-1) @ heads(s.a(k)))).eval()
    wrapped = surgery.wrap(model, (X, X)).eval()
    for other in (X, X.clone(), X + 1):
        assert surgery.verify(model, wrapped, (X, other)) < 1e-6


def test_a_rewritten_forward_trains_as_its_code_does() -> None:
    def drop(module: nn.Module, x: Tensor) -> Tensor:  # reads the mode outside of the class
        return F.dropout(x, 0.5, module.training)

    wrapped = surgery.wrap(Given(lambda s, x: s.b(drop(s, heads(s.a(x))))), X).train()
    with surgery.at_widths(wrapped, 1.0):
        assert not torch.equal(wrapped(X), wrapped(X))
    assert torch.equal(*(tensors(wrapped.eval()(X))[0] for _ in range(2)))
