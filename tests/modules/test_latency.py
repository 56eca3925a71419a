"""Latency is a positive number of seconds, and measuring it leaves no trace."""

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import InputError
from surgery.modules.latency import latency


class Watcher(nn.Module):
    """Notes how it is called; keeps a tensor from its first call, as models with caches do."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.dropout = nn.Dropout()
        self.cache = None
        self.seen = []

    def forward(self, x, scale=1.0):
        modes = self.training, self.dropout.training, torch.is_grad_enabled()
        self.seen.append((*modes, torch.get_num_threads(), scale))
        if self.cache is None:
            self.cache = x * 2
        return self.dropout(self.layer(x)) * self.cache * scale


def test_calls_are_counted_and_run_in_eval_mode_without_gradients():
    model = Watcher()
    seconds = latency(model, surgery.inputs(torch.ones(2, 4), scale=3.0), repeats=5, warmup=2, threads=1)
    assert isinstance(seconds, float) and seconds > 0
    assert model.seen == [(False, False, False, 1, 3.0)] * 7


def test_modes_and_threads_are_restored(monkeypatch):
    model = Watcher().train()
    model.dropout.eval()
    before = torch.get_num_threads()
    latency(model, torch.ones(2, 4), repeats=1, warmup=1, threads=before + 1)
    assert model.seen[0][3] == before + 1
    assert (model.training, model.layer.training, model.dropout.training) == (True, True, False)
    monkeypatch.setattr(Watcher, "forward", lambda self, x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        latency(model, torch.ones(2, 4), threads=before + 1)
    assert model.training and torch.get_num_threads() == before


def test_a_model_with_a_cache_can_be_trained_afterwards():
    model = Watcher()
    latency(model, torch.ones(2, 4), repeats=1, warmup=1)
    model(torch.ones(2, 4)).sum().backward()
    assert model.layer.weight.grad is not None


def test_several_inputs_are_averaged(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    model = Watcher()
    inputs = surgery.batches([torch.ones(2, 4), surgery.inputs(torch.ones(2, 4), scale=2.0)])
    assert latency(model, inputs, repeats=3, warmup=1) == 0.5
    assert [call[-1] for call in model.seen] == [1.0, 2.0] * 4


def test_the_median_is_taken(monkeypatch):
    clock = iter([0, 0, 0, 1, 0, 100, 0, 2])  # the warm-up, then calls of 1, 100 and 2 seconds
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    assert latency(Watcher(), torch.ones(2, 4), repeats=3, warmup=1) == 2


@pytest.mark.parametrize("name", ["repeats", "warmup", "threads"])
def test_nothing_is_measured_on_less_than_one(name):
    model = Watcher()
    with pytest.raises(InputError, match=f"{name}=0, but it must be at least 1"):
        latency(model, torch.ones(2, 4), **{name: 0})
    assert not model.seen
