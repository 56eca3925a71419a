"""Layers of recurrences as units of a group."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import surgery

LAYERS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}


class Tagger(nn.Module):
    """A recurrence and a linear layer; `last` reads the state of the last layer instead of all outputs."""

    def __init__(self, kind: str, last: bool = False, **options: object):
        super().__init__()
        self.embed = nn.Linear(3, 6)
        self.rnn = LAYERS[kind](6, 5, num_layers=4, batch_first=True, **options)
        self.head = nn.Linear(5 * (1 + self.rnn.bidirectional), 2)
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        outputs, states = self.rnn(self.embed(x))
        if not self.last:
            return self.head(outputs)
        hidden = states[0] if isinstance(states, tuple) else states
        return self.head(torch.cat([hidden[-2], hidden[-1]], -1) if self.rnn.bidirectional else hidden[-1])


def with_layers(model: nn.Module, kept: list[int]) -> nn.Module:
    """An independent way: a recurrence with fewer layers, built anew, with the weights of those that stay."""
    old = model.rnn
    new = type(old)(
        old.input_size, old.hidden_size, num_layers=len(kept), batch_first=True, bidirectional=old.bidirectional
    ).double()
    with torch.no_grad():
        for place, layer in enumerate(kept):
            for name, weight in new.named_parameters():
                if f"_l{place}" in name:
                    weight.copy_(getattr(old, name.replace(f"_l{place}", f"_l{layer}")))
    return new


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_a_recurrence_can_go(kind, bidirectional, last, tmp_path):
    torch.manual_seed(0)
    model = Tagger(kind, last, bidirectional=bidirectional).double()
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    twin = surgery.wrap(model, x, depth=True)
    group = surgery.inspect(twin).groups["rnn.depth"]
    assert (group.size, group.least, group.stays) == (4, 1, (0,))
    surgery.set_depth_order(twin, {"rnn.depth": [0, 3, 1, 2]})
    for widths, kept in (({"rnn.depth": 3}, [0, 1, 3]), ({"depth": 2, "rnn.h": 3}, [0, 3]), ({"depth": 1}, [0])):
        small = surgery.shrink(twin, widths)
        assert small.rnn.num_layers == len(kept) and len(small.rnn.all_weights) == len(kept) * (1 + bidirectional)
        surgery.set_widths(twin, widths)
        assert surgery.verify(twin.eval(), small, x) < 1e-12
        if "rnn.h" not in widths:
            oracle = Tagger(kind, last, bidirectional=bidirectional).double()
            oracle.load_state_dict(model.state_dict())
            oracle.rnn = with_layers(model, kept)
            assert surgery.verify(oracle, small, x) < 1e-12
        cost = surgery.cost(twin, widths)
        assert cost.params == sum(parameter.numel() for parameter in small.parameters())
        surgery.save(small, tmp_path / "small")
        loaded = surgery.load(tmp_path / "small", Tagger(kind, last, bidirectional=bidirectional).double(), x)
        assert surgery.verify(loaded, small, x) < 1e-12
        small.train()(x).sum().backward()


def test_work_of_layers_is_counted_by_layer():
    model, x = Tagger("LSTM"), torch.randn(2, 7, 3)
    plan = surgery.inspect(model, x, depth=True)
    one, two, all_ = (surgery.cost(plan, {"depth": count}).macs for count in (1, 2, 4))
    assert two - one == 14 * 4 * (5 * 5 + 5 * 5) and all_ - two == 2 * (two - one)


def test_gradients_reach_the_layers_that_run():
    torch.manual_seed(0)
    twin = surgery.wrap(Tagger("GRU"), torch.randn(2, 7, 3), depth=True).train()
    with surgery.at_widths(twin, {"depth": 2}):
        twin(torch.randn(2, 7, 3)).sum().backward()
    assert twin.rnn._parameters["weight_hh_l1"].grad is not None
    assert twin.rnn._parameters["weight_hh_l2"].grad is None


class States(nn.Module):
    def __init__(self, use: str):
        super().__init__()
        self.rnn, self.use = nn.GRU(3, 5, num_layers=3), use

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        y, states = self.rnn(x, h)
        return {"all": states, "first": states[0], "none": y, "mean": states.mean(0)}[self.use]


@pytest.mark.parametrize("use", ["all", "first", "mean"])
def test_layers_whose_states_are_read_stay(use):
    plan = surgery.inspect(States(use), torch.randn(4, 2, 3), depth=True)
    assert "rnn.depth" not in plan.groups
    assert any(note.startswith("rnn: its layers stay, since the states") for note in plan.notes)


def test_layers_that_are_given_states_stay():
    inputs = (torch.randn(4, 2, 3), torch.randn(3, 2, 5))
    plan = surgery.inspect(States("none"), inputs, depth=True)
    assert any("states of each layer are given to it at test_stacks.py" in note for note in plan.notes)


def test_they_are_named_where_nobody_asks():
    plan = surgery.inspect(Tagger("LSTM"), torch.randn(2, 7, 3))
    assert ("rnn.depth", "depth", 4) in plan.available and "rnn.depth" not in plan.groups
