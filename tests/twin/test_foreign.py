"""What others do to a twin after it was wrapped: it goes on, or an error names the module and what to do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import MethodType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import surgery
from tests.laws.laws import EXACT
from tests.small_models import Net, X, mlp, seen_widths


@pytest.fixture
def wrapped(model: Net) -> Any:
    return surgery.wrap(model.double().eval(), X.double(), draw=surgery.paper(1.0)).eval()


def with_lambda(module: Any) -> None:
    old = module.forward
    module.forward = lambda *args, **kwargs: old(*args, **kwargs)


def with_partial(module: Any) -> None:
    module.forward = functools.partial(lambda old, *args, **kwargs: old(*args, **kwargs), module.forward)


def with_method(module: Any) -> None:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return type(self).forward(self, *args, **kwargs)

    module.forward = MethodType(forward, module)


def with_wraps(module: Any) -> None:
    function = module.forward.__func__

    @functools.wraps(function)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    module.forward = MethodType(forward, module)


def with_wraps_twice(module: Any) -> None:
    with_wraps(module)
    with_wraps(module)


def with_autocast(module: Any) -> None:
    module.forward = MethodType(torch.autocast("cpu", enabled=False)(module.forward.__func__), module)


REFUSED = [with_lambda, with_partial, with_method]
DECORATED = [with_wraps, with_wraps_twice, with_autocast]


@pytest.mark.parametrize("path", ["", "fc2"])
@pytest.mark.parametrize("replace", REFUSED)
def test_shrink_refuses_a_replaced_forward(wrapped: Any, replace: Callable, path: str) -> None:
    module = wrapped.get_submodule(path)
    replace(module)
    with pytest.raises(surgery.InputError, match=f"the forward of {path or 'the model'} was replaced after wrapping"):
        surgery.shrink(wrapped, 0.5)
    del module.forward
    assert surgery.shrink(wrapped, 0.5).fc1.out_features == 8


@pytest.mark.parametrize("path", ["", "fc2"])
@pytest.mark.parametrize("decorate", DECORATED)
def test_a_small_model_of_a_decorated_twin_uses_its_own_weights(wrapped: Any, decorate: Callable, path: str) -> None:
    decorate(wrapped.get_submodule(path))
    small = surgery.shrink(wrapped, 0.5).eval()
    with surgery.at_widths(wrapped, 0.5):
        assert (small(X.double()) - wrapped(X.double())).abs().max() <= EXACT
    with torch.no_grad():
        for p in small.parameters():
            p.zero_()
    assert not small(X.double()).any() and wrapped(X.double()).any()


@pytest.mark.parametrize("replace", REFUSED + DECORATED)
def test_draws_go_on_in_a_replaced_forward(wrapped: Any, replace: Callable) -> None:
    replace(wrapped)
    assert len(set(seen_widths(wrapped, 12, X.double()))) > 3


def past_the_root(module: Any) -> None:
    """As trainers do that compute the loss themselves: parts of the model run, and its own forward never."""

    @functools.wraps(type(module).forward)
    def forward(self: Any, x: Tensor) -> Tensor:
        y = torch.relu(self.fc2(torch.relu(self.norm(self.fc1(x)))))
        return F.linear(y, self.head.weight, self.head.bias)

    module.forward = MethodType(forward, module)


def as_a_function(module: Any) -> None:
    parts = module.fc1, module.norm, module.fc2, module.head
    module.forward = lambda x: parts[3](torch.relu(parts[2](torch.relu(parts[1](parts[0](x))))))


@pytest.mark.parametrize("replace", [past_the_root, as_a_function])
def test_a_forward_that_runs_parts_of_the_model_draws_once_for_all_of_them(wrapped: Any, replace: Callable) -> None:
    plain = surgery.wrap(surgery.unwrap(wrapped), X.double(), draw=surgery.paper(1.0))
    replace(wrapped)
    assert (drawn := seen_widths(wrapped, 12, X.double())) == seen_widths(plain, 12, X.double())
    assert len(set(drawn)) > 3
    for twin in (wrapped, plain):
        twin.zero_grad()
        twin(X.double()).square().sum().backward()
    grads = [dict(twin.named_parameters()) for twin in (wrapped, plain)]
    for name, parameter in grads[0].items():
        torch.testing.assert_close(parameter.grad, grads[1][name].grad, msg=name)
    surgery.set_widths(wrapped.eval(), 0.5)
    assert seen_at(wrapped) == 8
    del wrapped.forward
    assert surgery.shrink(wrapped, 0.5).fc1.out_features == 8


def seen_at(wrapped: Any) -> int:
    widths: list[int] = []
    hook = wrapped.fc1.register_forward_hook(lambda module, x, y: widths.append(y.shape[1]))
    wrapped(X.double())
    hook.remove()
    return widths[0]


def with_low_precision(module: Any) -> None:
    module.forward = MethodType(torch.autocast("cpu", torch.bfloat16)(module.forward.__func__), module)


def with_a_factor(module: Any) -> None:
    function = module.forward.__func__
    module.forward = MethodType(functools.wraps(function)(lambda self, x: 2 * function(self, x)), module)


@pytest.mark.parametrize("path", ["", "fc2"])
@pytest.mark.parametrize("around", [False, True])
def test_a_proof_is_made_without_the_autocast_that_a_trainer_has_put_around_a_forward(
    model: Net, path: str, around: bool
) -> None:
    wrapped = surgery.wrap(model.eval(), X)
    module = wrapped.get_submodule(path)
    module.kept = module.forward  # as accelerate does
    with_low_precision(module)
    with torch.autocast("cpu", torch.bfloat16, enabled=around):
        small = surgery.shrink(wrapped, 0.5)
        assert type(surgery.reorder(wrapped, {"fc1.o": list(reversed(range(16)))})) is Net
        assert torch.is_autocast_enabled("cpu") is around
    assert small.fc1.out_features == 8 and not {"kept", "forward"} & vars(small.get_submodule(path)).keys()
    with torch.no_grad():
        hidden = torch.rand(5, 16)
        assert module(X if not path else hidden).dtype is torch.bfloat16, "outside of proofs it is the trainer's"


def test_a_decorator_that_does_something_else_is_no_proof(wrapped: Any) -> None:
    with_a_factor(wrapped)
    with pytest.raises(surgery.ProofError, match="does not equal the wrapped one"):
        surgery.shrink(wrapped, 0.5)


def new_head(wrapped: Any) -> str:
    wrapped.head = nn.Linear(8, 3).double()
    return "head"


class LowRank(nn.Module):
    """Adds a product of two narrow matrices to what a layer gives."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(16, 2, bias=False).double(), nn.Linear(2, 8, bias=False).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.up(self.down(x))


def injected(wrapped: Any) -> str:
    wrapped.fc2 = LowRank(wrapped.fc2)
    return "fc2"


def new_norm(wrapped: Any) -> str:
    wrapped.norm = nn.LayerNorm(16).double()
    return "norm"


def in_a_sequential(wrapped: Any) -> str:
    wrapped.head = nn.Sequential(nn.Dropout(0.0), nn.Linear(8, 3).double())
    return "head"


@pytest.mark.parametrize("change", [new_head, injected, new_norm, in_a_sequential])
def test_a_module_with_parameters_put_in_after_wrapping_is_named_below_full_width(wrapped: Any, change: Any) -> None:
    name = change(wrapped)
    surgery.set_widths(wrapped, 1.0)
    assert wrapped(X.double()).shape == (5, 3)
    surgery.set_widths(wrapped, 0.5)
    with pytest.raises(surgery.InputError, match=rf"{name}\S* .*after wrapping.*before surgery\.wrap"):
        wrapped(X.double())


@pytest.mark.parametrize("inside", [False, True])
def test_a_converted_batch_norm_is_named_below_full_width(inside: bool) -> None:
    part = mlp(6, 16, 8, norm=True)
    model = nn.Sequential(part, nn.Linear(8, 3)) if inside else part
    wrapped = surgery.wrap(model, X).eval()
    assert nn.SyncBatchNorm.convert_sync_batchnorm(wrapped) is wrapped
    wrapped(X)
    path = "0.1" if inside else "1"
    with surgery.at_widths(wrapped, 0.5), pytest.raises(surgery.InputError, match=rf"{path} .*SyncBatchNorm"):
        wrapped(X)


def pruned(layer: nn.Module) -> None:
    prune.l1_unstructured(layer, "weight", 0.5)


def pruned_by_rows(layer: nn.Module) -> None:
    prune.ln_structured(layer, "weight", 0.5, n=2, dim=0)


class Symmetric(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return weight * 2


def parametrized(layer: nn.Module) -> None:
    parametrize.register_parametrization(layer, "weight", Symmetric())


@pytest.mark.parametrize(
    "change", [pruned, pruned_by_rows, parametrized, parametrizations.weight_norm, parametrizations.spectral_norm]
)
def test_pruning_and_parametrizations_belong_before_wrap(wrapped: Any, change: Callable) -> None:
    with pytest.raises(surgery.InputError, match=r"fc1.*before surgery\.wrap"):  # at once, or at a forward
        change(wrapped.fc1)
        surgery.set_widths(wrapped, 0.5)
        wrapped(X.double())


@pytest.mark.parametrize("take", [lambda w: w, lambda w: w.fc1, lambda w: nn.Sequential(w)], ids=["all", "part", "in"])
def test_replicas_of_data_parallel_are_refused(wrapped: Any, take: Callable) -> None:
    module = take(wrapped)
    with pytest.raises(surgery.InputError, match="DistributedDataParallel"):
        for part in module.modules():
            part._replicate_for_data_parallel()


@pytest.mark.parametrize("freeze", ["a layer", "all", "a parameter"])
def test_requires_grad_of_a_slice_of_a_frozen_parameter_is_refused(model: Net, freeze: str) -> None:
    {"a layer": model.fc1, "all": model, "a parameter": model.fc1.weight}[freeze].requires_grad_(False)
    wrapped = surgery.wrap(model, X)
    surgery.set_widths(wrapped, 0.5)
    with pytest.raises(surgery.InputError, match="requires_grad_"):
        wrapped.fc1.weight.requires_grad = True
    wrapped.fc1.requires_grad_(True)
    assert model.fc1.weight.requires_grad and wrapped.fc1.weight.requires_grad


def by_init_subclass(known: dict[str, type]) -> type:
    class Base(nn.Module):
        def __init_subclass__(cls, **options: Any) -> None:
            super().__init_subclass__(**options)
            assert cls.__name__ not in known, "registered twice"
            known[cls.__name__] = cls

    return Base


def by_metaclass(known: dict[str, type]) -> type:
    class Registering(type):
        def __init__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any]):
            super().__init__(name, bases, space)
            if name != "Base":
                assert name not in known, "registered twice"
                known[name] = cls

    class Base(nn.Module, metaclass=Registering):
        pass

    return Base


def by_required_keyword(known: dict[str, type]) -> type:
    class Base(nn.Module):
        def __init_subclass__(cls, *, key: str = "", **options: Any) -> None:
            super().__init_subclass__(**options)
            if not key:
                raise TypeError(f"{cls.__name__} needs a key")
            known[cls.__name__] = cls

    return Base


@pytest.mark.parametrize("build", [by_init_subclass, by_metaclass, by_required_keyword])
def test_registries_of_classes_are_not_told_of_twins(build: Callable) -> None:
    known: dict[str, type] = {}
    base = build(known)
    options = {"key": "block"} if build is by_required_keyword else {}

    class Block(base, **options):  # type: ignore[misc,valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu())

    wrapped = surgery.wrap(Block(), X)
    small = surgery.shrink(wrapped, 0.5)
    assert known == {"Block": Block} and type(small) is Block and isinstance(wrapped, Block)
    assert isinstance(type(wrapped)(), Block) and known == {"Block": Block}


class ByType(nn.Module):
    """Decides by the very class of its activation."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.a, self.b, self.act = nn.Linear(6, 12), nn.Linear(12, 3), activation

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        if type(self.act) in (nn.ReLU, nn.GELU) or self.act.__class__ is nn.Identity:
            return self.b(self.act(y))
        return self.b(F.softsign(y))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Identity, nn.Tanh])
def test_activations_keep_their_very_class(activation: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = ByType(activation())
    wrapped = surgery.wrap(model, X).eval()
    assert type(wrapped.act) is activation and "a.o" in surgery.widths(wrapped)
    torch.testing.assert_close(wrapped(X), model(X))


@pytest.mark.parametrize("path", ["", "2"])
@pytest.mark.parametrize("decorate", [functools.wraps, lambda old: torch.autocast("cpu", enabled=False)])
def test_a_decorated_forward_is_left_out_of_the_small_model(path: str, decorate: Any) -> None:
    """What a decorator has closed over is the twin: a small model must not run that."""
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    wrapped = surgery.wrap(nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)), x).eval()
    module = wrapped.get_submodule(path)
    old = module.forward
    module.forward = decorate(old)(lambda *a: old(*a)) if decorate is functools.wraps else decorate(old)(old)
    small = surgery.shrink(wrapped, {"0.o": 4})
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.zero_()
    assert not small(x).any() and small[0].out_features == 4


def test_a_layer_that_was_replaced_by_nothing_is_named() -> None:
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    wrapped = surgery.wrap(nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Linear(16, 3)), x)
    wrapped[1] = nn.Identity()
    with pytest.raises(surgery.InputError, match=r"1 \(Identity\) was put in after wrapping"):
        surgery.shrink(wrapped, 0.5)
    assert type(surgery.unwrap(wrapped)[1]) is nn.Identity
