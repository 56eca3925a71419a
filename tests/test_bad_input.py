"""Bad input: the message says what is wrong, and models and files are as before."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import surgery
from surgery import AxisError, CaptureError, FileError, InputError, ProofError, WidthError
from surgery.twin.elastic import state_of
from tests.unchanged import picture, unchanged

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, hidden: int = 16, middle: int = 8):
        super().__init__()
        self.fc1 = nn.Linear(6, hidden)
        self.norm = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, middle)
        self.head = nn.Linear(middle, 3)

    def forward(self, x, *, scale=1.0):
        x = torch.relu(self.norm(self.fc1(x)))
        return self.head(torch.relu(self.fc2(x))) * scale


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def wrapped(model: Net) -> Any:
    twin = surgery.wrap(model, X, granularity={"fc1.o": 4})
    surgery.set_widths(twin, {"fc1.o": 12, "fc2.o": 5})
    return twin


# --- widths ---

BAD_WIDTHS = [
    ({"fc1.o": 0}, WidthError, r"group fc1\.o \(size 16, granularity 4\): the width 0 is not between 1 and 16"),
    ({"fc1.o": -4}, WidthError, "the width -4 is not between 1 and 16"),
    ({"fc1.o": 17}, WidthError, "the width 17 is not between 1 and 16"),
    ({"fc1.o": 6}, WidthError, "the width 6 is not a multiple of 4"),
    ({"fc2.o": 4, "fc1.o": 6}, WidthError, "the width 6 is not a multiple of 4"),
    ({"*": math.nan}, WidthError, r"a fraction lies in \(0, 1\], got nan"),
    (math.nan, WidthError, r"a fraction lies in \(0, 1\], got nan"),
    (math.inf, WidthError, r"a fraction lies in \(0, 1\], got inf"),
    (0.0, WidthError, r"a fraction lies in \(0, 1\], got 0\.0"),
    (-0.5, WidthError, r"a fraction lies in \(0, 1\], got -0\.5"),
    (1.5, WidthError, r"a fraction lies in \(0, 1\], got 1\.5"),
    (8, WidthError, r"a bare int \(8\) is no width .* a mapping such as \{'\*': 8\}"),
    (True, WidthError, "a fraction, a mapping or a point of a curve, not bool"),
    ("0.5", WidthError, "a fraction, a mapping or a point of a curve, not str"),
    (None, WidthError, "not NoneType"),
    ([8, 4], WidthError, "not list"),
    ({"fc1.o": True}, WidthError, "a width is an int or a fraction, not True"),
    ({"fc1.o": "8"}, WidthError, "a width is an int or a fraction, not '8'"),
    ({"fc1.o": None}, WidthError, "a width is an int or a fraction, not None"),
    ({"fc9.o": 4}, WidthError, r"no group matches 'fc9\.o'\. The groups of Net are: fc1\.o, fc2\.o"),
    ({"*.z": 0.5}, WidthError, r"no group matches '\*\.z'"),
]


def enter_at_widths(wrapped: Any, spec: Any) -> None:
    with surgery.at_widths(wrapped, spec):
        raise AssertionError("not reached")


@pytest.mark.parametrize("use", [surgery.set_widths, enter_at_widths, surgery.shrink, surgery.cost])
@pytest.mark.parametrize(("spec", "error", "message"), BAD_WIDTHS, ids=[str(spec) for spec, *_ in BAD_WIDTHS])
def test_bad_widths(wrapped: Any, model: Net, use: Callable, spec: Any, error: type, message: str) -> None:
    with unchanged(wrapped, model), pytest.raises(error, match=message):
        use(wrapped, spec)


# --- what wrap, shrink, reorder and draws are told ---

OPTIONS = [
    (dict(fixed=["fc9"]), WidthError, "no group matches 'fc9'"),
    (dict(only="*.z"), WidthError, r"no group matches '\*\.z'"),
    (dict(fixed=3), InputError, "fixed takes globs over group names, or module paths, got 3"),
    (dict(only=[None]), InputError, "only takes globs over group names, or module paths, got None"),
    (
        dict(only="fc1", fixed="fc1"),
        InputError,
        r"Net has no axis that can change its width \(.*kept fixed by the caller",
    ),
    *(
        (
            {option: value},
            InputError,
            rf"{option} is a positive int or a mapping of groups to such, got "
            + re.escape(repr(value["fc1.o"] if isinstance(value, dict) else value)),
        )
        for option in ("granularity", "minimum")
        for value in (0, -4, True, 1.5, "2", {"fc1.o": 0}, {"fc1.o": True})
    ),
    (dict(granularity={"fc9": 2}), WidthError, "no group matches 'fc9'"),
    (dict(minimum={"fc9": 2}), WidthError, "no group matches 'fc9'"),
    (
        dict(draw=0.5),
        InputError,
        r"draw is a callable \(plan, generator\) -> mapping, such as surgery.paper\(\), got 0.5",
    ),
    (dict(generator=0), InputError, "generator is a torch.Generator on the CPU, got 0"),
]


@pytest.mark.parametrize(("options", "error", "message"), OPTIONS, ids=[str(o) for o, *_ in OPTIONS])
def test_bad_options_of_wrap(model: Net, options: dict, error: type, message: str) -> None:
    with unchanged(model), pytest.raises(error, match=message):
        surgery.wrap(model, X, **options)


@pytest.mark.parametrize("multiple", [0, -8, True, 2.0, "8"])
def test_bad_multiple(wrapped: Any, multiple: Any) -> None:
    with unchanged(wrapped), pytest.raises(InputError, match=f"multiple is a positive int, got {multiple!r}"):
        surgery.shrink(wrapped, 0.5, multiple=multiple)


DRAWS = [
    (lambda: surgery.paper(p=1.5), r"p is a probability in \[0, 1\], got 1\.5"),
    (lambda: surgery.paper(p=math.nan), r"p is a probability in \[0, 1\], got nan"),
    (lambda: surgery.paper(p="a"), r"p is a probability in \[0, 1\], got 'a'"),
    (lambda: surgery.paper(lower=0), "lower is an int of at least 1, got 0"),
    (lambda: surgery.paper(lower=2.5), r"lower is an int of at least 1, got 2\.5"),
    (lambda: surgery.paper(step=0), "step is an int of at least 1, got 0"),
    (lambda: surgery.shared(p=-0.1), r"p is a probability in \[0, 1\], got -0\.1"),
    (lambda: surgery.shared(lower=0), r"lower is a fraction in \(0, 1\], got 0"),
    (lambda: surgery.shared(lower=math.nan), r"lower is a fraction in \(0, 1\], got nan"),
    (lambda: surgery.shared(lower="a"), r"lower is a fraction in \(0, 1\], got 'a'"),
    (lambda: surgery.grid([]), r"one or more numbers in \(0, 1\], got \[\]"),
    (lambda: surgery.grid([0.5, 0.0]), r"one or more numbers in \(0, 1\], got \[0\.5, 0\.0\]"),
    (lambda: surgery.grid([0.5, math.nan]), r"one or more numbers in \(0, 1\]"),
    (lambda: surgery.grid([2.0]), r"one or more numbers in \(0, 1\]"),
    (lambda: surgery.grid(0.5), r"one or more numbers in \(0, 1\], got 0\.5"),
    (lambda: surgery.grid(["a"]), r"one or more numbers in \(0, 1\], got \['a'\]"),
]


@pytest.mark.parametrize(("make", "message"), DRAWS)
def test_bad_draws(make: Callable, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


class Boom(Exception):
    pass


def _raise(plan: Any, generator: Any) -> dict:
    raise Boom("no draw")


RETURNED = [
    (lambda plan, generator: {"fc9.o": 4}, WidthError, r"no group matches 'fc9\.o'"),
    (lambda plan, generator: {"fc1.o": 6}, WidthError, "not a multiple of 4"),
    (lambda plan, generator: {"fc1.o": 0}, WidthError, "the width 0 is not between"),
    (lambda plan, generator: None, WidthError, "a fraction, a mapping or a point of a curve, not NoneType"),
    (_raise, Boom, "no draw"),
]


@pytest.mark.parametrize(("draw", "error", "message"), RETURNED)
def test_a_draw_that_fails_in_a_training_forward(model: Net, draw: Callable, error: type, message: str) -> None:
    wrapped = surgery.wrap(model, X, granularity={"fc1.o": 4}, draw=draw)
    surgery.set_widths(wrapped, {"fc2.o": 5})
    with unchanged(wrapped), pytest.raises(error, match=message):
        wrapped.train()(X)
    assert wrapped.eval()(X).shape == (5, 3)


@pytest.mark.parametrize("training", [True, False])
def test_a_forward_that_raises_midway_restores_the_widths(wrapped: Any, training: bool) -> None:
    seen = []

    def fail(module: nn.Module, args: Any) -> None:
        seen.append(tuple(args[0].shape))
        raise Boom

    handle = wrapped.head.register_forward_pre_hook(fail)
    state_of(wrapped).draw = lambda plan, generator: {"fc1.o": 8, "fc2.o": 2}
    wrapped.fc1.weight.grad, wrapped.norm.momentum = None, 0.0  # so that the norm's statistics stay as they are
    wrapped.norm.track_running_stats = False
    wrapped.train(training)
    with unchanged(wrapped), pytest.raises(Boom):
        wrapped(X)
    assert seen == [(5, 2 if training else 5)]
    with unchanged(wrapped), pytest.raises(Boom), surgery.at_widths(wrapped, 0.25):
        wrapped(X)
    handle.remove()
    assert wrapped(X).shape == (5, 3)


# --- models ---

NOT_MODELS = [3, "model", None, lambda x: x, nn.Linear]
ANALYSING = [
    lambda model: surgery.wrap(model, X),
    lambda model: surgery.inspect(model, X),
    lambda model: surgery.shrink(model, 0.5, X),
    lambda model: surgery.reorder(model, {}, X),
    lambda model: surgery.cost(model, 0.5, X),
]


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


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    dist = torch.distributed
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


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


def test_a_loss_that_is_computed_already(wrapped: Any) -> None:
    with pytest.raises(InputError, match="loss is a function of the output"):
        surgery.train_step(wrapped, X, wrapped(X).sum())


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: surgery.pointwise("heavyside"), "torch has no operation 'heavyside'"),
        (lambda: surgery.pointwise(5), "not for 5"),
        (lambda: surgery.pointwise(), "name them"),
        (lambda: surgery.rule("nowhere_at_all")(lambda x: x), "torch has no operation"),
        (lambda: surgery.adapter("Linear"), "not for 'Linear'"),
        (lambda: surgery.adapter(surgery.Adapter), "an adapter is for classes of layers"),
    ],
)
def test_bad_declarations(declare: Callable, message: str) -> None:
    with pytest.raises(AxisError, match=message):
        declare()


def test_numbers_of_numpy_are_widths(wrapped: Any) -> None:
    surgery.set_widths(wrapped, {"fc1.o": np.int64(8), "fc2.o": np.float32(0.5)})
    assert surgery.widths(wrapped) == {"fc1.o": 8, "fc2.o": 4}
    surgery.set_widths(wrapped, np.float64(0.25))
    assert surgery.widths(wrapped) == {"fc1.o": 4, "fc2.o": 2}


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


# --- example inputs ---

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


# --- what the analysis cannot follow is pinned, and said so; the rest is still exact ---


class Unruled(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(6, 16), nn.Linear(16, 8), nn.Linear(8, 3)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.trapezoid(torch.stack([x, x * 2]), dim=0)  # the line that the plan must name
        return self.fc3(torch.relu(self.fc2(x)))


class Twice(torch.autograd.Function):
    """Computes where torch does not see it."""

    @staticmethod
    def forward(ctx, x):
        return torch.from_numpy(x.detach().numpy() * 2)


class Custom(Unruled):
    def forward(self, x):
        return self.fc3(torch.relu(self.fc2(Twice.apply(self.fc1(x)))))


class SharedTwoWays(nn.Module):
    """One tensor is (out, in) in one place, and its transpose, cut in other rows, in another."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8))
        self.first, self.middle, self.last = nn.Linear(6, 8), nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x):
        x = torch.relu(F.linear(self.first(x), self.weight))
        other = F.linear(x, self.weight.t().reshape(12, 8).t())
        return self.last(torch.relu(self.middle(F.pad(other, (0, 4)))))


class SharedLayouts(nn.Module):
    """One weight reads 3 + 5 features in one place and 2 x 4 in another."""

    def __init__(self):
        super().__init__()
        self.three, self.five, self.eight, self.inner = (
            nn.Linear(6, 3),
            nn.Linear(6, 5),
            nn.Linear(6, 8),
            nn.Linear(4, 4),
        )
        self.weight, self.middle, self.last = nn.Parameter(torch.randn(3, 8)), nn.Linear(3, 10), nn.Linear(10, 3)

    def forward(self, x):
        a = F.linear(torch.cat([self.three(x), self.five(x)], dim=1), self.weight)
        b = F.linear(self.inner(self.eight(x).view(-1, 2, 4)).flatten(1), self.weight)
        return self.last(torch.relu(self.middle((a * b).softmax(dim=1))))


@pytest.mark.parametrize(
    ("make", "reason", "elastic"),
    [
        (Unruled, r"no rule for trapezoid at test_bad_input\.py:\d+", "fc2.o"),
        (Custom, r"no rule for Twice at test_bad_input\.py:\d+", "fc2.o"),
        (SharedTwoWays, r"regrouped across units at reshape \(test_bad_input\.py:\d+\)", "middle.o"),
        (
            SharedLayouts,
            r"two layouts of 8 features that have no common refinement meet at linear \(test_bad",
            "middle.o",
        ),
    ],
)
def test_what_is_not_understood_is_pinned(make: Callable, reason: str, elastic: str) -> None:
    torch.manual_seed(0)
    model = make().double()
    plan = surgery.inspect(model, X.double())
    assert elastic in plan.groups
    assert any(re.search(reason, item.reason) for item in plan.fixed), plan
    with unchanged(model):
        small = surgery.shrink(model, 0.5, X.double())
        wrapped = surgery.wrap(model, X.double())
    surgery.set_widths(wrapped, 0.5)
    assert surgery.verify(wrapped, small, X.double() * 3, tolerance=1e-9) <= 1e-9
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())


# --- orders ---

ORDERS = [
    ([0] * 16, r"an order is a permutation of range\(16\), got 16 values, 1 different"),
    (range(15), r"an order is a permutation of range\(16\), got 15 values, 15 different"),
    (range(1, 17), r"an order is a permutation of range\(16\)"),
    ([-1, *range(15)], r"an order is a permutation of range\(16\)"),
    ([list(range(16))], r"an order is a permutation of range\(16\)"),
    (3, r"an order is a permutation of range\(16\)"),
    (torch.arange(16.0), "an order is a LongTensor or ints, got torch.float32"),
    (torch.ones(16, dtype=torch.bool), "an order is a LongTensor or ints, got torch.bool"),
    (["a"] * 16, "an order is a LongTensor or ints, got list"),
    (None, "an order is a LongTensor or ints, got NoneType"),
]


@pytest.mark.parametrize(("order", "message"), ORDERS)
def test_bad_orders(wrapped: Any, order: Any, message: str) -> None:
    with unchanged(wrapped), pytest.raises(InputError, match=f"group fc1.o: {message}"):
        surgery.reorder(wrapped, {"fc1.o": order})


def test_order_of_an_unknown_group_and_no_mapping(wrapped: Any) -> None:
    with unchanged(wrapped), pytest.raises(WidthError, match=r"no group matches 'fc9\.o'"):
        surgery.reorder(wrapped, {"fc9.o": range(16)})
    with unchanged(wrapped), pytest.raises(InputError, match=r"orders is a mapping of group names .* got range"):
        surgery.reorder(wrapped, range(16))


# --- optimizers ---


def _trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    model(X).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def test_optimizer_with_a_foreign_parameter(wrapped: Any) -> None:
    foreign = nn.Parameter(torch.zeros(7))
    optimizer = _trained(wrapped, torch.optim.Adam([*wrapped.parameters(), foreign]))
    small = surgery.shrink(wrapped, 0.5)
    with (
        unchanged(wrapped, small),
        pytest.raises(InputError, match=r"a parameter of shape \[7\] that is not in the model"),
    ):
        surgery.shrink_optimizer(optimizer, wrapped, small)


def test_optimizer_for_a_model_that_was_not_shrunk_from_this_one(wrapped: Any) -> None:
    optimizer = _trained(wrapped, torch.optim.Adam(wrapped.parameters()))
    for other in (Net(), surgery.shrink(Net(hidden=12), 0.5, X), wrapped):
        with (
            unchanged(wrapped, other),
            pytest.raises(InputError, match=r"small was not made by surgery\.shrink from this"),
        ):
            surgery.shrink_optimizer(optimizer, wrapped, other)


def test_optimizer_whose_state_cannot_be_cut(wrapped: Any) -> None:
    optimizer = _trained(wrapped, torch.optim.Adafactor(wrapped.parameters()))
    small = surgery.shrink(wrapped, 0.5)
    with unchanged(wrapped, small), pytest.raises(InputError, match=r"state 'row_var' of fc1\.weight .* cannot be cut"):
        surgery.shrink_optimizer(optimizer, wrapped, small)


# --- files ---


@pytest.fixture
def saved(wrapped: Any, tmp_path: Path) -> Path:
    surgery.save(surgery.shrink(wrapped, 0.5), tmp_path / "small")
    return tmp_path / "small"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edit(**changes: Any) -> Callable[[Path], None]:
    """Change or (with None) remove entries of the JSON."""

    def edit(path: Path) -> None:
        data = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))

    return edit


TENSORS, WIDTHS = "small.safetensors", "small.json"
DAMAGE = [
    (TENSORS, Path.unlink, r"there is no file .*small\.safetensors"),
    (WIDTHS, Path.unlink, r"there is no file .*small\.json"),
    (TENSORS, _flip, r"small\.safetensors is damaged, .*\(checksums differ\)"),
    (TENSORS, _truncate, r"small\.safetensors is damaged"),
    (TENSORS, lambda path: path.write_bytes(b""), "is damaged"),
    (WIDTHS, _truncate, r"small\.json is not readable as JSON"),
    (WIDTHS, lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not readable as JSON"),
    (WIDTHS, lambda path: path.write_text("[1, 2]"), r"was not written by surgery\.save"),
    (WIDTHS, lambda path: path.write_text('{"weights": 1}'), r"was not written by surgery\.save"),
    (
        WIDTHS,
        _edit(format="model-surgery/99"),
        r"was not written by surgery\.save \(its format is not 'model-surgery/1'\)",
    ),
    (WIDTHS, _edit(fingerprint=None, widths=None), "small.json is damaged: widths, fingerprint missing or not as"),
    (WIDTHS, _edit(widths={"fc9.o": 4}), r"small\.json .*no group matches 'fc9\.o'"),
    (WIDTHS, _edit(widths={"fc1.o": 99}), r"small\.json .*99 is not between"),
    (WIDTHS, _edit(widths=7), r"small\.json is damaged: widths missing or not as"),
    (WIDTHS, _edit(widths={"fc1.o": 4, "fc2.o": 4}), r"\w+\.\w+ is torch\.float32 \[8.*\], the model needs .*\[4.*\]"),
    (WIDTHS, _edit(options={}), r"small\.json is damaged: options missing or not as"),
    (
        WIDTHS,
        _edit(options={"fixed": 3, "only": [], "granularity": 1}),
        r"small\.json is damaged: options missing or not as",
    ),
    (WIDTHS, _edit(fingerprint="0" * 32), "belongs to a Net of another architecture"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
def test_damaged_files(saved: Path, name: str, damage: Callable, message: str) -> None:
    fresh = Net()
    surgery.load(saved, fresh, X)
    damage(saved.with_name(name))
    with unchanged(fresh, folder=saved.parent), pytest.raises(FileError, match=message):
        surgery.load(saved, fresh, X)


def test_foreign_safetensors_with_a_right_checksum(saved: Path) -> None:
    path = saved.with_name(TENSORS)
    for content, message in (
        ({"other": torch.zeros(2)}, "differ in which tensors they have: fc1.bias"),
        (None, "not readable as"),
    ):
        path.write_bytes(b"not safetensors") if content is None else save_file(content, path)
        _edit(sha256=hashlib.sha256(path.read_bytes()).hexdigest())(saved.with_name(WIDTHS))
        fresh = Net()
        with unchanged(fresh, folder=saved.parent), pytest.raises(FileError, match=message):
            surgery.load(saved, fresh, X)


OTHERS = [lambda: Net(hidden=20), lambda: Net(middle=10), lambda: nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3))]


@pytest.mark.parametrize("other", OTHERS, ids=["wider", "narrower", "another class"])
def test_files_of_another_architecture(saved: Path, other: Callable) -> None:
    model = other()
    reason = r"\((fingerprint \w+, here \w+|no group .*)\)"
    message = rf"small\.json belongs to a Net of another architecture than this \w+ {reason}"
    with unchanged(model, folder=saved.parent), pytest.raises(FileError, match=message):
        surgery.load(saved, model, X)


@pytest.mark.parametrize("thing", [Net(), 3], ids=["plain", "no model"])
def test_only_shrunk_models_are_saved(thing: Any, tmp_path: Path) -> None:
    with (
        unchanged(folder=tmp_path),
        pytest.raises(InputError, match=r"was not made by surgery\.shrink: save its state_dict"),
    ):
        surgery.save(thing, tmp_path / "small")


def test_a_wrapped_model_is_not_saved(wrapped: Any, tmp_path: Path) -> None:
    with unchanged(wrapped, folder=tmp_path), pytest.raises(InputError, match=r"was not made by surgery\.shrink"):
        surgery.save(wrapped, tmp_path / "small")


def test_the_picture_sees_changes(wrapped: Any) -> None:
    """The instrument of this file: each of these is noticed."""
    for change in (
        lambda: surgery.set_widths(wrapped, 0.5),
        lambda: wrapped.head.bias.data.add_(1),
        lambda: setattr(wrapped.fc2, "in_features", 3),
        lambda: wrapped.fc1.register_forward_hook(print),
        lambda: wrapped.eval(),
        lambda: wrapped.norm.running_mean.add_(1),
    ):
        before = picture(wrapped)
        change()
        assert picture(wrapped) != before


# --- models that have not run, or do not run ---


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
        if self.fc1.out_features < 4:
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
        surgery.shrink(wrapped, {"fc1.o": 2})
    assert str(raised.value.__cause__) == "too narrow"
