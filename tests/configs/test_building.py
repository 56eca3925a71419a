"""Models that are built over tensors which are there already: they are those tensors, and nothing large is made."""

from __future__ import annotations

import types
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import surgery
from surgery.configs.building import SMALL, built_over
from surgery.modules.tensors import named_tensors


class Plain(nn.Module):
    """Weights that are drawn, and a table that is computed and not saved."""

    def __init__(self, config: Any):
        super().__init__()
        self.config = config
        self.a, self.b = nn.Linear(config.width, 100), nn.Embedding(100, config.width)
        self.register_buffer("table", torch.arange(config.width).float() / config.width, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        return self.a(self.b(ids) * self.table)


class Drawn(Plain):
    """A table of random numbers, which the saved tensors do not hold."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.register_buffer("noise", torch.randn(config.width, 100), persistent=False)


class Keeping(Plain):
    """Random numbers in a plain attribute."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.kept = torch.randn(config.width, 100)


class Computing(Plain):
    """A constructor that computes with the weights that it has drawn."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.scale = float(self.a.weight.detach().abs().max())


class Made(TorchDispatchMode):
    """The largest tensor with numbers that is made inside."""

    largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and not result.is_meta and not result._is_view():
            self.largest = max(self.largest, result.numel())
        return result


@pytest.mark.parametrize("cls, hollow", [(Plain, True), (Drawn, False), (Keeping, False), (Computing, False)])
def test_a_model_is_built_over_tensors(cls: type[Plain], hollow: bool) -> None:
    config = types.SimpleNamespace(width=SMALL // 50)
    state = cls(config).state_dict()
    before = torch.random.get_rng_state()
    with Made() as made:
        built = built_over(cls, config, state, training=False)
    assert torch.equal(torch.random.get_rng_state(), before) and not built.training
    assert (made.largest <= SMALL) is hollow
    assert all(p.data_ptr() == state[name].data_ptr() for name, p in built.named_parameters())
    assert not any(tensor.is_meta for _, tensor in named_tensors(built))
    assert torch.equal(built.table, torch.arange(config.width).float() / config.width)


class Turned(nn.Module):
    """Heads whose width decides what a table of angles holds: a narrower head has other angles."""

    def __init__(self, config: Any):
        super().__init__()
        self.config, width = config, config.heads * config.head_width
        self.e, self.q, self.o = nn.Embedding(11, 24), nn.Linear(24, width), nn.Linear(width, 3)
        angles = 1 / 100 ** (torch.arange(config.head_width) / config.head_width)
        self.register_buffer("angles", angles, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        q = self.q(self.e(ids)).view(*ids.shape, -1, self.config.head_width)
        return self.o((q * (1 + self.angles.to(q) / 100)).flatten(-2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_tie_holds_for_what_no_checkpoint_holds(dtype: torch.dtype) -> None:
    """In a coarse type outputs come near enough, though the class computes another table than the twin has."""
    torch.manual_seed(0)
    model = Turned(types.SimpleNamespace(heads=4, head_width=8)).to(dtype).eval()
    wrapped = surgery.wrap(model, torch.randint(11, (2, 5)), tie="config")
    plan = surgery.inspect(wrapped)
    assert [tie.groups for tie in plan.ties] == [("q.o.0",)], "the number of heads, and not their width"
    small = surgery.shrink(wrapped, 0.5)
    assert "config" not in small.surgery_record and (small.config.heads, small.config.head_width) == (2, 8)
