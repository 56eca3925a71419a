"""A sweep scores every width and leaves the model as it was; what ends it early loses no finished row."""

import math

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import InputError, WidthError
from surgery.measuring.sweep import SweepError, sweep
from surgery.modules.batchnorm import recalibrate
from tests.small_models import mlp

FRACTIONS = (1.0, 0.5, 0.25)
INPUTS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def model() -> nn.Module:
    return mlp(6, 16, 8, 2, norm=True)


def wrapped() -> nn.Module:
    return surgery.wrap(model(), INPUTS)


def quiet(twin, validate, widths=FRACTIONS, **options):
    return sweep(twin, validate, widths, **{"progress": False, "measure_latency": False} | options)


def total(twin: nn.Module) -> float:
    """A score that depends on every width."""
    return twin(INPUTS).square().sum().item()


def test_rows_are_the_shrunk_models():
    twin = wrapped()
    curve = quiet(twin, total, measure_latency=True)
    assert [point.fraction for point in curve] == list(FRACTIONS)
    for point in curve:
        small = surgery.shrink(twin, point)
        assert math.isclose(point.score, total(small.eval()), rel_tol=1e-4)
        assert point.params == sum(p.numel() for p in small.parameters())
        assert point.latency > 0
        assert point.widths == surgery.shrink(twin, point.fraction).surgery_record["widths"]
    assert curve.full == {name: getattr(curve[0], name) for name in ("params", "bytes", "macs")}
    assert curve.sizes == curve[0].widths == surgery.widths(twin)
    assert curve.plan_fingerprint == surgery.inspect(model(), INPUTS).fingerprint


def test_validate_sees_eval_mode_without_gradients_at_the_widths():
    twin, seen = wrapped().train(), []

    def validate(given):
        seen.append((given is twin, given.training, torch.is_grad_enabled(), surgery.widths(given)))
        given.train()  # as a careless validate may
        return total(given)

    curve = quiet(twin, validate)
    assert seen == [(True, False, False, point.widths) for point in curve]


def test_everything_is_restored():
    twin = wrapped().train()
    twin[2].eval()
    surgery.set_widths(twin, 0.75)
    widths, state = surgery.widths(twin), {name: value.clone() for name, value in twin.state_dict().items()}
    draws = iter([1, 2, "bad"])

    def validate(given):
        recalibrate(given, [INPUTS + 3])
        return float(next(draws))

    with pytest.raises(SweepError):
        quiet(twin, validate)
    assert surgery.widths(twin) == widths
    assert (twin.training, twin[1].training, twin[2].training) == (True, True, False)
    assert all(torch.equal(value, state[name]) for name, value in twin.state_dict().items())


@pytest.mark.parametrize("score", [1, 0.5, True, torch.tensor([2.0]), torch.tensor(3)])
def test_a_score_is_anything_that_float_takes(score):
    (point,) = quiet(wrapped(), lambda _: score, [1.0])
    assert point.score == float(score) and isinstance(point.score, float)


def test_equal_widths_are_one_row_and_any_kind_of_widths_will_do():
    calls = []
    twin = wrapped()
    names = list(surgery.widths(twin))
    (half,) = quiet(twin, total, [0.5])
    mixed = {names[0]: 4, names[1]: 0.5}
    curve = quiet(twin, lambda given: calls.append(1) or total(given), [1.0, 0.999, mixed, half, 0.5, {"*": 0.5}, {}])
    assert [point.fraction for point in curve] == [1.0, None, 0.5]
    assert curve[1].widths == {names[0]: 4, names[1]: 4} and len(calls) == 3


def test_when_validate_raises_finished_rows_are_kept():
    draws = iter([0.9, 0.8])
    with pytest.raises(SweepError, match=r"sweep stopped at widths 0.25 \(StopIteration: \). 2 of 3 rows") as raised:
        quiet(wrapped(), lambda _: next(draws))
    assert [(point.fraction, point.score) for point in raised.value.curve] == [(1.0, 0.9), (0.5, 0.8)]
    assert isinstance(raised.value.__cause__, StopIteration)
    assert raised.value.curve.choose(max_params=1.0).score == 0.9


def test_an_interrupt_keeps_finished_rows():
    def validate(given):
        if surgery.widths(given) != full:
            raise KeyboardInterrupt
        return 1.0

    twin = wrapped()
    full = surgery.widths(twin)
    with pytest.raises(SweepError, match=r"widths 0.5 \(interrupted\). 1 of 3") as raised:
        quiet(twin, validate)
    assert len(raised.value.curve) == 1 and isinstance(raised.value.__cause__, KeyboardInterrupt)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(score):
    with pytest.raises(SweepError, match=f"validate returned {score}: return a finite number. ?.*0 of 3"):
        quiet(wrapped(), lambda _: score)


@pytest.mark.parametrize("score", [None, "good", torch.zeros(2, 2), torch.zeros(0), (1, 2, 3), (1.0, -1.0)])
def test_a_score_that_is_no_number_is_refused(score):
    with pytest.raises(SweepError, match="0 of 3 rows"):
        quiet(wrapped(), lambda _: score)


@pytest.mark.parametrize(
    "widths, error, message",
    [
        ([], InputError, "no widths"),
        ([1.0, 0.0], WidthError, "fraction"),
        ([1.0, math.nan], WidthError, "fraction"),
        ([1.0, {"nobody": 3}], WidthError, "no group matches 'nobody'"),
        ([1.0, 4], WidthError, "bare int"),
    ],
)
def test_impossible_widths_are_refused_before_anything_runs(widths, error, message):
    calls = []
    with pytest.raises(error, match=message):
        quiet(wrapped(), calls.append, widths)
    assert not calls


def test_a_plain_model_is_refused():
    with pytest.raises(InputError, match="is not wrapped"):
        quiet(model(), total)


def test_a_model_that_was_wrapped_without_inputs_needs_examples():
    twin = surgery.wrap(model())
    with pytest.raises(InputError, match="has not run yet"):
        quiet(twin, total)
    curve = quiet(twin, total, examples=INPUTS, measure_latency=True)
    assert len(curve) == 3 and curve[2].latency > 0


def test_progress_is_shown_unless_it_is_not_wanted(capsys):
    sweep(wrapped(), total, FRACTIONS, measure_latency=False)
    assert "3/3" in capsys.readouterr().err
    quiet(wrapped(), total)
    assert capsys.readouterr().err == ""


def test_recalibration_gives_the_statistics_of_the_present_widths():
    twin = wrapped()
    batches = [INPUTS, INPUTS * 2 + 1]
    with surgery.at_widths(twin, 0.5):
        recalibrate(twin, batches)
        hidden = [twin[0](batch) for batch in batches]
    mean = sum(x.mean(0) for x in hidden) / 2
    variance = sum(x.var(0) for x in hidden) / 2
    assert torch.allclose(twin[1].running_mean[:8], mean, atol=1e-6)
    assert torch.allclose(twin[1].running_var[:8], variance, atol=1e-6)
    assert torch.equal(twin[1].running_mean[8:], torch.zeros(8))  # beyond the width nothing changed
    assert twin[1].momentum == 0.1 and twin.training


def test_recalibration_works_on_plain_models_and_needs_batches():
    plain = model()
    recalibrate(plain, [INPUTS + 3])  # leaves no trace in the next estimate
    recalibrate(plain, iter([INPUTS]))
    assert torch.allclose(plain[1].running_mean, plain[0](INPUTS).mean(0), atol=1e-6)
    before = plain[1].running_mean.clone()
    with pytest.raises(InputError, match="no batches"):
        recalibrate(plain, [])
    assert torch.equal(plain[1].running_mean, before) and plain[1].num_batches_tracked == 1
    recalibrate(nn.Linear(2, 2), [])  # nothing to estimate, nothing needed
