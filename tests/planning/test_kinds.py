"""What groups are is told by what the model computes, whatever things are called."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery.plan.groups import KINDS
from tests.models import BY_NAME, CASES

EXPECTED = {
    "mlp": {"hidden": 2},
    "vgg": {"channels": 3, "hidden": 1},
    "resnet_basic": {"residual": 3, "channels": 4},
    "unet": {"channels": 12},
    "inception": {"channels": 15},
    "densenet": {"channels": 12},
    "mobilenet_v2": {"channels": 7, "residual": 1},
    "convnext": {"residual": 2, "ffn": 3},
    "swin": {"residual": 2, "heads": 3, "head_width": 3, "ffn": 3},
    "vit_fused_qkv": {"residual": 1, "heads": 2, "head_width": 2, "ffn": 2},
    "vit_separate_qkv": {"residual": 1, "heads": 2, "head_width": 4, "ffn": 2},
    "vit_einops": {"residual": 1, "heads": 2, "head_width": 2, "ffn": 2},
    "transformer_encoder": {"residual": 1, "heads": 2, "head_width": 2, "ffn": 2},
    "llama_gqa": {"residual": 1, "kv_heads": 2, "heads": 2, "head_width": 1, "ffn": 2},
    "gpt2": {"residual": 1, "heads": 2, "head_width": 2, "ffn": 2},
    "lstm_tagger": {"embedding": 1, "hidden": 1},
    "attention_linear": {"residual": 1, "inner": 2},
    "selective_scan": {"residual": 1, "inner": 2, "hidden": 1},
    "moe_stacked": {"residual": 1, "ffn": 2},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_kinds_of_known_architectures(name: str) -> None:
    case = BY_NAME[name]
    plan = surgery.inspect(case.build(), case.inputs(0), rehearse=False)
    assert Counter(group.kind for group in plan.groups.values()) == EXPECTED[name]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_group_has_a_kind(case) -> None:
    plan = surgery.inspect(case.build(), case.inputs(0), rehearse=False)
    assert {group.kind for group in plan.groups.values()} <= KINDS.keys()


class Block(nn.Module):
    """Attention that is written out, with products of its own spelling, and names that tell nothing."""

    def __init__(self, product: str):
        super().__init__()
        self.product = product
        self.a, self.b, self.c = nn.Linear(6, 12), nn.Linear(12, 36), nn.Linear(12, 12)
        self.d, self.e, self.f = nn.Linear(12, 20), nn.Linear(20, 12), nn.Linear(12, 2)

    def forward(self, x):
        x = self.a(x)
        q, k, v = self.b(x).unflatten(-1, (3, 3, 4)).unbind(2)
        if self.product == "einsum":
            scores = torch.einsum("bihd,bjhd->bhij", q, k).softmax(-1)
            y = torch.einsum("bhij,bjhd->bihd", scores, v)
        elif self.product == "matmul":
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            y = (F.dropout((q @ k.mT).div(2).softmax(-1), 0.1, self.training) @ v).transpose(1, 2)
        elif self.product == "bmm":
            q, k, v = (t.transpose(1, 2).flatten(0, 1) for t in (q, k, v))
            y = torch.bmm(torch.softmax(torch.bmm(q, k.mT), 2), v).unflatten(0, (-1, 3)).transpose(1, 2)
        else:
            y = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v))).transpose(1, 2)
        x = x + self.c(y.flatten(2))
        return self.f(x + self.e(self.d(x).relu()))


@pytest.mark.parametrize("product", ["einsum", "matmul", "bmm", "function"])
def test_attention_is_known_however_it_is_written(product: str) -> None:
    plan = surgery.inspect(Block(product), torch.randn(2, 5, 6))
    assert {name: group.kind for name, group in plan.groups.items()} == {
        "a.o": "residual", "b.o.0": "heads", "b.o.1": "head_width", "d.o": "ffn",
    }  # fmt: skip


class Sums(nn.Module):
    """Sums that lead around no layer: of two gates, of two inputs, of branches of equal length."""

    def __init__(self):
        super().__init__()
        self.x, self.h, self.one, self.other = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out = nn.Linear(8, 2)

    def forward(self, x, y):
        h = torch.tanh(self.x(x) + self.h(self.x(y)))
        return self.out(self.one(h).relu() + self.other(h).relu())


def test_a_sum_of_parallel_layers_is_no_residual() -> None:
    plan = surgery.inspect(Sums(), (torch.randn(3, 5), torch.randn(3, 5)))
    assert "residual" not in {group.kind for group in plan.groups.values()}


def test_factors_of_an_embedding_are_told_apart_from_the_residual() -> None:
    class Factored(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.up, self.mix, self.out = (
                nn.Embedding(9, 4),
                nn.Linear(4, 8),
                nn.Linear(8, 8),
                nn.Linear(8, 9),
            )

        def forward(self, ids):
            x = self.up(self.table(ids))
            return self.out(x + self.mix(x))

    plan = surgery.inspect(Factored(), torch.randint(9, (2, 5)))
    assert {name: group.kind for name, group in plan.groups.items()} == {"table.d": "embedding", "up.o": "residual"}


def test_an_adapter_may_say_what_its_axes_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery.adapters import base

    monkeypatch.setattr(base, "_REGISTRY", dict(base._REGISTRY))

    class Bank(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(6, 4))

        def forward(self, x):
            return x @ self.weight.T

    @surgery.adapter(Bank)
    class BankAdapter(surgery.Adapter):
        axes, params, kinds = "... i -> ... f", {"weight": "f i"}, {"f": "heads"}

    plan = surgery.inspect(nn.Sequential(nn.Linear(3, 4), Bank(), nn.Linear(6, 2)), torch.randn(5, 3))
    assert plan.groups["1.f"].kind == "heads"
