"""Blocks that are alike are folded as the table folds them, and no others."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import surgery
from surgery.plan.page.tree import Folding, Node, tree
from tests.models.language import Llama
from tests.small_models import mlp


class Block(nn.Module):
    """A residual block of its own hidden width."""

    def __init__(self, hidden: int):
        super().__init__()
        self.up, self.down = nn.Linear(4, hidden), nn.Linear(hidden, 4)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(torch.relu(self.up(x)))


def runs(model: nn.Module, *inputs: Tensor) -> list[list[str]]:
    """The blocks that are folded, of the modules that have some."""
    plan = surgery.inspect(model, inputs)
    folding = Folding(plan)

    def walk(node: Node) -> list[list[str]]:
        found = [[item.path for item in run] for run in folding.runs(node.inside.values()) if len(run) > 1]
        return found + [run for inner in node.inside.values() for run in walk(inner)]

    return walk(tree(plan))


def test_blocks_of_a_decoder_are_one() -> None:
    assert runs(Llama(layers=4), torch.randint(61, (2, 5))) == [[f"layers.{i}" for i in range(4)]]


def test_two_blocks_are_not_worth_it() -> None:
    assert not runs(Llama(layers=2), torch.randint(61, (2, 5)))


def test_blocks_of_other_widths_end_a_run() -> None:
    model = nn.Sequential(nn.Linear(3, 4), *(Block(n) for n in (6, 6, 6, 5, 6, 6, 6, 6)), nn.Linear(4, 2))
    assert runs(model, torch.randn(2, 3)) == [["1", "2", "3"], ["5", "6", "7", "8"]]


def test_layers_of_a_chain_are_alike_but_for_the_first_and_the_last() -> None:
    chain = nn.Sequential(*(nn.Linear(6, 6) for _ in range(6)))
    assert runs(chain, torch.randn(2, 6)) == [["1", "2", "3", "4"]]


def test_boxes_that_hold_one_box_are_one() -> None:
    model = nn.Sequential()
    model.inner = nn.Sequential()
    model.inner.net = mlp(3, 5, 2)
    (box,) = tree(surgery.inspect(model, torch.randn(2, 3))).inside.values()
    assert (box.name, box.path) == ("inner.net", "inner.net")
    assert list(box.inside) == ["0", "2"]


def test_tied_parameters_stand_in_both_places() -> None:
    first, *_, last = tree(surgery.inspect(Llama(layers=1), torch.randint(61, (2, 5)))).inside
    assert (first, last) == ("embed_tokens", "lm_head")
