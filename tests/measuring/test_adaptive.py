"""An adaptive sweep knows the whole curve to the error that it states, with few evaluations."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import surgery
from surgery.curves.curve import Curve
from surgery.curves.points import Point
from surgery.curves.score import Score
from surgery.curves.surrogate import fit
from surgery.errors import InputError
from surgery.measuring.adaptive import Adaptive, adaptive, explored, fractions
from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from tests.measuring.scoring import hits, loss, wrapped
from tests.small_models import mlp

FULL = {"params": 512, "bytes": 2048, "macs": 512}


def plan(*groups: Group) -> Plan:
    return Plan("Model", {group.name: group for group in groups}, (), {}, {}, {})


PLAN = plan(Group("a", 512))
GRID = fractions(PLAN, 1 / 512)


def point(fraction: float, score: Score) -> Point:
    return Point({"a": round(512 * fraction)}, score.value, 1, 1, 1, None, fraction, score.error)


class Imagined:
    """Evaluates a function in place of a model, and counts."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def fractions(self, asked):
        self.calls += asked
        scores = [self.function(fraction) for fraction in asked]
        return [
            Point({"a": round(512 * f)}, s.value, 1, 1, 1, None, f, s.error) for f, s in zip(asked, scores, strict=True)
        ]

    def settled(self, points):
        return Curve(tuple(points), FULL)


def curve_of(function, **options):
    imagined = Imagined(function)
    wanted = adaptive(**{"tolerance": 0.005, "lower": 1 / 512, "most": 50} | options)
    return explored(imagined, PLAN, wanted), imagined.calls


def errors(curve: Curve, function) -> torch.Tensor:
    """How far the curve is from a function, at every fraction."""
    return (curve.surrogate.at(GRID)[0] - torch.tensor([function(f) for f in GRID], dtype=torch.float64)).abs()


def noisy(function, noise: float, *, known: bool, seed: int = 0):
    """Each fraction has one score, as a model has; `known` tells its error too."""
    normal = torch.randn(513, generator=torch.Generator().manual_seed(seed)).tolist()
    return lambda f: Score(function(f) + noise * normal[round(512 * f)], noise if known else None)


SHAPES = {
    "sigmoid": lambda f: 0.1 + 0.8 / (1 + math.exp(-1.5 * (math.log2(f) + 6))),
    "power": lambda f: 0.9 - 0.4 * (512 * f) ** -0.7,
    "step": lambda f: 0.5 if f < 0.3 else 0.9,
    "early step": lambda f: 0.3 if f < 0.02 else 0.9,
    "flat": lambda f: 0.7,
    "bump": lambda f: 0.9 - 0.1 * math.exp(-(((f - 0.5) / 0.2) ** 2)),
    "logarithm": lambda f: 0.5 + 0.05 * math.log2(512 * f),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_quiet_curve_is_known_to_the_tolerance(shape):
    def function(fraction):
        return Score(SHAPES[shape](fraction))

    curve, calls = curve_of(function)
    assert curve.precision <= 0.005 and errors(curve, SHAPES[shape]).max() <= 0.005
    assert len(calls) == len(set(calls)) == len(curve) <= 50
    assert f"known to ±{curve.precision:.4g}" in str(curve)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("noise", [0.001, 0.004])
def test_a_noisy_curve_is_known_to_the_error_that_is_stated(shape, known, noise):
    curve, _ = curve_of(noisy(SHAPES[shape], noise, known=known))
    found = errors(curve, SHAPES[shape])
    assert (found > curve.precision).double().mean() <= 0.05
    assert found.max() <= 2 * max(curve.precision, noise)


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0.2, 0.9),
    st.lists(st.tuples(st.floats(-8, -1), st.floats(0.5, 4), st.floats(0, 1)), min_size=1, max_size=3),
    st.sampled_from([0.0, 0.0005, 0.002]),
    st.booleans(),
)
def test_any_sum_of_rises_is_known_to_the_error_that_is_stated(height, rises, noise, known):
    whole = sum(weight for *_, weight in rises) + 1e-3

    def smooth(f):
        return sum(height * w / whole / (1 + math.exp(-rate * (math.log2(f) - x))) for x, rate, w in rises)

    curve, calls = curve_of(noisy(smooth, noise, known=known))
    assert len(calls) <= 50
    assert (errors(curve, smooth) > max(curve.precision, 2 * noise)).double().mean() <= 0.05


def test_more_is_evaluated_where_less_is_known():
    _, calls = curve_of(lambda f: Score(0.9 if f > 0.5 else 0.2))
    near = [f for f in calls if 0.4 < f < 0.6]
    assert len(near) >= 5 and min(f for f in calls if f > 0.5) - max(f for f in calls if f <= 0.5) == 1 / 512


def test_the_answer_says_when_the_tolerance_was_not_reached():
    curve, calls = curve_of(lambda f: Score(math.sin(40 * f)), most=20)
    assert len(calls) == 20 and curve.precision > 0.005
    assert "not to tolerance=0.005 (most=20)" in curve.notes[0]


def test_it_is_deterministic_and_stops_as_soon_as_it_may():
    function = noisy(SHAPES["sigmoid"], 0.001, known=True)
    first, second = curve_of(function), curve_of(function)
    assert first == second
    loose, calls = curve_of(function, tolerance=0.05)
    assert len(calls) < len(first[1]) and loose.precision <= 0.05


def test_a_model_is_swept_until_its_curve_is_known(tmp_path):
    wanted = surgery.adaptive(0.5, lower=1 / 16, most=12)
    options = {"measure_latency": False, "progress": False}
    curve = surgery.sweep(wrapped(), hits, wanted, **options)
    assert [p.fraction for p in curve] == sorted((p.fraction for p in curve), reverse=True)
    assert (curve[0].fraction, curve[-1].fraction) == (1.0, 1 / 16) and curve.precision > 0
    curve.to_json(tmp_path / "curve.json")
    again = Curve.from_json(tmp_path / "curve.json")
    assert again == curve and again.at(0.3) == curve.at(0.3)


def test_it_is_resumed_without_scoring_twice(tmp_path):
    calls = []

    def validate(model):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return loss(model)

    def swept():
        wanted = surgery.adaptive(0.01, lower=1 / 16, most=14)
        return surgery.sweep(
            wrapped(), validate, wanted, resume=tmp_path / "c.json", measure_latency=False, progress=False
        )

    with pytest.raises(surgery.SweepError, match="sweep stopped"):
        swept()
    curve = swept()
    assert len(calls) == len(curve) + 1


def test_all_widths_may_be_needed():
    small = surgery.wrap(mlp(4, 12, 2), torch.ones(2, 4))
    jagged = {width: (width * 7 % 5) / 5 for width in range(1, 13)}
    curve = surgery.sweep(
        small, lambda m: jagged[surgery.widths(m)["0.o"]], adaptive(lower=1 / 12), measure_latency=False, progress=False
    )
    assert [point.widths["0.o"] for point in curve] == list(range(12, 0, -1))
    assert curve.precision == 0 and "is known to" in curve.notes[0]


def test_fractions_are_those_that_groups_have():
    assert fractions(plan(Group("a", 8)), 1 / 8) == [i / 8 for i in range(1, 9)]
    assert fractions(plan(Group("a", 8, 4), Group("b", 10, 5)), 0.3) == [0.3, 0.5, 1.0]
    many = fractions(plan(Group("a", 4096), Group("b", 11008)), 1 / 32)
    assert many == sorted(set(many)) and many[0] == 1 / 32 and many[-1] == 1.0 and len(many) < 3500


def test_between_rows_the_error_is_larger_than_at_them():
    rows = tuple(Point({"a": 1}, 0.9 - 0.1 / f / 64, 1, 1, 1, None, f) for f in (1.0, 0.5, 0.25, 0.125, 0.0625))
    curve = Curve(rows, FULL)
    for point in rows:
        assert curve.at(point.fraction).value == pytest.approx(point.score, abs=1e-3)
    assert curve.at(0.09).error > curve.at(0.125).error
    for outside in (0.01, 1.5, "half", True):
        with pytest.raises(InputError, match=r"is not a fraction between 0\.0625 and 1"):
            curve.at(outside)
    with pytest.raises(InputError, match="at least two rows"):
        curve[:1].at(1.0)


@pytest.mark.parametrize("bad", [{"tolerance": 0}, {"lower": 0}, {"lower": 1.0}, {"most": 3}, {"at_once": 0}])
def test_impossible_demands_are_refused(bad):
    with pytest.raises(InputError, match="tolerance is above 0"):
        adaptive(**bad)
    assert isinstance(adaptive(), Adaptive)


def test_jitter_that_errors_do_not_explain_is_no_jitter():
    """Rows without noise of their own, whatever their shape, lie on the curve."""
    fractions, values = [2.0**-i for i in range(8)], [0.9, 0.8, 0.91, 0.7, 0.5, 0.55, 0.3, 0.1]
    exact = fit(fractions, [Score(value, 0.0) for value in values])
    assert torch.allclose(exact.at(fractions)[0], torch.tensor(values, dtype=torch.float64), atol=1e-4)
