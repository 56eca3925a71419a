"""Names, globs, module paths and kinds select groups; what is meant is never guessed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import surgery
from surgery.plan.groups import Group
from surgery.plan.selecting import selected

KINDS = (("q", "heads"), ("up", "ffn"))


def group(name: str, kind: str) -> Group:
    return Group(name, 8, cuts=((f"{name.rpartition('.')[0]}.weight", 0),), kind=kind)


GROUPS = {f"{place}.{name}.o": group(f"{place}.{name}.o", kind) for place in "ab" for name, kind in KINDS}


@pytest.mark.parametrize(
    "pattern, names",
    [
        ("a.q.o", ["a.q.o"]),
        ("*.up.o", ["a.up.o", "b.up.o"]),
        ("a", ["a.q.o", "a.up.o"]),
        ("heads", ["a.q.o", "b.q.o"]),
        ("*:ffn", ["a.up.o", "b.up.o"]),
        (":ffn", ["a.up.o", "b.up.o"]),
        ("b:ffn", ["b.up.o"]),
        ("a.*:heads", ["a.q.o"]),
        ("*", list(GROUPS)),
    ],
)
def test_what_is_selected(pattern: str, names: list[str]) -> None:
    assert selected(GROUPS, pattern, "Net") == names


@pytest.mark.parametrize("pattern", ["c", "residual", "a:residual", "c:ffn", "head", "*:nothing"])
def test_what_is_not_there_is_an_error_with_what_is(pattern: str) -> None:
    with pytest.raises(surgery.WidthError, match=r"heads \(2\), ffn \(2\)"):
        selected(GROUPS, pattern, "Net")


def test_a_kind_that_is_a_module_too_must_be_told() -> None:
    groups = GROUPS | {"heads.o": group("heads.o", "hidden")}
    with pytest.raises(surgery.WidthError, match=r"'\*:heads'.*'heads\.\*'"):
        selected(groups, "heads", "Net")
    assert selected(groups, "*:heads", "Net") == ["a.q.o", "b.q.o"]
    assert selected(groups, "heads.*", "Net") == ["heads.o"]


def test_a_module_of_all_groups_of_its_name_is_no_doubt() -> None:
    assert selected({"ffn.o": group("ffn.o", "ffn")}, "ffn", "Net") == ["ffn.o"]


def test_kinds_are_taken_wherever_groups_are_named() -> None:
    x = torch.randn(3, 4, 8)
    model = nn.Sequential(nn.Linear(8, 16), nn.TransformerEncoderLayer(16, 4, 24, batch_first=True), nn.Linear(16, 3))
    wrapped = surgery.wrap(model, x, fixed="head_width", granularity={"ffn": 4}, minimum={"heads": 2})
    plan = surgery.inspect(wrapped)
    assert {g.kind for g in plan.groups.values()} == {"residual", "heads", "ffn"}
    small = surgery.shrink(wrapped, {"heads": 0.5, "ffn": 12})
    assert (small[1].self_attn.num_heads, small[1].linear1.out_features, small[0].out_features) == (2, 12, 16)
    only = surgery.inspect(surgery.wrap(model, x, only="ffn"))
    assert [g.kind for g in only.groups.values()] == ["ffn"]
    assert [row.widths["1.linear1.o"] for row in surgery.sensitivity(
        wrapped, lambda m: 0.0, (0.5,), groups="ffn", measure_latency=False, progress=False
    ).curve] == [24, 12]  # fmt: skip
