"""A printed plan has one row for blocks that repeat, and a row for each where they differ or where it is asked for."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.plan.folding import folded

X = torch.randn(2, 5, 8)


class Block(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(8, hidden), nn.Linear(hidden, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x)).relu())


def deep(*hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 8), nn.Sequential(*map(Block, hidden)), nn.Linear(8, 3)).eval()


def rows(text: str) -> list[str]:
    """The names in a table of groups."""
    return [line.split()[0] for line in text.split("\n\n")[1].splitlines()[1:]]


def test_blocks_are_folded() -> None:
    plan = surgery.inspect(deep(16, 16, 16, 16), X)
    assert rows(str(plan)) == ["0.o", "1.{0..3}.up.o"]
    assert rows(plan.table(full=True)) == list(plan.groups)
    assert "plan.table(full=True) has them all" in str(plan) and "full=True" not in plan.table(full=True)
    assert re.search(r"1\.\{0\.\.3\}\.up\.out_features, 1\.\{0\.\.3\}\.down\.in_features", str(plan))


@pytest.mark.parametrize(
    ("hidden", "names"),
    [
        ((16, 16), ["1.0.up.o", "1.1.up.o"]),  # two are told as quickly
        ((16, 16, 24, 16), ["1.0.up.o", "1.1.up.o", "1.2.up.o", "1.3.up.o"]),
        ((24, 16, 16, 16, 24), ["1.0.up.o", "1.{1..3}.up.o", "1.4.up.o"]),
    ],
)
def test_only_what_is_alike_and_counts_up_is_folded(hidden: tuple[int, ...], names: list[str]) -> None:
    assert rows(str(surgery.inspect(deep(*hidden), X))) == ["0.o", *names]


FOLDED: list[tuple[list[tuple[str, ...]], list[tuple[str, ...]]]] = [
    ([], []),
    ([("a", "1"), ("b", "1")], [("a", "1"), ("b", "1")]),
    ([(f"m.{i}.o", "4") for i in range(12)], [("m.{0..11}.o", "4")]),
    ([(f"{i}.o", "4") for i in range(2, 5)], [("{2..4}.o", "4")]),
    ([(f"{i}.o", "4") for i in (0, 2, 4)], [(f"{i}.o", "4") for i in (0, 2, 4)]),
    ([(f"q.o.{i}", "4") for i in range(4)], [(f"q.o.{i}", "4") for i in range(4)]),  # factors of one axis
    ([(f"m.{i}.{k}.o", "4") for i in range(3) for k in "ab"], [("m.{0..2}.a.o", "4"), ("m.{0..2}.b.o", "4")]),
    ([(f"m.{i}.{j}.o", "4") for i in range(2) for j in range(3)], [(f"m.{i}.{{0..2}}.o", "4") for i in range(2)]),
    ([(f"m.{i}.o", f"m.{i}.f, n.{i}.f") for i in range(3)], [(f"m.{i}.o", f"m.{i}.f, n.{i}.f") for i in range(3)]),
    ([(f"m.{i}.o", f"m.{i}.f, xm.{i}.f") for i in range(3)], [(f"m.{i}.o", f"m.{i}.f, xm.{i}.f") for i in range(3)]),
    ([(f"m.{i}.o", f"as m.{i}.f (a.py:3)") for i in range(3)], [("m.{0..2}.o", "as m.{0..2}.f (a.py:3)")]),
]


@pytest.mark.parametrize(("given", "expected"), FOLDED)
def test_rows(given: list[tuple[str, ...]], expected: list[tuple[str, ...]]) -> None:
    assert folded(given) == expected


def test_fixed_tensors_are_folded_too() -> None:
    plan = surgery.inspect(surgery.unwrap(surgery.wrap(deep(16, 16, 16), X)), X)
    kept = surgery.inspect(surgery.wrap(deep(16, 16, 16), X, fixed="1.*.up.o", only="*"))
    assert re.search(r"^  1\.\{0\.\.2\}\.up\.bias +16  kept fixed by the caller$", str(kept), re.MULTILINE)
    assert plan.total == kept.total
