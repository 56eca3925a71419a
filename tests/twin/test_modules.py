"""Twins over the modules that are there: compiled, checkpointed, with what forwards leave, stepped in part."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import surgery
from surgery.errors import InputError
from surgery.modules.passing import Passing
from surgery.plan.groups import DEPTH, Group, Listed
from surgery.shrinking.shrink import wrapped_as
from surgery.twin.elastic import state_of
from tests.models.deep import IMAGES, Block, Deep, X, deep_cnn

ORDER = [2, 0, 3, 1]
# dynamo asks inputs for gradients, and hides what torch then says of one that is no leaf, unless that is an error
dynamo = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
DEPTHS: list[dict[str, int]] = [{"depth": 1}, {"depth": 3, "stem.o": 5}, {"depth": 4}, {"stem.o": 4}]


@pytest.fixture(autouse=True)
def in_double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    torch._dynamo.reset()
    yield
    torch.set_default_dtype(before)


def x() -> Tensor:
    return X.double()


def twin_of(model: nn.Module | None = None, **options: Any) -> Any:
    torch.manual_seed(0)
    return surgery.wrap(model or Deep(), x(), **{"depth": {"layers.depth": ORDER}, **options}).eval()


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def learnt(model: nn.Module, widths: dict[str, int]) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    with surgery.at_widths(model, widths):
        out = model(x())
        out.square().sum().backward()
    return out.detach(), gradients(model)


# ---- compiled


@dynamo
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
def test_compiled_it_says_and_learns_the_same_at_every_depth(backend: str) -> None:
    plain, fast = twin_of(), twin_of()
    fast.compile(backend=backend)
    for widths in DEPTHS * 3:
        (out, slopes), (expected, own) = learnt(fast, widths), learnt(plain, widths)
        torch.testing.assert_close(out, expected)
        assert slopes.keys() == own.keys()
        for name, value in own.items():
            torch.testing.assert_close(slopes[name], value, msg=name)
    made = state_of(fast).compiled
    assert made is not None and len(getattr(made, "skeletons")) == len(DEPTHS)  # noqa: B009


@dynamo
def test_another_order_lets_go_of_what_was_compiled() -> None:
    plain, fast = twin_of(), twin_of()
    fast.compile(backend="eager")
    for order in (ORDER, [1, 3, 0, 2]):
        for twin in (plain, fast):
            surgery.set_depth_order(twin, {"depth": order})
        for _ in range(3):
            torch.testing.assert_close(learnt(fast, {"depth": 2})[0], learnt(plain, {"depth": 2})[0])


@dynamo
def test_a_compiled_twin_with_statistics_keeps_those_of_blocks_that_are_left_out() -> None:
    twins = [deep_cnn(), deep_cnn()]
    twins[1].compile(backend="eager")  # type: ignore[no-untyped-call]
    for twin in twins:
        twin.train()
        for _ in range(4):
            with surgery.at_widths(twin, {"depth": 2}):
                twin(IMAGES.double())
    for (name, a), (_, b) in zip(twins[0].named_buffers(), twins[1].named_buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert int(twins[1].get_buffer("blocks.2.norm.num_batches_tracked")) == 0


# ---- gradient checkpointing


class Checkpointed(Deep):
    """Each layer, or all of them together, are computed again in the backward pass, once that is switched on."""

    def __init__(self) -> None:
        super().__init__()
        self.spares, self.reentrant, self.whole = False, False, False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if not self.spares:
            x = self.run(x)
        elif self.whole:
            x = checkpoint(self.run, x, use_reentrant=self.reentrant)
        else:
            for layer in self.layers:
                x = checkpoint(layer, x, use_reentrant=self.reentrant)
        out: Tensor = self.head(x)
        return out

    def run(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_checkpoints_run_again_the_modules_that_have_run(reentrant: bool, whole: bool) -> None:
    plain, spared = twin_of(Deep()), twin_of(Checkpointed())
    spared.spares, spared.reentrant, spared.whole = True, reentrant, whole
    spared.load_state_dict(plain.state_dict())
    for widths in DEPTHS:
        (out, slopes), (expected, own) = learnt(spared, widths), learnt(plain, widths)
        torch.testing.assert_close(out, expected)
        assert slopes.keys() == own.keys()
        for name, value in own.items():
            torch.testing.assert_close(slopes[name], value, msg=name)


def test_two_forwards_at_other_depths_go_back_each_at_its_own() -> None:
    twin = twin_of(Checkpointed())
    twin.spares = twin.whole = True
    outs = []
    for widths in DEPTHS[:2]:
        with surgery.at_widths(twin, widths):
            outs.append(twin(x()).square().sum())
    sum(outs).backward()  # type: ignore[union-attr]
    both = gradients(twin)
    apart = [learnt(twin, widths)[1] for widths in DEPTHS[:2]]
    for name, value in both.items():
        parts = [found[name] for found in apart if name in found]
        torch.testing.assert_close(value, torch.stack(parts).sum(0), msg=name)


# ---- what forwards leave on modules


class Balanced(Block):
    """Keeps a loss of its own, as a router does."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.extra = y.mean()
        return y


class Losses(Deep):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Balanced(8, 12) for _ in range(4))

    def forward(self, x: Tensor) -> Any:
        out = super().forward(x)
        return out, sum(layer.extra for layer in self.layers)


def test_losses_that_modules_keep_are_those_of_modules_that_are_there() -> None:
    twin = twin_of(Losses())
    twin(x())  # all of them keep one now
    for widths in DEPTHS:
        with surgery.at_widths(twin, widths):
            out, extra = twin(x())
        expected, own = surgery.shrink(twin, widths)(x())
        torch.testing.assert_close((out, extra), (expected, own))


# ---- modules that their parent calls by name


class Named(Deep):
    def __init__(self) -> None:
        super().__init__()
        del self.layers
        self.first, self.second, self.third = (Block(8, 12) for _ in range(3))
        self.spares = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = checkpoint(self.first, x, use_reentrant=False) if self.spares else self.first(x)
        out: Tensor = self.head(self.third(self.second(x=x)))
        return out


def named() -> Any:
    """A twin of which any of three blocks may be left out; a stand-in hands on what it is given."""
    torch.manual_seed(0)
    model = Named()
    plan = surgery.inspect(model, x())
    lists = (
        Listed("", (("first",), (), ("third",)), renumbered=False, passing=0),
        Listed("", ((), ("second",), ()), renumbered=False, passing="x"),
    )
    group = Group("depth", 3, kind=DEPTH, lists=lists, order=(2, 1, 0))
    return wrapped_as(model, dataclasses.replace(plan, groups={**plan.groups, "depth": group}), surgery.inputs(x()))


@pytest.mark.parametrize("widths", [{"depth": 1}, {"depth": 2, "stem.o": 5}, {"depth": 3}])
def test_stand_ins_hand_on_what_they_are_given(widths: dict[str, int]) -> None:
    twin = named()
    out, slopes = learnt(twin, widths)
    small = surgery.shrink(twin, widths)
    torch.testing.assert_close(out, small(x()).detach())
    gone = [*("first", "second")][: 3 - widths["depth"]]
    assert [name for name, module in small.named_children() if isinstance(module, Passing)] == gone
    assert not any(name.startswith(tuple(gone)) for name in slopes) if gone else len(slopes) == 22
    exported = torch.export.export(small, (x(),)).module()
    torch.testing.assert_close(exported(x()), small(x()))
    for again in (copy.deepcopy(small), pickle.loads(pickle.dumps(small))):
        torch.testing.assert_close(again(x()), small(x()))


def test_stand_ins_stand_where_they_stood_when_a_pass_is_computed_again() -> None:
    plain, spared = named(), named()
    spared.spares = True
    for twin in (plain, spared):
        outs = []
        for widths in ({"depth": 1}, {"depth": 3}, {"depth": 2}):
            with surgery.at_widths(twin, widths):
                outs.append(twin(x()).square().sum())
        surgery.set_widths(twin, {"depth": 1})
        torch.stack(outs).sum().backward()
    torch.testing.assert_close(gradients(spared), gradients(plain))


@dynamo
def test_stand_ins_run_compiled() -> None:
    plain, fast = named(), named()
    fast.compile(backend="eager")
    for widths in [{"depth": 1}, {"depth": 2, "stem.o": 5}] * 3:
        torch.testing.assert_close(learnt(fast, widths)[0], learnt(plain, widths)[0])


# ---- steps of an optimizer


@pytest.mark.parametrize("widths", DEPTHS[:2])
def test_steps_leave_modules_alone_that_no_pass_has_run(widths: dict[str, int]) -> None:
    twin = twin_of(only=["depth", "stem.o"])
    optimizer = torch.optim.AdamW(twin.parameters(), 0.1, weight_decay=0.5)
    for _ in range(2):
        learnt(twin, {})
        optimizer.step()
    hooks = surgery.step_touched(optimizer, twin)
    before = {name: value.detach().clone() for name, value in twin.named_parameters()}
    twin.zero_grad(set_to_none=False)
    with surgery.at_widths(twin, widths):
        twin(x()).square().sum().backward()
    optimizer.step()
    kept = {f"layers.{unit}" for unit in ORDER[: widths["depth"]]}
    for name, value in twin.named_parameters():
        gone = name.startswith("layers") and name[:8] not in kept
        assert torch.equal(value, before[name]) == gone, name
    hooks.remove()


def test_the_order_of_each_pass_is_the_one_that_it_had() -> None:
    twin = twin_of()
    optimizer = torch.optim.SGD(twin.parameters(), 0.1, weight_decay=0.5)
    surgery.step_touched(optimizer, twin)
    before = {name: value.detach().clone() for name, value in twin.named_parameters()}
    for order in ([0, 1, 2, 3], [3, 1, 2, 0]):
        surgery.set_depth_order(twin, {"depth": order})
        with surgery.at_widths(twin, {"depth": 1}):
            twin(x()).square().sum().backward()
    for parameter in twin.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    optimizer.step()
    changed = {name[:8] for name, value in twin.named_parameters() if not torch.equal(value, before[name])}
    assert {name for name in changed if name.startswith("layers")} == {"layers.0", "layers.3"}


# ---- the state of a training


def test_a_training_goes_on_with_its_order() -> None:
    first, second = twin_of(), twin_of(depth=True)
    surgery.set_widths(first, {"depth": 2})
    surgery.load_training_state(second, surgery.training_state(first))
    torch.testing.assert_close(second(x()), first(x()), rtol=0, atol=0)


@pytest.mark.parametrize("orders", [[1], {"layers.depth": 3}, {"layers.depth": [0, 1]}])
def test_a_state_with_orders_that_are_none_changes_nothing(orders: Any) -> None:
    twin = twin_of()
    state = {**surgery.training_state(twin), "orders": orders}
    with pytest.raises(InputError, match="order"):
        surgery.load_training_state(twin, state)
    assert state_of(twin).plan is not None and surgery.training_state(twin)["orders"] == {"layers.depth": ORDER}


def test_an_order_that_is_none_changes_nothing() -> None:
    twin = twin_of()
    surgery.set_widths(twin, {"depth": 2})
    before = twin(x())
    for wrong in ([0, 1, 2], [0, 0, 1, 2], [0, 1, 2, 4]):
        with pytest.raises(InputError, match="permutation"):
            surgery.set_depth_order(twin, {"depth": wrong})
    with pytest.raises(surgery.WidthError, match="no group"):
        surgery.set_depth_order(twin, {"nothing": ORDER})
    with pytest.raises(InputError, match="sort or reorder"):
        surgery.set_depth_order(twin, {"stem.o": range(8)})
    torch.testing.assert_close(twin(x()), before, rtol=0, atol=0)
