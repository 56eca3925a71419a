"""Whole ways: what a batch holds is found out, and what cannot be done is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import surgery
from surgery.recipes.compress import compress


class Masked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.a, self.o = nn.Embedding(20, 16), nn.Linear(16, 32), nn.Linear(32, 3)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        h = self.a(self.e(ids)).relu()
        return self.o(h.mean(1) if mask is None else (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True))


IDS, MASK, Y = torch.randint(20, (40, 6)), torch.ones(40, 6), torch.zeros(40).long()
FORMS: dict[str, Any] = {
    "a loader with labels": DataLoader(TensorDataset(IDS, MASK, Y), 8),
    "tuples": [(IDS[i : i + 8], MASK[i : i + 8]) for i in range(0, 40, 8)],
    "tuples with labels": [(IDS[i : i + 8], MASK[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)],
    "names with labels": [
        {"ids": IDS[i : i + 8], "mask": MASK[i : i + 8], "labels": Y[i : i + 8]} for i in range(0, 40, 8)
    ],
    "inputs alone": list(IDS.split(8)),
}


@pytest.mark.parametrize("name", FORMS)
def test_batches_come_in_all_forms(name: str) -> None:
    plain = Masked()
    found = compress(plain, FORMS[name], "60% params", evaluations=4, progress=False)
    assert sum(p.numel() for p in found.model.parameters()) <= 0.6 * sum(p.numel() for p in plain.parameters())
    assert found.full == pytest.approx(1.0) and plain.training


def test_a_model_without_numbers_needs_a_score() -> None:
    class Told(Masked):
        def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
            return super().forward(ids, mask).argmax(-1)

    with pytest.raises(surgery.InputError, match="pass validate="):
        compress(Told(), FORMS["inputs alone"], "60% params", evaluations=4, progress=False)


def test_norms_of_the_full_model_stay_what_they_are() -> None:
    """Its statistics are those that it was trained with, whatever the batches say."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)).eval()
    found = compress(model, list((3 * torch.randn(64, 6) + 1).split(8)), "50% macs", evaluations=4, progress=False)
    assert found.full == pytest.approx(1.0)
    assert not torch.equal(found.model[1].running_mean, model[1].running_mean[: found.model[1].num_features])
