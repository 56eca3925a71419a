"""The file of a benchmark: what is finished is not run again, and what it holds is what was found."""

import json

import pytest
import torch

from tests.benchmarks.cells import Cells
from tests.benchmarks.run import Run

HEADER = {"benchmark": "one", "settings": {"seeds": 2}}


def test_a_finished_cell_is_not_run_again(tmp_path):
    runs = []

    def measure(seed, width):
        runs.append((seed, width))
        return {"score": seed + width, "weights": {"w": torch.full((3,), float(seed))}}

    for _ in range(2):
        cells = Cells(tmp_path / "one.json", HEADER)
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

    cells = Cells(tmp_path / "one.json", HEADER)
    cells(measure, seed=0)
    with pytest.raises(KeyboardInterrupt):
        cells(measure, seed=1)
    assert [cell["score"] for cell in json.loads((tmp_path / "one.json").read_text())["cells"].values()] == [0]


def test_other_settings_are_other_cells():
    cells = Cells(None, HEADER)
    assert [cells(lambda rate: {"rate": rate}, rate=rate)["rate"] for rate in (0.1, 0.2, 0.1)] == [0.1, 0.2, 0.1]


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"benchmark": "two", "cells": {}}'])
def test_a_foreign_file_is_refused(tmp_path, text):
    (tmp_path / "one.json").write_text(text)
    with pytest.raises(SystemExit, match="name another with --json"):
        Cells(tmp_path / "one.json", HEADER)


def test_seeds():
    cell = Cells(None, HEADER)
    assert len(Run(False, None, cell).seeds(5)) == 5
    assert len(Run(True, None, cell).seeds(5)) == 1
    assert len(Run(True, 2, cell).seeds(5)) == 2
