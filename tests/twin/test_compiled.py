"""A compiled twin says and learns what one that is not compiled does, and each width is compiled once."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

import surgery
from surgery.modules.inputs import tensors
from surgery.twin.compiled import WIDTHS
from surgery.twin.elastic import state_of
from tests.models import BY_NAME
from tests.small_models import Net, X

# dynamo asks inputs for gradients, and hides what torch then says of one that is no leaf, unless that is an error
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
EXACT = 1e-9  # in float64
QUICK = "mlp flatten_batchnorm multihead_attention llama_gqa tied_embeddings filled_buffer in_place lstm_tagger".split()
GRID = (1.0, 0.75, 0.5, 0.25)
# why a model runs as it is written
FLAT = "holds tensors that follow the widths in plain attributes"
UNCOMPILED = {"lstm_tagger": f"lstm {FLAT}", "gru_classifier": f"gru {FLAT}", "crnn": f"rnn {FLAT}"}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Nothing compiled before, float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch._dynamo.reset()
    counters.clear()
    yield
    torch.set_default_dtype(before)


def slowly(names: Iterable[str], quick: Collection[str]) -> list[Any]:
    """Names as parameters, those that are not quick marked so."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


def compiled() -> int:
    return counters["stats"]["unique_graphs"]


def breaks() -> int:
    return sum(counters["graph_break"].values())


def twins(model: nn.Module, x: Any, backend: str = "eager", **options: Any) -> list[nn.Module]:
    """Two twins of copies of a model, the second one compiled."""
    made = [surgery.wrap(copy.deepcopy(model), x, **options) for _ in range(2)]
    made[1].compile(backend=backend)
    return made


def learnt(model: nn.Module, *inputs: Any) -> list[Any]:
    """Outputs of a forward, gradients of a backward pass, and the buffers afterwards."""
    model.zero_grad()
    torch.manual_seed(0)
    outputs = [out for out in tensors(model(*inputs)) if out.is_floating_point()]
    sum(
        (out * torch.cos(torch.arange(out.numel())).view_as(out)).sum() for out in outputs if out.requires_grad
    ).backward()
    return [*outputs, *(parameter.grad for parameter in model.parameters()), *(b.clone() for b in model.buffers())]


def same(found: list[Any], expected: list[Any], tolerance: float = EXACT) -> None:
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)


def check(
    a: nn.Module, b: nn.Module, inputs: tuple[Any, ...], widths: tuple[float, ...], tolerance: float = EXACT
) -> None:
    for width in widths:
        with surgery.at_widths(a, width), surgery.at_widths(b, width):
            same(learnt(b, *inputs), learnt(a, *inputs), tolerance)


def runs_uncompiled(model: nn.Module) -> str | None:
    found: Any = state_of(model).compiled
    return None if found is None else found.unfit


@pytest.mark.parametrize("name", slowly(BY_NAME, QUICK))
def test_it_is_the_twin_that_is_not_compiled(name: str) -> None:
    case = BY_NAME[name]
    inputs = case.inputs(0)
    try:
        a, b = twins(case.build(), inputs)
    except surgery.InputError as error:
        assert "no axis that can change its width" in str(error)
        return
    told = pytest.warns(UserWarning, match=UNCOMPILED[name]) if name in UNCOMPILED else contextlib.nullcontext()
    with told:
        for training in (True, False):
            a.train(training), b.train(training)
            check(a, b, inputs, (1.0, 0.5) * 3)
    assert (compiled() == 0) == (name in UNCOMPILED)


@pytest.mark.parametrize("name", slowly(["mlp", "resnet_basic", "vit_fused_qkv"], ["mlp"]))
def test_each_width_of_a_grid_is_compiled_once_and_whole(name: str) -> None:
    case = BY_NAME[name]
    inputs = case.inputs(0)
    a, b = twins(case.build(), inputs, backend="aot_eager", draw=surgery.grid(list(GRID)))
    for _ in range(24):
        same(learnt(b.train(), *inputs), learnt(a.train(), *inputs))
    assert compiled() == len(GRID) and not breaks() and runs_uncompiled(b) is None
    for _ in range(24):
        learnt(b, *inputs)
    assert compiled() == len(GRID)


def test_train_step() -> None:
    x, a, b = X.double(), *twins(Net(), X.double(), backend="aot_eager")
    for epoch in range(3):
        for model in (a.train(), b.train()):
            model.zero_grad()
            torch.manual_seed(epoch)
            surgery.train_step(model, x, lambda output: output.square().mean(), narrow=GRID[1:])
        same([p.grad for p in b.parameters()], [p.grad for p in a.parameters()])
        same([*b.buffers()], [*a.buffers()])
    assert compiled() == len(GRID) and not breaks()


def test_widths_that_never_come_again_are_not_compiled() -> None:
    case = BY_NAME["mlp"]
    a, b = twins(case.build(), case.inputs(0))
    for width in range(1, 12):
        check(a, b, case.inputs(0), ({"*": width},))
    assert not compiled()
    for width in range(1, 12):
        check(a, b, case.inputs(0), ({"*": width},) * 2)
    assert compiled() == WIDTHS
    for width in range(1, 12):  # in another mode: dynamo allows eight ways to run one piece of code
        check(a.eval(), b.eval(), case.inputs(0), ({"*": width},) * 2)
    assert compiled() == 2 * WIDTHS


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "flatten_batchnorm", "densenet", "vit_fused_qkv"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_inductor(name: str, dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    case = BY_NAME[name]
    a, b = twins(case.build(), case.inputs(0), backend="inductor")
    for training in (True, False):
        a.train(training), b.train(training)
        # sums are taken in another order: some hundred roundings of float32, on values of some ten
        check(a, b, case.inputs(0), (1.0, 0.5) * 3, EXACT if dtype == torch.float64 else 2e-3)
    assert compiled() and not breaks()
