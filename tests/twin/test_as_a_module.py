"""The twin is a PyTorch module like any other: copied, saved, loaded, optimised, hooked, unwrapped."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.modules.inputs import tensors
from surgery.twin.elastic import state_of
from tests.copies import pickled, saved
from tests.laws.laws import loss
from tests.models import BY_NAME, REPRESENTATIVE
from tests.small_models import Net, X, seen_widths
from tests.unchanged import picture, unchanged


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_wrapping_and_running_leave_the_model(name: str) -> None:
    model = BY_NAME[name].build()
    with unchanged(model):
        wrapped = surgery.wrap(model, BY_NAME[name].inputs(0)).eval()
        surgery.set_widths(wrapped, 0.5)
        wrapped(*BY_NAME[name].inputs(1))
        surgery.shrink(wrapped, 0.5)
        surgery.unwrap(wrapped)


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_the_twin_has_the_class_paths_keys_and_tensors_of_the_model(name: str) -> None:
    model = BY_NAME[name].build()
    wrapped = surgery.wrap(model, BY_NAME[name].inputs(0))
    surgery.set_widths(wrapped, 0.25)
    assert isinstance(wrapped, type(model)) and wrapped is not model
    assert [path for path, _ in wrapped.named_modules()] == [path for path, _ in model.named_modules()]
    assert all(isinstance(a, type(b)) for a, b in zip(wrapped.modules(), model.modules(), strict=True))
    assert not {id(m) for m in wrapped.modules()} & {id(m) for m in model.modules()}
    mine, theirs = wrapped.state_dict(keep_vars=True), model.state_dict(keep_vars=True)
    assert list(mine) == list(theirs)
    assert all(mine[key] is theirs[key] for key in mine)
    assert [id(p) for p in wrapped.parameters()] == [id(p) for p in model.parameters()]
    assert [id(b) for b in wrapped.buffers()] == [id(b) for b in model.buffers()]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled, saved])
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_a_copy_is_an_independent_twin(name: str, duplicate: Callable) -> None:
    case = BY_NAME[name]
    wrapped = surgery.wrap(case.build(), case.inputs(0), draw=surgery.paper(p=0.9))
    surgery.set_widths(wrapped, 0.5)
    wrapped.train()(*case.inputs(0))
    other = duplicate(wrapped)
    assert surgery.widths(other) == surgery.widths(wrapped) and isinstance(other, type(wrapped).__mro__[1])
    assert not {id(t) for t in wrapped.parameters()} & {id(t) for t in other.parameters()}
    assert not {id(t) for t in wrapped.buffers()} & {id(t) for t in other.buffers()}
    for seed in range(3):  # the same draws, so the same outputs
        for a, b in zip(tensors(wrapped(*case.inputs(seed))), tensors(other(*case.inputs(seed))), strict=True):
            assert torch.equal(a, b)
    before = picture(wrapped)
    surgery.set_widths(other, 1.0)
    other(*case.inputs(3))
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    assert picture(wrapped) == before
    surgery.shrink(other, 0.5)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, pickled])
def test_a_copy_of_a_deferred_twin_is_independent(model: Net, duplicate: Callable) -> None:
    wrapped = surgery.wrap(model, only="fc1")
    other = duplicate(wrapped)
    other.eval()(X)
    assert surgery.widths(other) == {"fc1.o": 16}
    wrapped.eval()(X)
    surgery.set_widths(other, 0.5)
    assert surgery.widths(wrapped) == {"fc1.o": 16} and surgery.widths(other) == {"fc1.o": 8}


def test_gradients_of_each_sample_are_those_of_the_small_model() -> None:
    """`torch.func` over a twin at narrow widths: vmap, jacobians, gradients of each sample."""
    case = BY_NAME["mlp"]
    model, x = case.build().double().eval(), case.inputs(0)[0].double()
    wrapped, small = surgery.wrap(model, x), surgery.shrink(model, 0.5, x)
    surgery.set_widths(wrapped, 0.5)
    torch.testing.assert_close(torch.func.jacrev(wrapped)(x), torch.func.jacrev(small)(x))

    def of_each(module: nn.Module) -> dict[str, torch.Tensor]:
        def loss(parameters: dict[str, torch.Tensor], row: torch.Tensor) -> torch.Tensor:
            return torch.func.functional_call(module, parameters, (row[None],)).square().sum()

        return torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(dict(module.named_parameters()), x)

    whole, cut = of_each(wrapped), of_each(small)
    for name, gradient in cut.items():
        inside = tuple(slice(0, n) for n in gradient.shape)
        torch.testing.assert_close(whole[name][inside], gradient)
        assert whole[name].count_nonzero() == gradient.count_nonzero()


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_state_dicts_go_both_ways(name: str, assign: bool) -> None:
    case = BY_NAME[name]
    wrapped, other = surgery.wrap(case.build(), case.inputs(0)), case.build()
    surgery.set_widths(wrapped, 0.25)
    with torch.no_grad():
        for p in other.parameters():
            p.add_(0.01)
    wrapped.load_state_dict(copy.deepcopy(other.state_dict()), assign=assign)
    surgery.set_widths(wrapped, 1.0)
    assert surgery.verify(wrapped, other, case.inputs(1)) <= 1e-5
    surgery.set_widths(wrapped, 0.25)
    third = case.build()
    third.load_state_dict(wrapped.state_dict())
    assert surgery.verify(third, other, case.inputs(1)) == 0


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("early", [True, False])
def test_optimizers_built_before_or_after_wrapping(model: Net, kind: type, early: bool) -> None:
    def train(model: Net, of: Callable) -> list[torch.Tensor]:
        optimizer = kind(model.parameters(), lr=0.01) if early else None
        wrapped = surgery.wrap(model, X)
        optimizer = optimizer or kind(of(wrapped, model).parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            loss(wrapped.train()(X)).backward()
            optimizer.step()
        return list(model.parameters())

    one, two = train(copy.deepcopy(model), lambda w, m: w), train(copy.deepcopy(model), lambda w, m: m)
    reference = copy.deepcopy(model)
    wrapped = surgery.wrap(reference, X)
    optimizer = kind(wrapped.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        loss(wrapped.train()(X)).backward()
        optimizer.step()
    for a, b, c in zip(one, two, wrapped.parameters(), strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)
    assert not torch.equal(reference.fc1.weight, model.fc1.weight)


def test_unwrapped_is_plain_and_full_over_the_same_tensors(model: Net) -> None:
    wrapped = surgery.wrap(model, X)
    surgery.set_widths(wrapped, 0.5)
    with unchanged(wrapped):
        plain = surgery.unwrap(wrapped)
    assert [type(m) for m in plain.modules()] == [type(m) for m in model.modules()]
    assert all(a is b for a, b in zip(plain.parameters(), model.parameters(), strict=True))
    assert [vars(m).keys() for m in plain.modules()] == [vars(m).keys() for m in model.modules()]
    assert plain.fc1.out_features == 16 and surgery.verify(plain, model, X) == 0
    surgery.wrap(plain, X)


def test_wrapping_without_example_inputs(model: Net) -> None:
    deferred, direct = surgery.wrap(model, minimum=3), surgery.wrap(model, X, minimum=3)
    with pytest.raises(surgery.InputError, match="has not run yet"):
        surgery.set_widths(deferred, 0.5)
    model.norm.momentum = deferred.norm.momentum = direct.norm.momentum = 0.0
    deferred.eval()(X)  # analysed here
    assert seen_widths(deferred, 4) == seen_widths(direct, 4)
    assert isinstance(deferred, Net) and surgery.widths(deferred) == surgery.widths(direct)
    assert surgery.verify(surgery.shrink(deferred, 0.5), surgery.shrink(direct, 0.5), X) == 0


def test_several_inputs() -> None:
    class Either(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Linear(6, 12), nn.Linear(4, 12), nn.Linear(12, 3)

        def forward(self, pair, *, which="a"):
            x, _ = pair
            return {"y": self.head(torch.relu(getattr(self, which)(x)))}

    model = Either()
    one = surgery.inputs((X, None))
    two = surgery.inputs((X[:, :4], [X]), which="b")
    assert not surgery.inspect(model, one).groups, "b could receive what the example inputs do not reach"
    wrapped = surgery.wrap(model, surgery.batches([one, two]))
    assert list(surgery.widths(wrapped)) == ["a.o"]
    small = surgery.shrink(wrapped, 0.5)
    assert small((X, None))["y"].shape == (5, 3)
    assert small((X[:, :4], None), which="b")["y"].shape == (5, 3) and small.b.out_features == 6


class Chosen(nn.Module):
    """Has no forward in its class: its constructor chooses one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.forward = self.shifted

    def shifted(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) + 1


def test_a_module_whose_constructor_chooses_its_forward() -> None:
    model, x = nn.Sequential(nn.Linear(3, 4), Chosen(), nn.Linear(4, 2)), torch.randn(5, 3)
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    with surgery.at_widths(wrapped, 0.5):
        surgery.verify(wrapped, small, x)
    assert small[1].inner.out_features == 2 and wrapped[1].forward.__self__ is not model[1]


def test_hooks_see_cut_shapes(model: Net) -> None:
    seen: list[Any] = []
    wrapped = surgery.wrap(model, X).eval()
    wrapped.fc2.register_forward_pre_hook(lambda m, a: seen.append(a[0].shape[-1]))
    wrapped.fc2.register_forward_hook(lambda m, a, y: seen.append((y.shape[-1], m.weight.shape, m.out_features)))
    wrapped.fc2.register_full_backward_hook(lambda m, a, g: seen.append(g[0].shape[-1]))
    wrapped.register_forward_hook(lambda m, a, y: y * 2)
    surgery.set_widths(wrapped, {"fc1.o": 12, "fc2.o": 3})
    output = wrapped(X)
    output.sum().backward()
    assert seen == [12, (3, (3, 12), 3), 3]
    assert torch.equal(output, 2 * surgery.shrink(surgery.unwrap(wrapped), surgery.widths(wrapped), X).eval()(X) / 2)
    assert not model.fc2._forward_hooks and not model._forward_hooks


def test_hooks_of_the_model_fire_on_both(model: Net) -> None:
    seen: list[int] = []
    model.fc1.register_forward_hook(lambda m, a, y: seen.append(y.shape[-1]))
    wrapped = surgery.wrap(model.eval(), X)
    seen.clear()
    surgery.set_widths(wrapped, {"fc1.o": 4})
    model(X), wrapped(X)
    assert seen == [16, 4]


def test_training_draws_leave_the_widths_that_were_set(model: Net) -> None:
    wrapped = surgery.wrap(model, X, draw=surgery.paper(p=1.0))
    surgery.set_widths(wrapped, {"fc1.o": 5, "fc2.o": 2})
    assert len(set(seen_widths(wrapped, 8))) > 2
    assert surgery.widths(wrapped) == {"fc1.o": 5, "fc2.o": 2}
    assert wrapped.fc1(X).shape == (5, 5), "a submodule called directly runs at the widths that are set"
    loss(wrapped(X)).backward()
    assert wrapped.fc1(X).shape == (5, 5) and wrapped.fc1.weight.shape == (5, 6)


@pytest.mark.parametrize("training", [True, False])
def test_at_widths_suspends_drawing(model: Net, training: bool) -> None:
    wrapped = surgery.wrap(model, X, draw=surgery.paper(p=1.0)).train(training)
    surgery.set_widths(wrapped, 0.5)
    drawn = state_of(wrapped).generator.get_state()
    shapes = lambda: (wrapped.fc1(X).shape[-1], wrapped(X) is None, *wrapped.fc2.weight.shape)  # noqa: E731
    with surgery.at_widths(wrapped, {"fc1.o": 3}):
        assert shapes() == (3, False, 8, 3) and surgery.widths(wrapped) == {"fc1.o": 3, "fc2.o": 8}
        with surgery.at_widths(wrapped, 0.25):
            assert shapes() == (4, False, 2, 4)
        assert shapes() == (3, False, 8, 3)
    assert surgery.widths(wrapped) == {"fc1.o": 8, "fc2.o": 4} and wrapped.fc1.weight.shape == (8, 6)
    assert torch.equal(drawn, state_of(wrapped).generator.get_state()), "nothing was drawn"
    assert seen_widths(wrapped, 1) != [(8, 4)] and wrapped.training


def test_a_twin_with_computed_weights_is_copied_as_its_model_is() -> None:
    """torch makes such models refuse to be pickled, but not to be copied."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.ReLU(), nn.Linear(8, 3))
    wrapped = surgery.wrap(model, X).eval()
    again = copy.deepcopy(wrapped)
    with torch.no_grad():
        wrapped[2].weight.zero_()
    for widths in (1.0, 0.5):
        with surgery.at_widths(again, widths):
            small = surgery.shrink(again, widths)
            assert torch.allclose(again(X), small(X)) and not torch.allclose(again(X), wrapped(X))
