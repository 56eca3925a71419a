"""Around a model that is shrunk: random states, sparse buffers, types, devices, scores, and what others write."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.laws.laws import EXACT
from tests.small_models import Given, X, mlp


def a_matrix(model: Any) -> None:
    model.register_buffer("graph", torch.eye(5).to_sparse())


def compressed(model: Any) -> None:
    model.register_buffer("graph", torch.eye(5).to_sparse_csr())


def in_a_part(model: Any) -> None:
    model.a.register_buffer("graph", torch.eye(5).to_sparse())


def not_saved(model: Any) -> None:
    model.register_buffer("graph", torch.eye(5).to_sparse(), persistent=False)


# torch, of a format that it calls new
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
@pytest.mark.parametrize("hold", [a_matrix, compressed, in_a_part, not_saved])
def test_sparse_buffers_go_along(hold: Callable) -> None:
    model = Given(lambda net, x: net.b(net.a(x).relu()))
    hold(model)
    small = surgery.shrink(surgery.wrap(model, X), 0.5)
    kept = (small.a if hold is in_a_part else small).graph
    assert small.a.out_features == 4 and kept.layout == (model.a if hold is in_a_part else model).graph.layout
    assert torch.equal(kept.to_dense(), torch.eye(5))


def python(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x).relu()) * (1 + random.random())


def numpys(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x).relu()) * float(1 + np.random.rand())


def choices(net: Any, x: Tensor) -> Tensor:
    random.shuffle(order := [0.5, 1.0, 2.0])
    return net.b(net.a(x).relu()) * random.choice(order) * int(np.random.randint(1, 4))


@pytest.mark.parametrize("function", [python, numpys, choices])
def test_random_states_of_python_and_numpy_stay(function: Callable) -> None:
    model = Given(function)
    before, arrays, tensors = random.getstate(), np.random.get_state(), torch.get_rng_state()
    surgery.inspect(model, X)
    surgery.shrink(model, 0.5, X)
    surgery.sort(model, X)
    after = np.random.get_state()
    assert random.getstate() == before and torch.equal(torch.get_rng_state(), tensors)
    assert np.array_equal(after[1], arrays[1]) and after[2:] == arrays[2:]


def hollow() -> nn.Module:
    with torch.device("meta"):
        return mlp(6, 16, 3)


def half_hollow() -> nn.Module:
    model = mlp(6, 16, 3)
    model[2].to("meta")
    return model


def moved() -> nn.Module:
    return mlp(6, 16, 3).to("meta")


@pytest.mark.parametrize("build", [hollow, half_hollow, moved])
def test_loading_onto_a_model_without_weights_is_refused(build: Callable, tmp_path: Path) -> None:
    surgery.save(surgery.shrink(mlp(6, 16, 3), 0.5, X), tmp_path / "small")
    with pytest.raises(surgery.SurgeryError, match="meta"):
        surgery.load(tmp_path / "small", build(), X.to("meta") if build is not half_hollow else X)


@pytest.mark.parametrize(
    ("widths", "multiple", "made"),
    [({"0.o": 30}, 16, 32), ({"*": 30}, 16, 32), (0.3, 16, 32), ({"*": 1}, 8, 8), ({"*": 100}, 16, 100), (20, 8, 24)],
)
def test_widths_are_rounded_however_they_are_told(widths: Any, multiple: int, made: int) -> None:
    """Ints as fractions; the full width stays."""
    widths = {"0.o": widths} if isinstance(widths, int) else widths
    wrapped = surgery.wrap(mlp(6, 100, 3), X)
    assert surgery.shrink(wrapped, widths, multiple=multiple)[0].out_features == made


CONVERSIONS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "double": lambda m: m.double(),
    "to a type": lambda m: m.to(torch.float64),
    "to a tensor": lambda m: m.to(torch.zeros(1, dtype=torch.float64)),
    "bfloat16": lambda m: m.bfloat16(),
}


@pytest.mark.parametrize("name", CONVERSIONS)
def test_example_inputs_follow_the_model(name: str) -> None:
    wrapped = CONVERSIONS[name](surgery.wrap(mlp(6, 16, 3), X))
    small = surgery.shrink(wrapped, 0.5)
    assert small[0].weight.dtype == wrapped[0].weight.dtype != torch.float32 and small[0].out_features == 8
    assert surgery.sort(wrapped)[0].out_features == 16


class AlwaysOn(nn.Module):
    """Dropout in eval mode too, as for uncertainty."""

    def __init__(self, drop: Callable[[Tensor], Tensor]):
        super().__init__()
        self.net, self.drop = mlp(6, 16, 3), drop

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.drop(self.net[0](x).relu()))


DROPS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.dropout": lambda y: F.dropout(y, 0.5, training=True),
    "F.dropout by default": lambda y: F.dropout(y, 0.3),
    "torch.dropout": lambda y: torch.dropout(y, 0.5, True),
    "F.alpha_dropout": lambda y: F.alpha_dropout(y, 0.2, training=True),
}


@pytest.mark.parametrize("name", DROPS)
def test_dropout_that_is_always_on_can_be_sorted(name: str) -> None:
    model = AlwaysOn(DROPS[name])
    ordered = surgery.sort(model, X)
    norms = ordered.net[0].weight.norm(dim=1) * ordered.net[2].weight.norm(dim=0)
    assert torch.equal(norms.argsort(descending=True, stable=True), torch.arange(16))


def optimum(m: nn.Module, x: Tensor) -> Tensor:
    return F.mse_loss(m(x), m(x).detach())


def masked(m: nn.Module, x: Tensor) -> Tensor:
    return (m(x) * torch.zeros(3)).sum()


def saturated(m: nn.Module, x: Tensor) -> Tensor:
    return (m(x) - 1e6).clamp(min=0).sum()


@pytest.mark.parametrize("loss", [optimum, masked, saturated])
def test_scores_that_are_all_zero_are_said(loss: Callable) -> None:
    with pytest.warns(UserWarning, match="zero"):
        surgery.sort(mlp(6, 16, 3), X, by=surgery.taylor([X], loss))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        surgery.sort(mlp(6, 16, 3), X, by=surgery.taylor([X], lambda m, x: m(x).square().mean()))


class Writes:
    """A class with `save_pretrained`, as mixins of hubs give it, that writes what its constructor was given."""

    def save_pretrained(self, folder: Path) -> None:
        (folder / "config.txt").write_text(str(vars(self).get("width")))


class Plain(nn.Module, Writes):
    """Its constructor takes numbers."""

    def __init__(self, width: int = 16):
        super().__init__()
        self.a, self.b = nn.Linear(6, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


class Dictionary(Plain):
    """Its configuration is a dictionary beside other arguments."""

    def __init__(self, config: dict[str, int], width: int):
        super().__init__(width)
        self.config = config


class Opaque(Plain):
    """Its configuration is no plain data."""

    def __init__(self, config: Any = None):
        super().__init__(16)
        self.config = config or (lambda: 16)


class Holder(nn.Module):
    """The class that can be written is a part."""

    def __init__(self) -> None:
        super().__init__()
        self.part = Plain(16)

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x) * 2


BUILDS: dict[str, Callable[[], nn.Module]] = {
    "plain": Plain,
    "dictionary": lambda: Dictionary({"width": 16}, 16),
    "opaque": Opaque,
    "a part": Holder,
}


@pytest.mark.parametrize("name", BUILDS)
def test_save_pretrained_is_refused_where_no_config_was_fitted(name: str, tmp_path: Path) -> None:
    model = BUILDS[name]()
    small: Any = surgery.shrink(model, 0.5, X)
    writer = small.part if name == "a part" else small
    with pytest.raises(surgery.InputError, match=r"surgery\.save"):
        writer.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())
    full: Any = surgery.shrink(model, 1.0, X)
    (full.part if name == "a part" else full).save_pretrained(tmp_path)
    surgery.save(small, tmp_path / "small")
    again = surgery.load(tmp_path / "small", BUILDS[name](), X)
    assert (again(X) - small(X)).abs().max() <= EXACT
