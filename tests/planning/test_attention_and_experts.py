"""Which axes forms of attention, state spaces and mixtures of experts offer. That they are right is for the laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.twin.setting import plan_of
from tests.laws.laws import cost_is_counted, counted_macs
from tests.models import BY_NAME
from tests.models.experts import Expert

# The groups of each model. Everything else in it is fixed, and less than one parameter in a hundred.
AXES = {
    "attention_h3d": {"embed.o": 24, "query_key_value.o.0": 3, "query_key_value.o.1": 8},
    "attention_kv_rep_2_d": {"embed.d": 32, "qkv.o.0": 2, "qkv.o.1": 4, "qkv.o.2": 4},
    "attention_cross": {"left.o": 20, "right.o": 28, "q.o.0": 4, "q.o.1": 6},
    "attention_relative": {"embed.o": 24, "q.o.0": 4, "q.o.1": 6},
    "attention_alibi": {"embed.o": 24, "q.o.0": 4, "q.o.1": 6},
    "attention_talking": {"embed.o": 24, "q.o.0": 4, "q.o.1": 6, "bias.before.o": 4},
    "attention_temperature": {"embed.o": 24, "q.o.0": 4, "q.o.1": 6},
    "attention_linear": {"embed.o": 24, "qkv.o.0": 3, "qkv.o.1": 8},
    "tokens_before_patches": {"cls_token.2": 22, "registers.1": 3, "up.o": 34},
    "selective_scan": {"A_log.0": 28, "A_log.1": 6, "embed.o": 16, "x_proj.o.0": 5},
    "moe_masked_topk": {"embed.o": 18, **{f"experts.{i}.w1.o": 22 for i in range(4)}},
    "moe_soft": {"up.0": 5, "up.1": 18, "up.2": 22},
    "moe_slots": {"phi.0": 18, "phi.1": 5, "phi.2": 3, "up.2": 22},
}


@pytest.mark.parametrize("name", AXES)
def test_everything_but_the_output_is_elastic(name: str) -> None:
    case = BY_NAME[name]
    plan = surgery.inspect(case.build().eval(), case.inputs(0))
    assert {group.name: group.size for group in plan.groups.values()} == AXES[name]
    assert plan.elastic_share > 0.99 and not plan.rewrites
    assert {item.reason for item in plan.fixed} == {"it is an output of the model"}


@pytest.mark.parametrize("name", ["attention_linear", "moe_slots"])
def test_work_is_counted_where_torch_counts_it(name: str) -> None:
    case = BY_NAME[name]
    wrapped = surgery.wrap(case.build().eval(), case.inputs(0))
    widths = {group: max(2, size // 2) for group, size in AXES[name].items()}  # at 1 torch multiplies elements
    cost_is_counted(wrapped, surgery.shrink(wrapped, widths), widths, case.inputs(0))


def test_the_number_of_stacked_experts_is_a_width() -> None:
    case = BY_NAME["moe_soft"]
    small = surgery.shrink(case.build(), {"up.0": 2}, case.inputs(0))
    assert small.up.shape[0] == small.down.shape[0] == small.router.out_features == 2


class Routed(nn.Module):
    """One expert for each row, by the sign of its first feature; rows of zeros go to none."""

    def __init__(self, hidden: tuple[int, ...]):
        super().__init__()
        self.experts = nn.ModuleList([Expert(8, size) for size in hidden])
        self.embed, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.embed(x))
        y = torch.zeros_like(h)
        for i, expert in enumerate(self.experts):
            rows = torch.where((x[:, 0] > 0) == bool(i))[0]
            if len(rows):
                y = y.index_add(0, rows, expert(h[rows]))
        return self.out(h + y)


BOTH = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
FIRST = -BOTH.abs()


def test_an_unreached_expert_follows_its_reached_sibling() -> None:
    wrapped = surgery.wrap(Routed((12, 12)), FIRST)
    widths = {"experts.0.w2.o": 4, "experts.0.w1.o": 6, "experts.1.w1.o": 3}
    small = surgery.shrink(wrapped, widths)
    assert set(plan_of(wrapped).groups) == set(widths)
    with surgery.at_widths(wrapped, widths):
        surgery.verify(wrapped, small, BOTH)


def test_the_work_of_an_unreached_expert_is_not_counted() -> None:
    model = Routed((12, 12))
    assert surgery.cost(surgery.wrap(model, FIRST)).macs == counted_macs(model, FIRST)


def test_an_unreached_expert_without_a_sibling_is_fixed_and_said_so() -> None:
    model = Routed((12, 14))
    plan = surgery.inspect(model, FIRST)
    reasons = {item.tensor: item.reason for item in plan.fixed}
    assert set(plan.groups) == {"experts.0.w1.o"}
    assert reasons["experts.1.w1.weight"] == "the example inputs do not reach it"
    assert "experts.1, which the example inputs do not reach, could receive it" in reasons["embed.weight"]
    assert "surgery.batches([...])" in reasons["embed.weight"]
    surgery.verify(surgery.unwrap(surgery.wrap(model, FIRST)), model, BOTH)
    both = surgery.inspect(model, surgery.batches([FIRST, BOTH]))
    assert set(both.groups) == {"experts.0.w2.o", "experts.0.w1.o", "experts.1.w1.o"}
