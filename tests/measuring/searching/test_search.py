"""A search gives a nested chain that is never worse than uniform, whatever the scores are."""

import itertools
import math
import re
import time

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from tqdm import tqdm

import surgery
import surgery.measuring.evaluate
from surgery.curves.curve import Curve
from surgery.curves.points import Point
from surgery.errors import FileError, InputError, WidthError
from surgery.measuring.searching.blocks import blocks
from surgery.measuring.searching.chain import best_chain, inside
from surgery.measuring.searching.knapsack import knapsack
from surgery.measuring.sweep import SweepError
from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from tests.measuring.scoring import BATCHES, INPUTS, careless, hits, wrapped

OPTIONS = {"progress": False, "measure_latency": False}


def deep(blocks: int = 3, **options) -> nn.Module:
    """A residual model: one width throughout, and one in each block."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.down = nn.Linear(8, 24), nn.Linear(24, 8)

        def forward(self, x):
            return x + self.down(self.up(x).relu())

    model = nn.Sequential(nn.Linear(6, 8), *(Block() for _ in range(blocks)), nn.Linear(8, 3))
    return surgery.wrap(model, INPUTS[:2], **options)


TWIN = deep()
PLAN = surgery.inspect(TWIN)


def additive(weights):
    """A score that is a weighted sum of the logarithms of widths."""

    def validate(model):
        found = surgery.widths(model)
        return sum(
            w * math.log2(width / PLAN.groups[g].size) for w, (g, width) in zip(weights, found.items(), strict=True)
        )

    return validate


def scattered(seed: int):
    """A score without rhyme or reason."""
    return lambda model: hash((seed, *surgery.widths(model).values())) % 1000 / 1000


def check(curve: Curve, plan: Plan, budgets, key: str = "max_macs") -> None:
    """The laws of a search."""
    assert all(inside(small, large) for large, small in itertools.pairwise(curve))
    assert len(curve) == len(curve.uniform) == len(budgets)
    for point, uniform, budget in zip(curve, curve.uniform, sorted(budgets, reverse=True), strict=True):
        assert point.score >= uniform.score
        assert uniform.widths == plan.widths(uniform.fraction)
        for found in (point, uniform):
            costs = surgery.cost(plan, found.widths)
            assert (found.params, found.bytes, found.macs) == (costs.params, costs.bytes, costs.macs)
            assert getattr(found, key.removeprefix("max_")) <= budget * curve.full[key.removeprefix("max_")]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    validate=st.one_of(
        st.lists(st.floats(-0.2, 1), min_size=4, max_size=4).map(additive), st.integers(0, 99).map(scattered)
    ),
    budgets=st.lists(st.floats(0.05, 1.0), min_size=1, max_size=4, unique=True),
    evaluations=st.integers(5, 40),
)
def test_the_chain_is_nested_and_never_worse_than_uniform(validate, budgets, evaluations):
    calls = []
    curve = surgery.search(
        TWIN,
        lambda m: calls.append(1) or validate(m),
        budgets,
        evaluations=max(evaluations, len(budgets) + 1),
        **OPTIONS,
    )
    check(curve, PLAN, budgets)
    assert len(calls) <= max(evaluations, len(budgets) + 1)
    assert f"Searched with {len(calls)} evaluations" in str(curve)


def test_a_budget_is_kept_to_the_last_multiplication():
    """Also where it is so near to the costs that single precision cannot tell them apart."""
    budgets = [1 - 1e-8, 0.5 - 1e-8]
    check(surgery.search(TWIN, additive([1, 1, 1, 1]), budgets, evaluations=12, **OPTIONS), PLAN, budgets)


def test_what_matters_is_kept_wide():
    """Blocks that hardly matter make room for the one that does; no grid of uniform widths can do that."""
    weights = [0.05, 0.01, 1.0, 0.01]
    curve = surgery.search(TWIN, additive(weights), (0.4, 0.2), evaluations=60, **OPTIONS)
    names = list(PLAN.groups)
    for point, uniform in zip(curve, curve.uniform, strict=True):
        assert point.score > uniform.score + 0.3
        assert point.widths[names[2]] > 1.4 * point.widths[names[1]]


def test_it_comes_near_the_best_model_there_is():
    twin = wrapped()
    plan = surgery.inspect(twin)

    def score(widths):
        return 0.2 * math.log2(widths["0.o"]) + 0.5 * math.log2(widths["3.o"])

    limit = 0.4 * surgery.cost(plan).params
    every = [{"0.o": a, "3.o": b} for a in range(1, 17) for b in range(1, 9)]
    best = max(score(widths) for widths in every if surgery.cost(plan, widths).params <= limit)
    budget = {"max_params": 0.4}
    (point,) = surgery.search(twin, lambda m: score(surgery.widths(m)), [budget], evaluations=40, **OPTIONS)
    assert point.score >= best - 0.05


def test_it_is_deterministic_and_the_same_elsewhere():
    from concurrent.futures import ThreadPoolExecutor

    first = surgery.search(wrapped(), careless, (0.5, 0.25), evaluations=30, **OPTIONS)
    again = surgery.search(wrapped(), careless, (0.25, 0.5), evaluations=30, **OPTIONS)
    with ThreadPoolExecutor(3) as executor:
        elsewhere = surgery.search(wrapped(), careless, (0.5, 0.25), evaluations=30, executor=executor, **OPTIONS)
    assert first == again == elsewhere


def test_it_is_resumed_without_scoring_twice(tmp_path):
    path, calls = tmp_path / "search.json", []

    def validate(model):
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt
        return careless(model)

    def searched():
        return surgery.search(wrapped(), validate, (0.5, 0.25), evaluations=30, resume=path, **OPTIONS)

    with pytest.raises(SweepError, match=r"search stopped .* 11 rows are finished"):
        searched()
    curve = searched()
    count = int(re.search(r"with (\d+) evaluations", curve.notes[0])[1])
    assert len(calls) == count + 1
    assert curve.points == surgery.search(wrapped(), careless, (0.5, 0.25), evaluations=30, **OPTIONS).points
    sensitive = surgery.sensitivity(wrapped(), pytest.fail, (0.5,), resume=path, **OPTIONS)  # what is known already
    assert len(sensitive.curve) == 3
    curve.to_json(tmp_path / "chain.json")
    assert Curve.from_json(tmp_path / "chain.json") == curve
    other = wrapped(fixed="0.o")
    with pytest.raises(FileError, match="another model"):
        surgery.search(other, careless, (0.5,), resume=path, **OPTIONS)


def test_the_bar_counts_each_model_once(monkeypatch):
    bars = []

    class Bar(tqdm):
        def __init__(self, *args, **keywords):
            super().__init__(*args, **keywords)
            bars.append(self)
            self.counted = 0

        def update(self, n=1):
            self.counted += n
            return super().update(n)

    monkeypatch.setattr(surgery.measuring.evaluate, "tqdm", Bar)
    calls = []
    surgery.search(TWIN, lambda model: calls.append(1) or 0.5, (0.3,), evaluations=12, progress=False)
    assert bars[0].counted == len(calls) <= bars[0].total == 12


def test_several_constraints_hold_at_once():
    curve = surgery.search(
        TWIN,
        additive([1, 1, 1, 1]),
        [{"max_params": 0.5, "max_macs": 0.3, "max_bytes": 1500}],
        evaluations=30,
        **OPTIONS,
    )
    (point,) = curve
    assert point.params <= 0.5 * curve.full["params"] and point.macs <= 0.3 * curve.full["macs"] and point.bytes <= 1500


def test_latency_is_limited_by_what_was_measured(monkeypatch):
    from surgery.modules.latency import Timing

    def taken(model, _):
        return Timing(1e-3 * sum(p.numel() for p in model.parameters()), 0.0)

    monkeypatch.setattr("surgery.measuring.timer.timing", taken)
    limit = 0.4e-3 * PLAN.total
    curve = surgery.search(
        TWIN, additive([0.1, 0.1, 1, 0.1]), [{"max_latency": limit}, {"max_latency": limit / 2, "max_macs": 0.9}],
        evaluations=40, progress=False,
    )  # fmt: skip
    for point, most in zip(curve, (limit, limit / 2), strict=True):
        assert point.latency <= most and point.latency == pytest.approx(1e-3 * point.params)
    assert all(point.score >= uniform.score for point, uniform in zip(curve, curve.uniform, strict=True))
    with pytest.raises(WidthError, match=r"no uniform model is within max_latency=1e-09"):
        surgery.search(TWIN, hits, [{"max_latency": 1e-9}], progress=False)


def test_fixed_axes_granularity_minimum_and_multiples_are_respected():
    twin = deep(fixed="1.*", granularity={"2.up.o": 6}, minimum={"3.up.o": 5, "0.o": 3})
    plan = surgery.inspect(twin)
    seen = []

    def validate(model):
        seen.append(surgery.widths(model))
        return -float(sum(seen[-1].values()))

    surgery.search(twin, validate, (0.6, 0.35), evaluations=40, **OPTIONS)
    assert all(widths["2.up.o"] % 6 == 0 and widths["3.up.o"] >= 5 and widths["0.o"] >= 3 for widths in seen)
    assert "1.up.o" not in plan.groups
    seen.clear()
    surgery.search(TWIN, validate, (0.6, 0.3), evaluations=30, multiple=4, **OPTIONS)
    assert all(width % 4 == 0 for widths in seen[3 + 4 * 3 :] for width in widths.values())


def test_recalibration_counts():
    curve = surgery.search(wrapped(), careless, (0.5,), evaluations=12, recalibrate=BATCHES, **OPTIONS)
    assert curve.recalibrated == 2


@pytest.mark.parametrize(
    "budgets, message",
    [
        ([], "no budgets"),
        ([2], "a budget is a float"),
        ([{}], "a budget is a float"),
        ([{"max_score": 1.0}], "mapping of max_params"),
        ([0.0], "must be above 0"),
        ([math.nan], "not a finite number"),
    ],
)
def test_a_budget_that_cannot_be_read_is_refused(budgets, message):
    with pytest.raises(InputError, match=message):
        surgery.search(TWIN, hits, budgets, **OPTIONS)


def test_impossible_demands_are_refused():
    with pytest.raises(InputError, match="the full and uniform models are 3"):
        surgery.search(TWIN, hits, (0.5, 0.2), evaluations=2, **OPTIONS)
    with pytest.raises(WidthError, match=r"no uniform model is within max_params=1. The smallest one has \d+ params"):
        surgery.search(TWIN, hits, [{"max_params": 1}], **OPTIONS)


def test_a_hundred_axes_are_searched_in_bundles():
    twin = deep(blocks=100)
    calls = []

    def validate(model):
        calls.append(surgery.widths(model))
        return additive_of(calls[-1])

    def additive_of(widths):
        return sum((0.02 if i % 2 else 0.001) * math.log2(width) for i, width in enumerate(widths.values()))

    start = time.process_time()
    curve = surgery.search(twin, validate, (0.5, 0.25), evaluations=40, **OPTIONS)
    assert len(calls) <= 40 and time.process_time() - start < 120
    check(curve, surgery.inspect(twin), (0.5, 0.25))


@pytest.mark.parametrize("most", [1, 2, 3, 7, 50, 101, 500])
def test_bundles_hold_every_group_once(most):
    groups = [
        Group("stem.o", 64),
        *(Group(f"blocks.{i}.{n}.o", 8 * s) for i in range(50) for n, s in (("a", 1), ("b", 4))),
    ]
    plan = Plan("Model", {group.name: group for group in groups}, (), {}, {}, {})
    found = blocks(plan, most)
    assert len(found) == min(most, 101)
    assert sorted(name for names in found.values() for name in names) == sorted(plan.groups)
    if most >= 3:
        assert all(len({plan.groups[name].size for name in names}) == 1 for names in found.values())


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_knapsack_fits_and_is_nearly_the_best(data):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    rise = st.floats(0.01, 1.0)
    losses = [torch.tensor([0.0, *(data.draw(rise) for _ in range(n))]).cumsum(0).double() for n in sizes]
    falls = [torch.tensor([0.0, *(data.draw(rise) for _ in range(n))]).cumsum(0).double() for n in sizes]
    limit = data.draw(st.floats(0.1, 1.0)) * float(sum(fall[-1] for fall in falls))
    whole = float(sum(fall[-1] for fall in falls)) + 1

    def load(levels):
        return sum((whole - limit) ** -1 * -falls[a][levels[:, a]] for a in range(len(sizes))) + whole / (whole - limit)

    found = knapsack(losses, load, [0] * len(sizes))
    every = torch.cartesian_prod(*(torch.arange(n + 1) for n in sizes)).reshape(-1, len(sizes))
    every = every[load(every) <= 1 + 1e-12]
    best = min(float(sum(losses[a][row[a]] for a in range(len(sizes)))) for row in every)
    loss = sum(float(losses[a][level]) for a, level in enumerate(found))
    assert float(load(torch.tensor([found]))[0]) <= 1 + 1e-9
    largest = max(float(step) for loss in losses for step in loss.diff())
    assert loss <= best + 2 * largest + 1e-9  # Lagrange's way misses by a step or two


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.floats(0, 1)), min_size=1, max_size=4),
        max_size=3,
        min_size=1,
    )
)
def test_the_chain_is_the_best_of_all_nested_ones(lists):
    candidates = [
        [
            Point({"a": 5 - n, "b": 5 - n}, 0.0, 1, 1, 1),
            *(Point({"a": a, "b": b}, score, 1, 1, 1) for a, b, score in row),
        ]
        for n, row in enumerate(lists)
    ]
    nested = [
        chain
        for chain in itertools.product(*candidates)
        if all(inside(small, large) for large, small in itertools.pairwise(chain))
    ]
    found = best_chain(candidates)
    assert all(inside(small, large) for large, small in itertools.pairwise(found))
    assert sum(p.score for p in found) == pytest.approx(max(sum(p.score for p in chain) for chain in nested))
    if len(lists) > 1:
        with pytest.raises(ValueError, match="nested"):
            best_chain([[Point({"a": 1}, 0.0, 1, 1, 1)], [Point({"a": 2}, 0.0, 1, 1, 1)]])


def test_a_sensitivity_cuts_each_axis_alone():
    twin = wrapped()
    found = surgery.sensitivity(twin, hits, (0.25, 0.5), progress=False)
    full = surgery.widths(twin)
    assert list(found.axes) == list(full)
    for axis in full:
        widths = [point.widths for point in found.points(axis)]
        assert widths == [{**full, axis: full[axis] // 2}, {**full, axis: full[axis] // 4}]
        for point, lost in zip(found.points(axis), found.lost(axis), strict=True):
            assert lost == found.curve[0].score - point.score and point.latency > 0
    lines = str(found).splitlines()
    assert len(lines) == 5 and lines[0].split() == ["axis", "width", "score", "lost", "±", "parameters", "MACs", "time"]
    assert "8 of 16" in lines[1] and len({len(line) for line in lines}) == 1
    assert found.curve[0].params == surgery.cost(twin).params


def test_a_sensitivity_of_some_axes():
    found = surgery.sensitivity(TWIN, scattered(1), (1.0, 0.5, 0.49), groups=["1", "0.o"], **OPTIONS)
    assert {axis: len(found.points(axis)) for axis in found.axes} == {"0.o": 1, "1.up.o": 1}
    assert "time" not in str(found) and "±" not in str(found)
    with pytest.raises(InputError, match="fractions are floats"):
        surgery.sensitivity(TWIN, hits, (1, 2), **OPTIONS)
