"""Bad widths, options, draws and declarations: the message says what is wrong, and models are as before."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import surgery
from surgery import AxisError, InputError, WidthError
from surgery.twin.elastic import state_of
from tests.bad_input.using import enter_at_widths
from tests.small_models import Net, X
from tests.unchanged import unchanged

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


@pytest.mark.parametrize("use", [surgery.set_widths, enter_at_widths, surgery.shrink, surgery.cost])
@pytest.mark.parametrize(("spec", "error", "message"), BAD_WIDTHS, ids=[str(spec) for spec, *_ in BAD_WIDTHS])
def test_bad_widths(wrapped: Any, model: Net, use: Callable, spec: Any, error: type, message: str) -> None:
    with unchanged(wrapped, model), pytest.raises(error, match=message):
        use(wrapped, spec)


def test_numbers_of_numpy_are_widths(wrapped: Any) -> None:
    surgery.set_widths(wrapped, {"fc1.o": np.int64(8), "fc2.o": np.float32(0.5)})
    assert surgery.widths(wrapped) == {"fc1.o": 8, "fc2.o": 4}
    surgery.set_widths(wrapped, np.float64(0.25))
    assert surgery.widths(wrapped) == {"fc1.o": 4, "fc2.o": 2}


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
