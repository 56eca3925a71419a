"""Models and example inputs that cannot be used: the message says why, and they are as before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery import CaptureError, InputError, ProofError
from tests.bad_input.using import ANALYSING, enter_at_widths
from tests.small_models import Net, X
from tests.unchanged import unchanged

NOT_MODELS = [3, "model", None, lambda x: x, nn.Linear]


@pytest.mark.parametrize("use", ANALYSING)
@pytest.mark.parametrize("thing", NOT_MODELS, ids=lambda thing: str(thing).partition(" at ")[0])
def test_not_a_module(use: Callable, thing: Any) -> None:
    with pytest.raises(InputError, match=f"a model is an nn.Module, got {type(thing).__name__}"):
        use(thing)


NEEDING_A_TWIN = [
    surgery.widths,
    surgery.unwrap,
    lambda model: surgery.set_widths(model, 0.5),
    lambda model: enter_at_widths(model, 0.5),
    lambda model: surgery.shrink_optimizer(torch.optim.SGD(model.parameters(), 0.1), model, model),
]


@pytest.mark.parametrize("use", NEEDING_A_TWIN)
def test_a_plain_model_has_no_widths(model: Net, use: Callable) -> None:
    with (
        unchanged(model),
        pytest.raises(InputError, match=r"Net is not wrapped: call surgery.wrap\(model, example_inputs\)"),
    ):
        use(model)


@pytest.mark.parametrize("use", [lambda m: surgery.shrink(m, 0.5), lambda m: surgery.reorder(m, {}), surgery.cost])
def test_a_plain_model_needs_example_inputs(model: Net, use: Callable) -> None:
    with unchanged(model), pytest.raises(InputError, match="Net is not wrapped: give example inputs to analyse it on"):
        use(model)


def test_wrapped_already(wrapped: Any) -> None:
    with (
        unchanged(wrapped),
        pytest.raises(InputError, match=r"Net is wrapped already: use it as it is, or surgery\.unwrap"),
    ):
        surgery.wrap(wrapped, X)


@pytest.mark.parametrize("use", ANALYSING)
def test_a_part_is_wrapped_already(wrapped: Any, use: Callable) -> None:
    whole = nn.Sequential(wrapped, nn.ReLU())
    with (
        unchanged(whole),
        pytest.raises(InputError, match=r"0 is wrapped already: surgery\.unwrap it, then wrap the whole"),
    ):
        use(whole)


@pytest.mark.parametrize("use", [lambda part: surgery.shrink(part, 0.5), lambda part: surgery.reorder(part, {})])
def test_a_part_of_a_wrapped_model_is_no_model(wrapped: Any, use: Callable) -> None:
    with (
        unchanged(wrapped),
        pytest.raises(InputError, match="this Linear is fc1 of a wrapped model: give the whole model"),
    ):
        use(wrapped.fc1)


@pytest.mark.parametrize("use", ANALYSING)
@pytest.mark.parametrize("where", ["the model", "0"])
def test_compiled_already(model: Net, where: str, use: Callable) -> None:
    compiled = torch.compile(model)
    with pytest.raises(InputError, match=f"{where} is compiled: wrap the plain model"):
        use(compiled if where == "the model" else nn.Sequential(compiled))


@pytest.mark.parametrize("use", ANALYSING)
def test_scripted_already(model: Net, use: Callable) -> None:
    with pytest.raises(InputError, match="the model is a TorchScript module: wrap the plain one"):
        use(torch.jit.trace(model.eval(), X))


@pytest.mark.parametrize("use", ANALYSING)
def test_a_function_that_closes_over_a_method_of_the_model(model: Net, use: Callable) -> None:
    old = model.fc2.forward
    model.fc2.forward = lambda x: 2 * old(x)
    with unchanged(model), pytest.raises(CaptureError, match=r"has closed over Linear.forward of the model"):
        use(model)
    model.fc2.forward = functools.partial(lambda forward, x: 2 * forward(x), old)
    small = surgery.shrink(model, {"fc1.o": 8}, X)
    small(X).sum().backward()
    assert small.fc2.weight.grad is not None and model.fc2.weight.grad is None


@pytest.mark.parametrize("use", ANALYSING)
@pytest.mark.parametrize("outer", [nn.Identity(), nn.ReLU()], ids=["itself", "inside"])
@pytest.mark.parametrize("parallel", [nn.DataParallel, nn.parallel.DistributedDataParallel])
def test_parallelised_already(
    process_group: None, model: Net, parallel: Callable, outer: nn.Module, use: Callable
) -> None:
    inside = isinstance(outer, nn.ReLU)
    whole = nn.Sequential(parallel(model), outer) if inside else parallel(model)
    where = "0" if inside else "the model"
    message = f"{where} is inside {parallel.__name__}: wrap the model itself first, then parallelise it"
    with unchanged(whole), pytest.raises(InputError, match=message):
        use(whole)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Linear(6, 3), "it is an input of the model"),
        (nn.ReLU(), "it has no parameters"),
        (nn.Sequential(nn.Linear(6, 1), nn.ReLU()), "it is an input of the model"),
    ],
    ids=["one layer", "no parameters", "width 1"],
)
def test_no_elastic_axis(model: nn.Module, reason: str) -> None:
    name, message = type(model).__name__, "has no axis that can change its width"
    with unchanged(model):
        for use in (lambda: surgery.wrap(model, X), lambda: surgery.shrink(model, 0.5, X)):
            with pytest.raises(InputError, match=rf"{name} {message} \(.*{reason}.*surgery\.inspect"):
                use()
    assert surgery.inspect(model, X).groups == {}


BAD_INPUTS = [
    ((), CaptureError, r"Net does not run in eval mode on the example inputs \(\): TypeError: .*missing 1 required"),
    (
        (X, X),
        CaptureError,
        r"inputs \(float32\[5, 6\] on cpu, float32\[5, 6\] on cpu\): TypeError: .*takes 2 positional",
    ),
    ({"x": X, "scal": 2}, CaptureError, "unexpected keyword argument 'scal'"),
    ({}, CaptureError, "missing 1 required positional argument"),
    (X.long(), CaptureError, r"on the example inputs \(int64\[5, 6\] on cpu\): RuntimeError: .*same dtype"),
    (X.double(), CaptureError, r"on the example inputs \(float64\[5, 6\] on cpu\)"),
    (X[:, :4], CaptureError, r"on the example inputs \(float32\[5, 4\] on cpu\): RuntimeError: .*multiplied"),
    ([X], CaptureError, r"on the example inputs \(list\)"),
    ("x", CaptureError, r"on the example inputs \(str\)"),
    (X.to("meta"), InputError, "an example input is on meta, the model on cpu: move one of them"),
    ({"x": X.to("meta")}, InputError, "an example input is on meta, the model on cpu"),
]


@pytest.mark.parametrize("use", [
    lambda model, x: surgery.wrap(model, x),
    lambda model, x: surgery.inspect(model, x),
    lambda model, x: surgery.shrink(model, 0.5, x),
    lambda model, x: surgery.reorder(model, {"fc1.o": range(16)}, x),
    lambda model, x: surgery.cost(model, 0.5, x),
])  # fmt: skip
@pytest.mark.parametrize(("inputs", "error", "message"), BAD_INPUTS)
def test_bad_example_inputs(model: Net, use: Callable, inputs: Any, error: type, message: str) -> None:
    with unchanged(model), pytest.raises(error, match=message):
        use(model, inputs)


def test_no_batches_and_nested_batches() -> None:
    with pytest.raises(InputError, match=r"batches\(\) was given no inputs: give at least one"):
        surgery.batches([])
    with pytest.raises(InputError, match="batches cannot be nested"):
        surgery.batches([surgery.batches([X])])


def test_a_bad_first_forward_leaves_a_deferred_twin_ready(model: Net) -> None:
    wrapped = surgery.wrap(model)
    with unchanged(model, wrapped), pytest.raises(CaptureError, match=r"float32\[5, 4\]"):
        wrapped(X[:, :4])
    with (
        unchanged(model, wrapped),
        pytest.raises(InputError, match="wrapped without example inputs and has not run yet"),
    ):
        surgery.widths(wrapped)
    wrapped.eval()(X)
    assert surgery.widths(wrapped) == {"fc1.o": 16, "fc2.o": 8}


@pytest.mark.parametrize("call", [surgery.inspect, surgery.wrap, lambda m, x: surgery.shrink(m, 0.5, x)])
@pytest.mark.parametrize(
    "lazy", [lambda: nn.LazyLinear(8), lambda: nn.Sequential(nn.Linear(6, 8), nn.LazyBatchNorm1d())]
)
def test_lazy_layers_must_have_run(lazy: Callable, call: Callable) -> None:
    model = nn.Sequential(lazy(), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(InputError, match=r"^0\..* has no shape yet, .*: run the model once on example inputs"):
        call(model, X)
    with pytest.raises(InputError, match="has no shape yet"):
        surgery.wrap(model)
    model.eval()(X)
    call(model, X)


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x):
        if self.fc1.out_features == 3:  # a width that no rehearsal tries
            raise RuntimeError("too narrow")
        return self.fc2(self.fc1(x))


def test_a_model_that_does_not_run_is_named() -> None:
    one, other = nn.Linear(6, 2), nn.Linear(5, 2)
    for pair, which in (((one, other), "second"), ((other, one), "first")):
        with unchanged(*pair), pytest.raises(ProofError, match=rf"the {which} model \(Linear\) does not run") as raised:
            surgery.verify(*pair, X)
        assert type(raised.value.__cause__) is RuntimeError


def test_a_shrunk_model_that_does_not_run_is_named() -> None:
    wrapped = surgery.wrap(Fails(), X)
    with unchanged(wrapped), pytest.raises(ProofError, match=r"the wrapped model .*\(Fails\) does not run") as raised:
        surgery.shrink(wrapped, {"fc1.o": 3})
    assert str(raised.value.__cause__) == "too narrow"
