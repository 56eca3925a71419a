"""Benchmarks: what is finished is not run again, and what their file holds is what was found."""

import importlib.util
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.benchmarks import latency
from tests.benchmarks.cells import Cells
from tests.benchmarks.run import Run
from tests.benchmarks.undecayed import Undecayed


def test_a_finished_cell_is_not_run_again(tmp_path):
    runs = []

    def measure(seed, width):
        runs.append((seed, width))
        return {"score": seed + width, "weights": {"w": torch.full((3,), float(seed))}}

    for _ in range(2):
        cells = Cells(tmp_path / "one.json")
        for seed in range(2):
            value = cells(measure, seed=seed, width=0.5)
            assert value["score"] == seed + 0.5 and value["cpu seconds"] >= 0
            assert torch.equal(value["weights"]["w"], torch.full((3,), float(seed)))
    assert runs == [(0, 0.5), (1, 0.5)]
    assert not list(tmp_path.rglob("*.part"))


def test_an_interrupted_run_keeps_the_finished_cells(tmp_path):
    def measure(seed):
        if seed == 1:
            raise KeyboardInterrupt
        return {"score": seed}

    cells = Cells(tmp_path / "one.json")
    cells(measure, seed=0)
    with pytest.raises(KeyboardInterrupt):
        cells(measure, seed=1)
    assert [cell["score"] for cell in json.loads((tmp_path / "one.json").read_text())["cells"].values()] == [0]


def test_other_settings_are_other_cells():
    cells = Cells(None)
    assert [cells(lambda rate: {"rate": rate}, rate=rate)["rate"] for rate in (0.1, 0.2, 0.1)] == [0.1, 0.2, 0.1]


def test_a_file_holds_the_rows_of_several_benchmarks(tmp_path):
    for name in ("one", "two", "one"):
        Cells(tmp_path / "file.json", name, {"seeds": 2}).rows([{"name": name}])
    found = json.loads((tmp_path / "file.json").read_text())["benchmarks"]
    assert found == {name: {"settings": {"seeds": 2}, "rows": [{"name": name}]} for name in ("one", "two")}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "another", "cells": {}}'])
def test_a_foreign_file_is_refused(tmp_path, text):
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(SystemExit, match="name another with --json"):
        Cells(tmp_path / "one.json")


def test_seeds():
    cell = Cells(None)
    assert len(Run(False, None, cell).seeds(5)) == 5
    assert len(Run(True, None, cell).seeds(5)) == 1
    assert len(Run(True, 2, cell).seeds(5)) == 2


def test_a_row_of_latency_says_what_is_left():
    row = latency.measured("mlp 4x1024", rounds=1)
    halves = 1024 * (784 + 3 * 1024 + 10), 512 * (784 + 3 * 512 + 10)
    assert row["0.5: MACs"] == row["0.5 by 16: MACs"] == round(halves[1] / halves[0], 3)
    assert row["0.45: MACs"] < row["0.45 by 16: MACs"] < row["0.5: MACs"]
    assert all(row[f"{key}: time"] > 0 for key in latency.SMALLER)


def test_latency_goes_round_in_turn():
    called = []
    models = {name: lambda x, name=name: called.append(name) for name in "abc"}
    times = latency.in_turn(models, latency.Inputs((1,)), rounds=1)
    assert "".join(called) == "bca" + "cab" + "abc", "two rounds that do not count, and one that does"
    assert {name: len(values) for name, values in times.items()} == {"a": 1, "b": 1, "c": 1}


def test_a_model_of_a_missing_package_is_skipped(monkeypatch):
    monkeypatch.setattr(latency, "SETUPS", {"resnet18": latency.SETUPS["resnet18"]})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    rows = latency.main(Run(True, None, Cells(None)))
    assert rows == [{"model": "resnet18", "skipped": "torchvision is not installed"}]


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_decay_alone_is_undone(name, decay):
    torch.manual_seed(0)
    x, y = torch.randn(16, 6), torch.randn(16, 2)
    twin = surgery.wrap(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), x).train()
    before = twin[0].weight.detach().clone()
    optimizer = getattr(torch.optim, name)(twin.parameters(), 0.01, weight_decay=decay)
    Undecayed(optimizer, twin)
    for width in (0.5, 0.5, 1.0):
        reached = twin[0].weight.detach().clone()
        optimizer.zero_grad()
        with surgery.at_widths(twin, width):
            F.mse_loss(twin(x), y).backward()
        optimizer.step()
    torch.testing.assert_close(reached[4:], before[4:])
    assert not torch.allclose(reached[:4], before[:4])
    assert not torch.allclose(twin[0].weight[4:], before[4:])
