"""`reorder` moves units, also in what a state dict does not hold, and changes no output."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import surgery
from tests.models import BY_NAME
from tests.small_models import Net, X
from tests.unchanged import unchanged


@pytest.mark.parametrize("kind", [list, tuple, torch.tensor, lambda order: torch.tensor(order).int()])
@pytest.mark.parametrize("twin", [True, False])
def test_reorder_moves_units(model: Net, kind: Callable, twin: bool) -> None:
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1)).tolist()
    model.norm.running_mean.uniform_()
    given = surgery.wrap(model, X) if twin else model
    if twin:
        surgery.set_widths(given, 0.5)
    with unchanged(model, given):
        moved = surgery.reorder(given, {"fc1.o": kind(order)}, None if twin else X)
    assert torch.equal(moved.fc1.weight, model.fc1.weight[order]) and torch.equal(moved.fc1.bias, model.fc1.bias[order])
    assert torch.equal(moved.norm.running_mean, model.norm.running_mean[order])
    assert torch.equal(moved.fc2.weight, model.fc2.weight[:, order]) and torch.equal(moved.fc2.bias, model.fc2.bias)
    assert surgery.verify(moved, model, X) <= 1e-5
    assert not {id(t) for t in moved.parameters()} & {id(t) for t in model.parameters()}


@pytest.mark.parametrize("name", ["llama_gqa", "rope_interleaved"])
def test_reordering_what_a_state_dict_does_not_hold(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    model = case.build()
    orders = {group: list(range(g.size))[::-1] for group, g in surgery.inspect(model, case.inputs(0)).groups.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        moved = surgery.reorder(model, orders, case.inputs(0))
    lost = {n for n, _ in model.named_buffers()} - set(model.state_dict())
    if lost:
        assert len(caught) == 1 and all(n in str(caught[0].message) for n in lost if "inv" in n or "freq" in n)
    surgery.save(moved, tmp_path / "moved")
    loaded = surgery.load(tmp_path / "moved", case.build(), case.inputs(0))
    assert surgery.verify(loaded, moved, case.inputs(1)) == 0
