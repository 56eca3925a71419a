"""Whole ways: what a batch holds is found out, and what cannot be done is said."""

from __future__ import annotations

import copy
import warnings
from collections import UserDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import surgery
from surgery.recipes.compress import compress
from surgery.recipes.polish import polish


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


@pytest.mark.filterwarnings("ignore:Masked is given the parts of a batch as ids, mask")
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


def test_it_says_what_a_model_could_do_without() -> None:
    """A second part may be a mask, or labels that happen to fit."""
    with pytest.warns(UserWarning, match="as ids, mask: if mask gets labels by that, give batches without labels"):
        compress(Masked(), FORMS["tuples"], "60% params", evaluations=4, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compress(Masked(), FORMS["inputs alone"], "60% params", evaluations=4, progress=False)


def trained() -> tuple[nn.Module, list[Tensor]]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3)), [
        *torch.randn(640, 6).split(32)
    ]


def test_a_polish_brings_the_small_model_nearer() -> None:
    model, batches = trained()
    before = copy.deepcopy(model.state_dict())
    found = [compress(model, batches, "40% params", evaluations=6, epochs=n, progress=False) for n in (0, 20)]
    assert found[0].point.widths == found[1].point.widths and found[1].score > found[0].score
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_polish_that_does_not_help_is_left_out() -> None:
    model, batches = trained()
    small = surgery.shrink(model, 0.5, batches[0])
    given = [(batch,) for batch in batches]
    assert polish(small, model, given, 1, score=lambda one: float(one is small), progress=False) is small
    learner = polish(small, model, given, 1, progress=False)
    assert learner is not small and not torch.equal(learner[0].weight, small[0].weight)


def test_a_score_may_come_with_its_error() -> None:
    model, batches = trained()

    def validate(one: nn.Module) -> tuple[float, float]:
        return -float((one(batches[0]) - model(batches[0])).square().mean()), 0.01

    found = compress(model, batches, "60% params", validate=validate, evaluations=4, epochs=2, progress=False)
    assert found.score >= found.curve[-1].score


class Covered(nn.Module):
    """One of its outputs is always masked."""

    def __init__(self, inner: nn.Module, value: float) -> None:
        super().__init__()
        self.inner, self.value = inner, value

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).masked_fill(torch.tensor([False, False, True]), self.value)


@pytest.mark.parametrize("value", [-1e9, -torch.inf])
def test_masks_hide_no_error(value: float) -> None:
    inner, batches = trained()
    model = Covered(inner, value)
    found = [compress(model, batches, "30% params", evaluations=4, epochs=n, progress=False) for n in (0, 10)]
    assert 0.1 < found[0].score < 0.999 and found[1].score > found[0].score


def test_a_polish_that_comes_to_nothing_is_left_out() -> None:
    model, batches = trained()
    small = surgery.shrink(model, 0.5, batches[0])

    def score(one: nn.Module) -> float:
        with torch.no_grad():
            return -float((one(batches[0]) - model(batches[0])).square().mean())

    given = [(batch,) for batch in batches]
    assert polish(small, model, given, 2, rate=1e30, score=score, progress=False) is small


def test_a_frozen_model_is_polished_and_stays_frozen() -> None:
    model, batches = trained()
    found = compress(model.requires_grad_(False), batches, "40% params", evaluations=4, epochs=20, progress=False)
    assert found.score > found.curve[-1].score and not any(p.requires_grad for p in found.model.parameters())


def test_batches_may_be_mappings_of_any_class() -> None:
    given = [UserDict({"ids": IDS[i : i + 8], "mask": MASK[i : i + 8]}) for i in range(0, 40, 8)]
    assert compress(Masked(), given, "60% params", evaluations=4, progress=False).full == pytest.approx(1.0)


def test_a_negative_number_of_epochs_is_an_error() -> None:
    with pytest.raises(surgery.InputError, match="epochs is how often the batches are gone over"):
        compress(Masked(), FORMS["inputs alone"], "60% params", epochs=-1)
