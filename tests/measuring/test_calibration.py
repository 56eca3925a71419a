"""Batches that a model is wrapped with are what BatchNorm is estimated on when it is scored or cut; else it is said."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import surgery
from surgery import InputError
from surgery.modules.labelled import MOST
from surgery.twin.statistics import calibrated
from tests.measuring.scoring import BATCHES, INPUTS, LABELS, careless, loss
from tests.small_models import mlp

OPTIONS: dict[str, Any] = {"progress": False, "measure_latency": False}
USES: dict[str, Callable[..., Any]] = {
    "sweep": lambda m, score, **o: surgery.sweep(m, score, (1.0, 0.5, 0.25), **OPTIONS, **o),
    "sensitivity": lambda m, score, **o: surgery.sensitivity(m, score, (0.5, 0.25), **OPTIONS, **o),
    "search": lambda m, score, **o: surgery.search(m, score, (0.5,), evaluations=12, **OPTIONS, **o),
    "progress": lambda m, score, **o: surgery.progress(m, score, (1.0, 0.25), **o),
}


def wrapped(norm: bool = True, **options: Any) -> nn.Module:
    return surgery.wrap(mlp(6, 16, 8, 3, norm=norm), INPUTS[:4], **options)


def scores(found: Any) -> list[float]:
    points = getattr(found, "curve", found)
    return list(found.scores) if hasattr(found, "scores") else [point.score for point in points]


def said(run: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run()
    return [str(warning.message) for warning in seen if "BatchNorm" in str(warning.message)]


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("workers", [False, True])
def test_scores_are_those_of_batches_that_are_given_each_time(use: Callable, workers: bool) -> None:
    if workers and use is USES["progress"]:
        return
    with ThreadPoolExecutor(1) as pool:
        more = {"executor": pool} if workers else {}
        assert not said(lambda: use(wrapped(calibration=BATCHES), loss, **more))
        kept = scores(use(wrapped(calibration=BATCHES), loss, **more))
        assert kept == scores(use(wrapped(), loss, recalibrate=BATCHES, **more))
        assert kept != scores(use(wrapped(calibration=BATCHES), loss, recalibrate=False, **more))
        other = scores(use(wrapped(calibration=BATCHES), loss, recalibrate=BATCHES[:1], **more))
        assert other == scores(use(wrapped(), loss, recalibrate=BATCHES[:1], **more)) != kept


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("workers", [False, True])
def test_it_is_said_once_where_statistics_are_of_other_widths(use: Callable, workers: bool) -> None:
    if workers and use is USES["progress"]:
        return
    with ThreadPoolExecutor(1) as pool:
        more = {"executor": pool} if workers else {}
        (message,) = said(lambda: use(wrapped(), loss, **more))
        assert "Sequential has BatchNorm, and its statistics are those of other widths" in message
        assert "calibration=" in message and "recalibrate=" in message
        assert not said(lambda: use(wrapped(), loss, recalibrate=False, **more))
        assert not said(lambda: use(wrapped(), careless, **more)), "validate estimates them itself"
        assert not said(lambda: use(wrapped(norm=False), loss, **more))


def test_warnings_point_at_the_call() -> None:
    model = wrapped()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        surgery.sweep(model, loss, (0.5,), **OPTIONS)
        surgery.progress(model, loss, (0.5,))
        surgery.shrink(model, 0.5)
        surgery.wrap(mlp(6, 16, 3), INPUTS[:4], granularity=64)
        surgery.sweep(model, loss, (1.0, 0.5), recalibrate=BATCHES, **OPTIONS).choose(max_params=10**9)
    assert [warning.filename for warning in seen] == [__file__] * 5


def test_the_full_width_alone_is_said_where_its_statistics_are_mixed() -> None:
    model = wrapped(draw=surgery.grid([0.25])).train()
    assert not said(lambda: surgery.sweep(model, loss, (1.0,), **OPTIONS))
    assert not said(lambda: surgery.shrink(model, 1.0))
    model(INPUTS)
    for run in (lambda: surgery.sweep(model, loss, (1.0,), **OPTIONS), lambda: surgery.shrink(model, 1.0)):
        (message,) = said(run)
        assert "mixed by training at many widths" in message
    surgery.recalibrate(model, BATCHES)
    assert not said(lambda: surgery.shrink(model, 1.0))


@pytest.mark.parametrize("width", [1.0, 0.5])
def test_a_small_model_has_the_statistics_of_its_own_width(width: float) -> None:
    twin = wrapped(calibration=BATCHES)
    known, given = surgery.shrink(twin, width), surgery.shrink(wrapped(), width, recalibrate=BATCHES)
    assert torch.equal(known[1].running_mean, given[1].running_mean) and known[1].running_mean.any()
    stays = surgery.shrink(twin, width, recalibrate=False)
    assert not stays[1].running_mean.any(), "the twin keeps its own"
    assert len(said(lambda: surgery.shrink(wrapped(), width))) == (width < 1)
    assert len(said(lambda: surgery.shrink(mlp(6, 16, 8, 3, norm=True), width, INPUTS[:4]))) == (width < 1)


def test_recalibrate_takes_them_by_itself() -> None:
    twin, other = wrapped(calibration=BATCHES), wrapped()
    surgery.recalibrate(twin)
    surgery.recalibrate(other, BATCHES)
    assert torch.equal(twin[1].running_mean, other[1].running_mean)
    for model in (wrapped(), mlp(6, 16, 8, 3, norm=True)):
        with pytest.raises(InputError, match="recalibrate was given no batches, and Sequential has none"):
            surgery.recalibrate(model)


def test_copies_have_them_and_later_changes_do_not_reach_them() -> None:
    mine = [batch.clone() for batch in BATCHES]
    twin = wrapped(calibration=mine)
    mine[0].zero_()
    for model in (twin, copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert torch.equal(calibrated(model)[0].args[0], BATCHES[0])


class Pair(nn.Module):
    """Two inputs, and a third that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Any, y: Any = None, scale: Any = 1.0) -> Any:
        return self.b(self.norm(self.a(x if y is None else x + y)).relu()) * scale


class Names(dict):
    """What tokenizers give: a mapping that is no plain dict."""


SHAPED: dict[str, tuple[Any, Any, int]] = {
    "inputs": (INPUTS[:4], [INPUTS[:32], INPUTS[32:]], 1),
    "batches": (INPUTS[:4], surgery.batches([INPUTS[:32], INPUTS[32:]]), 1),
    "with labels": (INPUTS[:4], [(INPUTS[:32], LABELS[:32])], 1),
    "with float labels": (INPUTS[:4], [[INPUTS[:32], INPUTS[:32, 0]]], 1),
    "loader of inputs": (INPUTS[:4], DataLoader(INPUTS, 16), 1),
    "loader of one": (INPUTS[:4], DataLoader(TensorDataset(INPUTS), 16), 1),
    "loader with labels": (INPUTS[:4], DataLoader(TensorDataset(INPUTS, LABELS), 16, shuffle=True), 1),
    "a generator": (INPUTS[:4], iter([(INPUTS, LABELS)]), 1),
    "two inputs": ((INPUTS[:4], INPUTS[:4]), [(INPUTS, INPUTS)], 2),
    "two inputs with labels": ((INPUTS[:4], INPUTS[:4]), [((INPUTS, INPUTS), LABELS)], 2),
    "two inputs and labels": ((INPUTS[:4], INPUTS[:4]), DataLoader(TensorDataset(INPUTS, INPUTS, LABELS), 16), 2),
    "by name": ({"x": INPUTS[:4]}, [{"x": INPUTS}], 1),
    "by name with labels": ({"x": INPUTS[:4]}, [{"x": INPUTS, "labels": LABELS}], 1),
    "a mapping": ({"x": INPUTS[:4]}, [Names(x=INPUTS, labels=LABELS)], 1),
    "by name in a pair": ({"x": INPUTS[:4]}, [({"x": INPUTS}, LABELS)], 1),
    "double": (INPUTS[:4], [INPUTS.double()], 1),
}


@pytest.mark.parametrize("shape", SHAPED)
def test_labels_are_left_out(shape: str) -> None:
    examples, batches, count = SHAPED[shape]
    if shape == "a generator":
        batches = iter([(INPUTS, LABELS)])
    model, state = Pair(), torch.get_rng_state()
    twin = surgery.wrap(model, examples, calibration=batches)
    assert torch.equal(torch.get_rng_state(), state)
    for run in calibrated(twin):
        assert len(run.args) + len(run.kwargs) == count
    small = surgery.shrink(twin, 0.5)
    assert small.norm.num_batches_tracked == len(calibrated(twin)) and small.norm.running_mean.any()
    surgery.shrink(twin.double(), 0.5)


def test_a_model_that_finds_its_inputs_later() -> None:
    twin = surgery.wrap(Pair(), calibration=[(INPUTS, LABELS)]).eval()
    twin(INPUTS[:4])
    assert surgery.shrink(twin, 0.5).norm.num_batches_tracked == 1


def test_of_a_loader_the_first_batches_are_taken() -> None:
    drawn = 0

    def loader() -> Iterator[torch.Tensor]:
        nonlocal drawn
        while True:
            drawn += 1
            yield INPUTS

    assert len(calibrated(wrapped(calibration=loader()))) == MOST == drawn
    assert len(calibrated(wrapped(calibration=[INPUTS] * (MOST + 3)))) == MOST + 3


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        (INPUTS, "calibration takes several batches, got one Tensor: put it into a list"),
        ({"x": INPUTS}, "calibration takes several batches, got one dict"),
        (5, "calibration takes several batches, got one int"),
        ([], "calibration was given no batches"),
        ([INPUTS[0]], r"Sequential takes float32 \[4, 6\], and a batch is float32 \[6\]: give batches"),
        (TensorDataset(INPUTS, LABELS), "calibration takes several batches|a batch is"),
        ([LABELS], r"a batch is int64 \[64\]"),
        (["a"], "a batch is str"),
    ],
)
def test_what_is_no_batch_is_refused(batches: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        wrapped(calibration=batches)


def test_lists_of_a_loader_are_batches_where_they_are_given_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DataLoader(TensorDataset(INPUTS, LABELS), 32)
    found = surgery.sweep(wrapped(), loss, (0.5,), recalibrate=loader, **OPTIONS)
    assert found == surgery.sweep(wrapped(), loss, (0.5,), recalibrate=INPUTS.split(32), **OPTIONS)
    small = surgery.shrink(surgery.wrap(Pair(), INPUTS[:4]), 0.5, recalibrate=[(INPUTS, INPUTS)])
    assert small.norm.num_batches_tracked == 1, "a tuple is arguments, as everywhere"
