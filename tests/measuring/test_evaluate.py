"""Rows are the same wherever and whenever they are computed: here or elsewhere, at once or after an interruption."""

import json
import math
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import pytest
import torch

import surgery
from surgery.curves.curve import Curve
from surgery.curves.score import Score, as_score
from surgery.errors import FileError, InputError
from surgery.measuring.sweep import SweepError, sweep
from tests.measuring.scoring import BATCHES, careless, hits, loss, wrapped

WIDTHS = (1.0, 0.75, 0.5, 0.25, {"0.o": 3})


def quiet(twin, validate, widths=WIDTHS, **options):
    return sweep(twin, validate, widths, **{"progress": False, "measure_latency": False} | options)


class Stop(Exception):
    pass


def stopping(after: int, validate=loss):
    """A validate that gives up after some calls, and the list of its calls."""
    calls = []

    def function(model):
        calls.append(surgery.widths(model))
        if len(calls) > after:
            raise Stop
        return validate(model)

    return function, calls


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(
        2, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as it:
        yield it


@pytest.mark.parametrize("validate", [hits, loss, careless])
def test_processes_give_the_same_curve(validate, pool):
    torch.set_num_threads(1)
    for options in ({}, {"recalibrate": BATCHES}):
        assert quiet(wrapped(), validate, executor=pool, **options) == quiet(wrapped(), validate, **options)


def test_threads_give_the_same_curve_and_functions_need_no_name():
    with ThreadPoolExecutor(4) as executor:
        assert quiet(wrapped(), lambda model: careless(model), executor=executor) == quiet(wrapped(), careless)


def test_latency_is_measured_here_when_all_scores_are_there(monkeypatch):
    running, seen = set(), []
    measure = surgery.measuring.timer.timing

    def scoring(model):
        running.add(id(model))
        result = loss(model)
        running.discard(id(model))
        return result

    def watched(*arguments):
        seen.append(set(running))
        return measure(*arguments)

    monkeypatch.setattr("surgery.measuring.timer.timing", watched)
    with ThreadPoolExecutor(4) as executor:
        curve = quiet(wrapped(), scoring, executor=executor, measure_latency=True)
    assert seen == [set()] * len(WIDTHS) and all(point.latency > 0 for point in curve)
    counts = {"threads": torch.get_num_threads(), "calls": 30, "warm-up calls": 3}
    assert curve.timing == {"device": "cpu", **counts, "inputs": "4x6"}


def test_what_cannot_be_sent_is_refused_with_advice(pool):
    with pytest.raises(SweepError, match="define validate at the top level of a module"):
        quiet(wrapped(), lambda model: 0.0, executor=pool)
    twin = wrapped()
    twin[2].helper = lambda: None
    with pytest.raises(InputError, match="Sequential cannot be sent to other processes"):
        quiet(twin, loss, executor=pool)
    with pytest.raises(InputError, match=r"executor is a concurrent.futures.Executor or a Dask client, got 4"):
        quiet(wrapped(), loss, executor=4)


def test_an_error_elsewhere_keeps_the_other_rows():
    def validate(model):
        if surgery.widths(model)["0.o"] == 8:
            raise Stop("no")
        return loss(model)

    with ThreadPoolExecutor(1) as executor, pytest.raises(SweepError, match=r"widths 0.5 \(Stop: no\)") as raised:
        quiet(wrapped(), validate, executor=executor)
    assert {point.fraction for point in raised.value.curve} <= {1.0, 0.75, 0.25, None}


@pytest.mark.parametrize("after", range(len(WIDTHS) + 1))
def test_an_interrupted_sweep_goes_on_where_it_stopped(after, tmp_path):
    path = tmp_path / "kept" / "curve.json"
    validate, _ = stopping(after, careless)
    try:
        quiet(wrapped(), validate, resume=path)
    except SweepError as error:
        assert f"{after} of 5 rows" in str(error) and str(path) in str(error) and len(error.curve) == after
    assert len(Curve.from_json(path)) == after if after else not path.exists()
    validate, calls = stopping(99, careless)
    curve = quiet(wrapped(), validate, resume=path)
    assert len(calls) == len(WIDTHS) - after
    assert curve.points == quiet(wrapped(), careless).points
    assert [path.name for path in path.parent.iterdir()] == ["curve.json"]
    assert len(Curve.from_json(path)) == len(WIDTHS)


def test_a_kept_row_serves_any_later_sweep_and_times_are_added(tmp_path):
    path = tmp_path / "curve.json"
    quiet(wrapped(), loss, [0.5, 0.25], resume=path)
    validate, calls = stopping(99)
    curve = quiet(wrapped(), validate, [1.0, {"*": 0.5}], resume=path, measure_latency=True)
    assert len(calls) == 1 and [point.fraction for point in curve] == [1.0, None]
    assert all(point.latency > 0 for point in curve)
    kept = Curve.from_json(path)
    assert len(kept) == 3 and sum(point.latency is not None for point in kept) == 2
    again = quiet(wrapped(), validate, [1.0], resume=path)
    assert again[0].latency == curve[0].latency and len(calls) == 1


def test_times_of_another_setting_are_taken_anew(tmp_path):
    path = tmp_path / "curve.json"
    quiet(wrapped(), loss, [1.0], resume=path, measure_latency=True)
    document = json.loads(path.read_text())
    document["timing"]["device"] = "cuda:0"
    document["points"][0]["latency"] = 1e6
    path.write_text(json.dumps(document))
    curve = quiet(wrapped(), stopping(0)[0], [1.0], resume=path, measure_latency=True)
    assert curve[0].latency < 1e6 and curve.timing["device"] == "cpu"


def test_rows_with_other_statistics_are_refused(tmp_path):
    """The same number of batches, of other values; and a buffer that is not saved with the model."""
    first, other = [torch.zeros(4, 6)], [torch.ones(4, 6)]
    quiet(wrapped(), loss, [1.0], resume=tmp_path / "a.json", recalibrate=first)
    quiet(wrapped(), loss, [1.0], resume=tmp_path / "a.json", recalibrate=first)
    with pytest.raises(FileError, match="other BatchNorm statistics"):
        quiet(wrapped(), loss, [1.0], resume=tmp_path / "a.json", recalibrate=other)
    models = wrapped(), wrapped()
    for value, model in enumerate(models):
        model.register_buffer("unsaved", torch.tensor(float(value)), persistent=False)
    quiet(models[0], loss, [1.0], resume=tmp_path / "b.json")
    with pytest.raises(FileError, match="the model with other weights"):
        quiet(models[1], loss, [1.0], resume=tmp_path / "b.json")


def test_rows_of_another_model_are_refused(tmp_path):
    path = tmp_path / "curve.json"
    quiet(wrapped(), loss, [1.0], resume=path)
    other = wrapped()
    with torch.no_grad():
        other[0].weight[0, 0] += 1
    with pytest.raises(FileError, match="the model with other weights"):
        quiet(other, loss, resume=path)
    with pytest.raises(FileError, match="other BatchNorm statistics"):
        quiet(wrapped(), loss, resume=path, recalibrate=BATCHES)
    with pytest.raises(FileError, match=r"rows of another model .*resume=, or delete"):
        quiet(wrapped(fixed="0.o"), loss, [1.0], resume=path)
    path.write_text("{}")
    with pytest.raises(FileError, match="is not a curve"):
        quiet(wrapped(), loss, resume=path)


def test_recalibration_is_that_of_the_widths():
    twin = wrapped()
    curve = quiet(twin, loss, recalibrate=BATCHES)
    assert curve.recalibrated == 2
    for point in curve:
        small = surgery.shrink(twin, point, recalibrate=iter(BATCHES)).eval()
        assert math.isclose(point.score, loss(small), rel_tol=1e-5)
    plain = quiet(twin, loss)
    assert all(a.score != b.score for a, b in zip(curve, plain, strict=True))
    with pytest.raises(InputError, match="no batches"):
        quiet(twin, loss, recalibrate=[])
    with pytest.raises(InputError, match="got one Tensor: put it into a list"):
        surgery.shrink(twin, 0.5, recalibrate=BATCHES[0])


def test_scores_do_not_depend_on_the_order_of_rows():
    forth, back = (quiet(wrapped(), careless, widths) for widths in (WIDTHS, WIDTHS[::-1]))
    assert forth.points == back.points[::-1]


def test_scores_of_samples_give_error_bars():
    twin = wrapped()
    curve = quiet(twin, hits)
    for point in curve:
        with surgery.at_widths(twin.eval(), point), torch.no_grad():
            share = hits(twin).double().mean().item()
        assert point.score == share
        assert math.isclose(point.error, math.sqrt(share * (1 - share) / 64), rel_tol=0.05)
    assert "±" in str(curve)
    samples = torch.randn(50, generator=torch.Generator().manual_seed(0))
    assert as_score(samples).error == pytest.approx(samples.std().item() / math.sqrt(50))
    assert as_score((0.5, 0.1)) == Score(0.5, 0.1) and as_score(0.5) == Score(0.5)
    assert 0 < as_score(torch.ones(20)).error < 0.05  # twenty of twenty do not prove perfection
    with pytest.raises(InputError, match="average over each sample first"):
        as_score(torch.zeros(2, 3))


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_the_error_of_a_share_is_the_spread_of_its_repeats(share):
    generator = torch.Generator().manual_seed(0)
    scores = [as_score(torch.rand(200, generator=generator) < share) for _ in range(2000)]
    spread = torch.tensor([score.value for score in scores]).std().item()
    assert sum(score.error for score in scores) / len(scores) == pytest.approx(spread, rel=0.1)
