"""A plan is run before it is believed: what does not come out right is pinned, with the line, or takes larger steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.laws.laws import EXACT, cost_is_counted, random_widths, shrunk_is_wrapped, smallest
from tests.small_models import Given, mlp

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(8, 6, generator=GENERATOR, dtype=torch.float64)


def by_sums(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    y = y - y.mean(-1, keepdim=True)
    return net.b(y / (y.pow(2).sum(-1, keepdim=True) / (y.shape[-1] - 1) + 1e-5).sqrt())


def by_the_others(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y - (y.sum(-1, keepdim=True) - y) / (y.shape[-1] - 1))


def by_var(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b((y - y.mean(-1, keepdim=True)) / (y.var(-1, keepdim=True) + 1e-5).sqrt())


def by_std(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    return net.b(y / (y.std(dim=-1, keepdim=True) + 1e-6))


def by_torch_var(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    var, mean = torch.var_mean(y, dim=-1, keepdim=True)
    return net.b((y - mean) * torch.rsqrt(var + 1e-5))


# torch, of one unit alone
@pytest.mark.filterwarnings("ignore:.*degrees of freedom is <= 0:UserWarning")
@pytest.mark.parametrize("function", [by_sums, by_the_others, by_var, by_std, by_torch_var])
def test_nan_at_one_unit_makes_the_step_larger(function: Callable) -> None:
    model = Given(function).double()
    plan = surgery.inspect(model, X)
    assert plan.groups["a.o"].granularity == 2
    wrapped = surgery.wrap(model, X).eval()
    for width in (2, 4, 8):
        small = shrunk_is_wrapped(wrapped, {"a.o": width}, X * 2)
        assert small(X).isfinite().all()
    with surgery.at_widths(wrapped.train(), smallest(plan)):
        assert wrapped(X).isfinite().all()
    with pytest.raises(surgery.WidthError, match="multiple"):
        surgery.set_widths(wrapped, {"a.o": 3})


def exact_class(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x) if type(net.a) is nn.Linear else net.a(x).tanh())


def class_attribute(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x) if net.a.__class__ == nn.Linear else net.a(x).tanh())


def class_table(net: Any, x: Tensor) -> Tensor:
    return net.b({nn.Linear: torch.relu}.get(type(net.a), torch.tanh)(net.a(x)))


def refuses_others(net: Any, x: Tensor) -> Tensor:
    if type(net.a) not in (nn.Linear, nn.Conv1d):
        raise TypeError("only layers of torch")
    return net.b(net.a(x).relu())


@pytest.mark.parametrize("function", [exact_class, class_attribute, class_table, refuses_others])
def test_a_check_of_the_very_class_pins_or_follows(function: Callable) -> None:
    model = Given(function).double()
    plan = surgery.inspect(model, X)
    if not plan.groups:
        assert all(item.reason for item in plan.fixed)
        assert any("does not come out right" in item.reason for item in plan.fixed)
        return
    wrapped = surgery.wrap(model, X).eval()
    assert (wrapped(X) - model(X)).abs().max() <= EXACT


def test_the_reason_names_the_line() -> None:
    plan = surgery.inspect(Given(refuses_others).double(), X)
    assert not plan.groups
    assert any("test_rehearsal.py" in item.reason and "only layers of torch" in item.reason for item in plan.fixed)


class FromTable(nn.Module):
    """Finds a number in a table, by an attribute that the module does not have."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.table = nn.Linear(6, 12), nn.Linear(12, 3), {"heads": 3}

    def __getattr__(self, name: str) -> Any:
        table = self.__dict__.get("table", {})
        return table[name] if name in table else super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).view(*x.shape[:-1], self.heads, -1).softmax(1).flatten(1))


class FromObject(FromTable):
    """Finds it on an object that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {}
        self.config = type("Config", (), {"heads": 3})()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["config"], name)


class FromPart(FromTable):
    """Finds it on a part, as wrappers of models do."""

    def __init__(self) -> None:
        super().__init__()
        self.table = {}
        self.part = nn.Identity()
        self.part.heads = 3

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_modules"]["part"], name)


@pytest.mark.parametrize("build", [FromTable, FromObject, FromPart])
def test_attributes_that_are_found_elsewhere(build: type[nn.Module]) -> None:
    """Pinned or cut: every width that the plan allows runs, and is what shrink gives."""
    model = build().double()
    plan = surgery.inspect(model, X)
    assert plan.groups or all(item.reason for item in plan.fixed)
    if plan.groups:
        wrapped = surgery.wrap(model, X).eval()
        for widths in (smallest(plan), *(random_widths(plan, GENERATOR) for _ in range(3))):
            shrunk_is_wrapped(wrapped, widths, X * 2)


@pytest.mark.parametrize("function", [by_sums, by_the_others])
def test_without_rehearsal_the_plan_is_what_the_rules_say(function: Callable) -> None:
    assert surgery.inspect(Given(function).double(), X, rehearse=False).groups["a.o"].granularity == 1
    assert surgery.widths(surgery.wrap(Given(refuses_others).double(), X, rehearse=False)) == {"a.o": 8}


class Registers(nn.Module):
    """Learned tokens before the others, and a view that knows how many there are."""

    def __init__(self, way: str):
        super().__init__()
        torch.manual_seed(0)
        self.way, self.i, self.r = way, nn.Linear(6, 8), nn.Parameter(torch.randn(4, 8))
        self.q, self.v, self.o = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        b, t, _ = x.shape
        y = torch.cat([self.r.expand(b, -1, -1), self.i(x)], 1)
        n = {"sum": t + 4, "shape": y.shape[1], "length": t + len(self.r)}[self.way]
        q, v = self.q(y).view(b, n, 2, -1).transpose(1, 2), self.v(y).view(b, n, 2, -1).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, q, v).transpose(1, 2).reshape(b, n, -1)
        return self.o(y[:, -t:])


@pytest.mark.parametrize("way", ["sum", "shape", "length"])
def test_other_lengths_than_the_examples_work_at_full_width(way: str) -> None:
    model = Registers(way).double().eval()
    x, *others = (torch.randn(*shape, 6, generator=GENERATOR).double() for shape in ((2, 5), (2, 9), (2, 4), (3, 5)))
    wrapped = surgery.wrap(model, x).eval()
    small = surgery.shrink(wrapped, 0.5)
    for other in others:
        assert (wrapped(other) - model(other)).abs().max() <= EXACT
        with surgery.at_widths(wrapped, 0.5):
            assert (wrapped(other) - small(other)).abs().max() <= EXACT


@pytest.mark.parametrize("build", [lambda: Registers("sum"), lambda: Registers("shape"), lambda: mlp(6, 12, 3)])
def test_multiply_adds_count_only_the_examples(build: Callable) -> None:
    """What was tried besides the examples is no part of the cost."""
    model, x = build().double(), torch.randn(2, 5, 6, generator=GENERATOR).double()
    wrapped = surgery.wrap(model, x)
    widths = smallest(surgery.inspect(wrapped))
    cost_is_counted(wrapped, surgery.shrink(wrapped, widths), widths, x)
    full = surgery.widths(wrapped)
    cost_is_counted(wrapped, surgery.shrink(wrapped, full), full, x)


def masked_and_particular(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    if int(str(y.shape[-1])) % 4:  # text: nothing follows the size through it
        raise ValueError("a width that is no multiple of 4")
    z = net.b(y)
    return z.masked_fill(torch.arange(z.shape[-1]) == 0, -torch.inf)


def test_a_model_that_gives_infinity_is_run_at_narrow_widths_all_the_same() -> None:
    model = Given(masked_and_particular).double()
    plan = surgery.inspect(model, X)
    assert plan.groups["a.o"].granularity == 4
    shrunk_is_wrapped(surgery.wrap(model, X).eval(), {"a.o": 4}, X)


def in_training(module: nn.Module, x: Tensor) -> Tensor:
    return x.view(x.shape[0], 4, 4).flip(1).flatten(1) if module.training else x


def test_helpers_that_read_the_mode_are_followed_in_both() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(in_training(self, self.a(x)))

    model, x = Net(), torch.randn(4, 5)
    wrapped = surgery.wrap(model, x).train()
    for group in surgery.inspect(wrapped).groups:
        with surgery.at_widths(wrapped, {group: 1}):
            wrapped(x).sum().backward()


def test_slices_of_parameters_are_parameters_where_code_asks() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.w = nn.Linear(5, 16), nn.Linear(16, 3), nn.Parameter(torch.randn(16))

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            return self.b(y * self.w if isinstance(self.w, nn.Parameter) else y)

    small = surgery.shrink(Gated(), 0.5, torch.randn(4, 5))
    assert isinstance(small.w, nn.Parameter) and small.w.shape == (8,)


def test_widths_that_only_some_code_refuses_are_no_promise() -> None:
    class Powers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.a(x)
            if y.shape[1] & (y.shape[1] - 1):
                raise ValueError("not a power of two")
            return self.b(y)

    plan = surgery.inspect(Powers(), torch.randn(4, 5))
    assert not plan.groups and any("not a power of two" in item.reason for item in plan.fixed)
