"""Forwards with sizes in their code stay the model's own code: other inputs, flags and modes take their own way."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import io
import math
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

import surgery
from surgery.modules.code.rewritten import meet
from surgery.modules.inputs import tensors
from surgery.modules.verify import output, verify
from surgery.plan.plan import Plan
from surgery.twin.setting import plan_of
from tests.models import BY_NAME


class Heads(nn.Module):
    """Attention in which the width of a head is computed: every subclass needs another forward when it is cut."""

    def __init__(self, dim: int = 12, heads: int = 3):
        super().__init__()
        self.heads = heads
        self.embed = nn.Linear(5, dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.head = nn.Linear(dim, 4)

    def attend(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c)
        return self.out(y)


class Loop(Heads):
    """Its loop runs over the parts of the input."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(())
        for part in x.unbind(1):
            y = self.attend(self.embed(part)[:, None])
            total = total + self.head(y).sum() * len(part)
        for part in x.split(2, dim=1):
            total = total + self.head(self.attend(self.embed(part))).sum()
        return total


class Branches(Heads):
    """It goes other ways by rank, type, length and gradients."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.to(self.embed.weight.dtype))
        if x.dim() == 2:
            x = x[None]
        y = self.attend(x)
        if x.shape[1] > 4:
            y = y * 2
        if torch.is_grad_enabled():
            y = y + 1
        if y.dtype == torch.float32:
            y = y + 2
        if float(y.detach().abs().sum()) > 100:
            y = y * 3
        return self.head(y)


class Flags(Heads):
    """It reads attributes that are no sizes when it runs."""

    temperature = 2.0
    double = False

    def forward(self, x: Tensor) -> Tensor:
        y = self.attend(self.embed(x)) / self.temperature
        return self.head(y * 2 if self.double else y)


class Output(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclasses.dataclass
class Record:
    logits: Tensor
    name: str = "record"


class Returns(Heads):
    """What it returns keeps its class."""

    def __init__(self, make: Callable[..., Any]):
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        y = self.attend(self.embed(x))
        return self.make(self.head(y), self.head(y).sum(-1))


def as_tuple(logits: Tensor, hidden: Tensor) -> Output:
    return Output(logits, hidden)


def as_dict(logits: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    return collections.OrderedDict(logits=logits, hidden=hidden)


def as_record(logits: Tensor, hidden: Tensor) -> Record:
    return Record(logits)


class Dropping(Heads):
    """It draws random numbers, in training only."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout(self.attend(self.embed(x)), 0.5, self.training)
        return self.head(y)


class State(Heads):
    """It keeps what it has seen in a plain object."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.attend(self.embed(x))
        cache = {"length": 0, "y": y}
        cache["y"] = cache["y"] + 1
        cache["length"] += x.shape[1]
        return self.head(cache["y"]) * cache["length"]


def windows(x: Tensor, size: int) -> Tensor:
    b, n, _ = x.shape
    return x.view(b, n // size, size, 12).mean(2)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 12), nn.Linear(12, 4)


class Helper(Plain):
    """The size stands in a function outside of the class, which is called twice."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(windows(x, 2)) + self.head(windows(torch.relu(x), 2))


class Nested(Plain):
    """The size stands in a function inside the forward, in a comprehension, and in a lambda."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = lambda x: x.reshape(-1, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)

        def twice(y: Tensor) -> Tensor:
            return y.reshape(len(y), -1, 12) * 2

        parts = [part.reshape(len(part), 12) for part in twice(x).unbind(1)]
        return self.head(self.flat(sum(parts)))


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) + 1

    return wrapper


class Decorated(Heads):
    """A decorator of the model's own stands around the forward."""

    @decorated
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.head(self.attend(self.embed(x))) * scale


class Base(Heads):
    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.embed(x))


class Super(Base):
    """The size stands in the forward of the class above; a private name is mangled."""

    def __scaled(self, x: Tensor) -> Tensor:
        return x.view(-1, 12) * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.__scaled(super().forward(x)))


class Computed(Heads):
    """The computed width also leaves the arithmetic of sizes."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        width = c // self.heads
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        y = torch.softmax(q @ k.transpose(2, 3) * width**-0.5 / math.sqrt(width), -1) @ v
        return self.head(self.out(y.transpose(1, 2).reshape(b, n, c)))


class Spelled(Heads):
    """The same sizes in other forms of a call."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        shape = (b, n, 3, self.heads, c // self.heads)
        qkv = self.qkv(x).view(shape)
        qkv = torch.reshape(qkv, shape=(*x.shape[:2], 3, self.heads, c // self.heads)).view(*shape)
        q, k, v = rearrange(qkv, "b n s h d -> s b h n d", h=3)
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).contiguous().view(
            b,
            n,
            c,
        )  # fmt: skip
        return self.head(self.out(torch.cat([y[..., :6], y[..., 6:12]], -1)))


class Batched(Heads):
    """A literal stands beside the batch in one product."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 3, 4).permute(2, 0, 3, 1, 4).reshape(3, b * 3, n, 4)
        y = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)
        return self.head(self.out(y.view(b, 3, n, 4).transpose(1, 2).reshape(b, n, 12)))


CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, list[Tensor]]] = {
    "loop": (Loop, torch.randn(2, 3, 5), [torch.randn(2, 7, 5), torch.randn(4, 1, 5)]),
    "branches": (
        Branches,
        torch.randn(2, 3, 5),
        [torch.randn(2, 6, 5), torch.randn(3, 5), torch.randn(1, 9, 5).double(), torch.randn(8, 50, 5) * 50],
    ),
    "flags": (Flags, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "tuple": (lambda: Returns(as_tuple), torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "dict": (lambda: Returns(as_dict), torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "record": (lambda: Returns(as_record), torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "dropping": (Dropping, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "state": (State, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "helper": (Helper, torch.randn(2, 4, 5), [torch.randn(3, 6, 5)]),
    "nested": (Nested, torch.randn(2, 4, 5), [torch.randn(3, 6, 5)]),
    "decorated": (Decorated, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "super": (Super, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "computed": (Computed, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "spelled": (Spelled, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "batched": (Batched, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
}


def built(name: str) -> tuple[nn.Module, Tensor, list[Tensor]]:
    build, example, others = CASES[name]
    torch.manual_seed(0)
    return build().eval(), example, others


def found(result: Any) -> list[Tensor]:
    return tensors(vars(result) if isinstance(result, Record) else result)


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


def copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


PICKLED = [name for name in CASES if name != "nested"]  # a lambda cannot be pickled, with or without a new forward


@pytest.mark.parametrize("again", [copied, pickled, saved])
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
    compiled = torch.compile(copied(small), backend="eager", fullgraph=one)
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


class Draws(Heads):
    """It draws in eval mode too, and returns sizes beside its tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, int, dict[str, int]]:
        noise = torch.rand(len(x), x.shape[1], 1)
        y = self.head(self.attend(self.embed(x) * noise))
        return y, x.shape[1], {"heads": self.heads, "batch": len(x)}


def test_a_trial_starts_where_the_recorded_run_did() -> None:
    torch.manual_seed(3)
    model, x = Draws(), torch.randn(2, 4, 5)
    before = torch.get_rng_state()
    plan = surgery.inspect(model, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(plan.rewrites) == [""], plan
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    with surgery.at_widths(wrapped, 0.5):
        assert verify(wrapped, small, x) < 1e-4


class Counts(Heads):
    """What it returns depends on how often it ran, which a nested list or a buffer that grows knows."""

    def __init__(self, nested: bool):
        super().__init__()
        self.nested, self.memory = nested, {"runs": []}
        self.register_buffer("log", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.nested:
            self.memory["runs"].append(1.0)
        else:
            self.log = torch.cat([self.log, x.mean().reshape(1)])
        return self.head(self.attend(self.embed(x))) / (len(self.memory["runs"]) + len(self.log))


@pytest.mark.parametrize("nested", [True, False])
def test_a_trial_knows_what_one_run_leaves_for_the_next(nested: bool) -> None:
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert list(surgery.inspect(Counts(nested), surgery.batches([x, x + 1])).rewrites) == [""]


class Views(Heads):
    """It changes one buffer, and reads another that looks at the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("whole", torch.ones(4))
        self.register_buffer("part", self.whole[:2])

    def forward(self, x: Tensor) -> Tensor:
        self.whole.mul_(2)
        return self.head(self.attend(self.embed(x))) * self.part.sum()


def test_a_trial_is_held_against_the_model_where_the_recording_is_another() -> None:
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert list(surgery.inspect(Views(), x).rewrites) == [""]


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


@pytest.mark.parametrize("widths", [0.5, {"stages.0.proj.o": 12, "stages.1.proj.o": 24}, {"stages.1.proj.o": 24}])
def test_widths_that_differ_never_seem_equal(widths: Any) -> None:
    """`if self.inside != self.outside` takes the way that it took, though nothing tells that `inside` is a width."""
    case = BY_NAME["widths_that_differ"]
    model, inputs = case.build().eval(), case.inputs(0)
    plan = surgery.inspect(model, inputs)
    assert plan.elastic_share > 0.99 and not plan.notes and set(plan.rewrites) == {"stages.0", "stages.1"}
    small = surgery.shrink(model, widths, inputs)
    wide = plan.widths(widths)
    assert small.stages[1].proj.weight.shape == (wide["stages.1.proj.o"], wide["stages.0.proj.o"])
    assert pickle.loads(pickle.dumps(small))(*inputs).equal(small(*inputs))


class Doubles(nn.Module):
    """It doubles features where their width is not what an attribute says; `differ` says how it asks."""

    def __init__(self, differ: Callable[[Any, Tensor], bool], widths: tuple[int, ...] = (16,)):
        super().__init__()
        self.c, self.differ = sum(widths) // 2, differ
        self.ups = nn.ModuleList(nn.Linear(6, width) for width in widths)
        self.down = nn.Linear(sum(widths), 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.cat([up(x) for up in self.ups], -1)
        if self.differ(self, h):
            h = h * 2
        return self.down(h)


def cut_by_hand(model: Doubles, width: int, x: Tensor) -> Tensor:
    """The way that the full model takes, with the first units of every layer."""
    h = torch.cat([F.linear(x, up.weight[:width], up.bias[:width]) for up in model.ups], -1) * 2
    columns = torch.cat(
        [weight[:, :width] for weight in model.down.weight.split([len(up.bias) for up in model.ups], 1)], 1
    )
    return F.linear(h, columns, model.down.bias)


HELD: dict[str, tuple[Callable[[Any, Tensor], bool], tuple[int, ...]]] = {
    "a width and an attribute": (lambda m, h: h.shape[-1] != m.c, (16,)),
    "the other way round, as equal": (lambda m, h: (m.c == h.shape[-1]) is False, (16,)),
    "arithmetic on both sides": (lambda m, h: h.shape[-1] // 2 != m.c // 2, (16,)),
    "an attribute whose own width is fixed": (lambda m, h: h.shape[-1] != m.down.out_features * 8 // 3, (16,)),
    "a sum of wide axes": (lambda m, h: h.shape[-1] != m.c, (512, 512)),
}


@pytest.mark.parametrize("name", HELD)
def test_unequal_sizes_stay_so_however_they_are_compared(name: str) -> None:
    torch.manual_seed(0)
    differ, widths = HELD[name]
    model, x = Doubles(differ, widths).double().eval(), torch.randn(4, 6, dtype=torch.double)
    plan = surgery.inspect(model, x)
    assert set(plan.groups) == {f"ups.{i}.o" for i in range(len(widths))}
    for width in {widths[0] // 2, widths[0] // 2 + 1, 8, 3}:
        small = surgery.shrink(model, dict.fromkeys(plan.groups, width), x)
        assert torch.allclose(small(x), cut_by_hand(model, width, x), rtol=1e-9)


@pytest.mark.parametrize(
    "differ",
    [
        lambda m, h: h.shape[1:] != (m.c,),
        lambda m, h: [h.shape[-1]] != [m.c],
        lambda m, h: m.c != 48 // (h.shape[-1] // 8),
    ],
)
def test_comparisons_that_cannot_be_held_pin(differ: Callable[[Any, Tensor], bool]) -> None:
    plan = surgery.inspect(Doubles(differ).double().eval(), torch.randn(4, 6, dtype=torch.double))
    assert not plan.groups
    assert any("the comparison at test_rewrites.py" in item.reason for item in plan.fixed)


class Both(nn.Module):
    """One place in the code finds sizes equal at one time and unequal at another."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.c = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 3)]), 6
        self.norm = nn.LayerNorm(6)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            if x.shape[-1] == self.c:
                x = self.norm(x)
            x = layer(x).tanh()
        return x


def test_a_comparison_that_came_out_both_ways_pins() -> None:
    plan = surgery.inspect(Both(), torch.randn(4, 6))
    assert not plan.groups and any("the same code compares several sizes" in item.reason for item in plan.fixed)


@pytest.mark.parametrize(
    ("left", "right", "expected"), [(12, 12, False), (12, 24, False), (24, 24, True), (7, 7, True), (7, 12, False)]
)
def test_two_sizes_meet_where_they_did_not_come_from_different_ones(left: int, right: int, expected: bool) -> None:
    assert meet(left, right, 12, 12) is expected


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
