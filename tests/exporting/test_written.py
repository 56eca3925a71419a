"""What is written is the model: its tensors, attributes and classes, and what it computes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.exporting.module import module_of
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.code.untraced import Untraced
from tests.exporting.written import again, imported, packages
from tests.kept.net import Net
from tests.models import BY_NAME

# One of each kind: rewritten and swapped, recurrent, tied, with buffers that are not saved, with channels in groups.
NAMES = (
    "lenet", "resnet_basic", "llama_gqa", "transformer_encoder", "lstm_tagger", "tied_embeddings", "moe_dense",
    "gru_classifier",
)  # fmt: skip


def held(module: nn.Module) -> dict[str, Any]:
    """The attributes of a module that are its own: neither tables, nor what `shrink` left there."""
    ours = ("surgery_",)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith(ours) and not isinstance(value, Rewritten | Untraced)
    }


def check(small: nn.Module, folder: Path, inputs: Any) -> nn.Module:
    model = again(small, folder)
    assert surgery.verify(small, model, inputs) == 0
    assert list(model.state_dict()) == list(small.state_dict())
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in small.parameters()]
    assert [name for name, _ in model.named_buffers()] == [name for name, _ in small.named_buffers()]
    for (path, mine), (other, theirs) in zip(small.named_modules(), model.named_modules(), strict=True):
        assert path == other and held(mine).keys() == held(theirs).keys()
        assert type(theirs).__name__.startswith(type(mine).__name__)
        for name, value in held(mine).items():
            if isinstance(value, bool | int | float | str | None):
                assert vars(theirs)[name] == value, (path, name)
    assert not any(parameter.is_meta for parameter in model.parameters())
    return model


@pytest.mark.parametrize("name", NAMES)
def test_a_small_model_is_what_is_written(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    check(surgery.shrink(case.build(), 0.5, case.inputs(0)), tmp_path, case.inputs(1))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(BY_NAME) - set(NAMES)))
def test_all_architectures(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    try:
        small = surgery.shrink(case.build(), 0.5, case.inputs(0))
    except surgery.InputError as error:
        assert "has no axis that can change its width" in str(error)
        return
    check(small, tmp_path, case.inputs(1))


@pytest.fixture
def kept() -> tuple[nn.Module, torch.Tensor]:
    """A small model with an attention that is rewritten, and one whose class was replaced; its inputs."""
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4)
    return surgery.shrink(Net().eval(), 0.5, x), x


def test_sizes_are_numbers_and_no_part_of_the_library_is_needed(kept: Any, tmp_path: Path) -> None:
    small, x = kept
    assert small.surgery_record["rewritten"] == ["own"] and small.surgery_record["replaced"] == ["torchs"]
    text = module_of(small).text
    assert "_sized(c // self.heads, 4, 2)" in text and "nn.Linear(4, 6)" in text
    assert "surgery" not in text.replace("surgery.shrink", "")
    assert packages(text) == {"__future__", "collections", "pathlib", "safetensors", "tests", "torch", "typing"}
    check(small, tmp_path, x)


def test_what_computes_another_size_says_so_as_the_small_model_does(kept: Any, tmp_path: Path) -> None:
    small, _ = kept
    model = again(small, tmp_path)
    wide = torch.randn(2, 5, 6)
    with pytest.raises(surgery.InputError, match="computes the size 3"):
        small.own(_with_width(small, wide))
    with pytest.raises(ValueError, match="computes the size 3, and 4 is"):
        model.own(_with_width(model, wide))


def _with_width(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Inputs of another width, which the first layer of the attention takes."""
    model.own.heads = 2  # type: ignore[union-attr]
    model.own.qkv = nn.Linear(6, 6)  # type: ignore[union-attr]
    return x


class Node(NamedTuple):
    name: str
    sizes: tuple[int, ...]


def doubled(x: torch.Tensor) -> torch.Tensor:
    return 2 * x


class Scale:
    """An object that is called."""

    def __init__(self, by: float):
        self.by = by

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.by * x


class Holder(nn.Module):
    """Holds a bit of everything, some of it twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 3)
        self.tied = nn.Linear(4, 8)
        self.tied.weight = self.stem.weight
        self.act = nn.Sequential(nn.ReLU(), nn.Tanh())
        self.again = self.act[1]
        self.head.bias.requires_grad_(False)
        self.options = {"eps": 1e-5, "sizes": [1, 2], 3: float("inf"), "none": None, "kind": torch.float32}
        self.same = self.options
        self.order = [self.stem, self.head]
        self.method = self.head.forward
        self.functions = F.relu, torch.tanh, doubled, functools.partial(torch.clamp, min=-1.0)
        self.node, self.scale = Node("a", (1, 2)), Scale(0.5)
        self.apart = [nn.Dropout(0.0), nn.Sequential(nn.Tanh()).eval()]  # no part of the model
        self.device, self.shape, self.kinds = torch.device("cpu"), torch.Size([2, 3]), {"b", "a"}
        self.register_buffer("table", torch.arange(8.0), persistent=False)
        self.register_buffer("nothing", None)
        self.held = {"w": torch.ones(3)}
        self.plain = torch.arange(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.again(self.act(self.stem(x) + self.tied(x))) * self.table
        for function in self.functions:
            x = function(x)
        for layer in self.apart:
            x = layer(x)
        return self.scale(self.method(x)) * self.held["w"] + self.plain


def test_what_modules_hold(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 4)
    small = surgery.shrink(Holder().eval(), 0.5, x)
    model: Any = check(small, tmp_path, x)
    assert model.tied.weight is model.stem.weight and model.again is model.act[1] and model.same is model.options
    assert model.order[0] is model.stem and model.method.__self__ is model.head
    assert model.options == small.options and model.kinds == small.kinds and model.shape == small.shape
    assert model.node == small.node and model.scale.by == 0.5 and model.functions[0] is F.relu
    assert [layer.training for layer in model.apart] == [True, False] and not model.apart[1][0].training
    assert type(model.options["sizes"]) is list and model.nothing is None
    assert "table" not in model.state_dict() and not model.head.bias.requires_grad


def test_what_torch_adds_to_a_module_does_not_make_it_one_that_uses_the_library(kept: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("tests.kept.net.__import_surgery_dot_adapters", surgery.adapters, raising=False)
    assert "class Net(" not in module_of(kept[0]).text


def test_float_types_stay(tmp_path: Path) -> None:
    x = torch.randn(2, 4)
    small = surgery.shrink(Holder().eval(), 0.5, x).bfloat16()
    assert {p.dtype for p in again(small, tmp_path).parameters()} == {torch.bfloat16}


def test_making_the_model_draws_nothing_and_is_new_each_time(kept: Any, tmp_path: Path) -> None:
    module = imported(module_of(kept[0]), tmp_path)
    before = torch.get_rng_state()
    one, other = module.model(), module.model()
    assert torch.equal(before, torch.get_rng_state())
    assert one.stem.weight is not other.stem.weight


def quiet(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(self: Any, *args: Any) -> Any:
        return function(self, *args)

    return wrapper


class Base(nn.Module):
    def forward(self, x: torch.Tensor, by: float = 2.0**-0.5) -> torch.Tensor:
        return by * x


class Attention(Base):
    """Its forward is decorated, calls the one below it, a function with sizes, and reads a private attribute."""

    def __init__(self, c: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.proj, self.__scale = heads, nn.Linear(c, 3 * c), nn.Linear(c, c), 0.5

    @quiet
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.split(self.qkv(super().forward(x)))
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        return self.__scale * self.proj(joined(y, x.shape[-1]))

    def split(self, y: torch.Tensor) -> torch.Tensor:
        b, n, c = y.shape
        return y.view(b, n, 3, self.heads, c // 3 // self.heads).permute(2, 0, 3, 1, 4)


def joined(y: torch.Tensor, c: int) -> torch.Tensor:
    return y.reshape(y.shape[0], -1, c)


def test_forwards_that_are_decorated_or_call_others(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4)
    model = nn.Sequential(nn.Linear(4, 8), Attention(8, 2), nn.Linear(8, 3)).eval()
    small = surgery.shrink(model, {"1.qkv.o.0": 1, "0.o": 4}, x)
    assert small.surgery_record["rewritten"] == ["1"]
    check(small, tmp_path, torch.randn(3, 7, 4))


class Grouped(nn.Module):
    """A method of it has sizes in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.o = nn.Linear(6, 32), nn.Linear(32, 4)

    def mixed(self, y: torch.Tensor) -> torch.Tensor:
        return y.view(y.shape[0], 4, 8).softmax(1).view(y.shape[0], 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o(self.mixed(self.i(x)))


class Below(Grouped):
    """It calls the forward of the class above it, which calls the method."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


def test_a_forward_of_the_class_above_calls_a_method_with_sizes(tmp_path: Path) -> None:
    small = surgery.shrink(Below().eval(), 0.5, torch.randn(2, 6))
    assert small.surgery_record["rewritten"] == [""]
    check(small, tmp_path, torch.randn(5, 6))


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Attention(8, 2) for _ in range(3))
        self.stem, self.head = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


def test_blocks_that_are_alike_share_a_class_and_others_do_not(tmp_path: Path) -> None:
    x = torch.randn(2, 5, 4)
    model: Any = check(surgery.shrink(Blocks().eval(), {"blocks.*.qkv.o.1": 2, "blocks.2.qkv.o.1": 3}, x), tmp_path, x)
    one, two, three = (type(block) for block in model.blocks)
    assert one is two is not three
