"""Tied groups have one fraction of their sizes, whatever is asked of some of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import surgery
from surgery.plan.groups import Group
from surgery.plan.ties import Tie, merged, with_steps

SIZES = {"a": 24, "b": 24, "c": 96, "d": 10}
X = torch.randn(5, 7)


def plan_of(tie, **options):
    layers = [nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 3)]
    return surgery.inspect(surgery.wrap(nn.Sequential(*layers), X, tie=tie, **options))


widths = st.one_of(st.floats(0.01, 1.0), st.integers(1, 24))


PATTERNS = st.sampled_from(["0.o", "*.o", "hidden", "4"])


@given(st.dictionaries(PATTERNS, st.floats(0.01, 1.0), min_size=1), st.integers(1, 9))
def test_fractions_hold_for_all_of_a_tie(spec: dict[str, float], multiple: int) -> None:
    plan = plan_of("*")
    found = plan.widths(spec, multiple)
    assert found["0.o"] == found["2.o"]
    assert abs(found["4.o"] / 96 - found["0.o"] / 24) <= multiple / 24 + 1e-9
    assert plan.widths(found) == found  # what comes out may be given


@given(st.integers(1, 24))
def test_a_width_of_one_is_that_of_its_equals(width: int) -> None:
    plan = plan_of([["0.o", "2.o"]])
    assert plan.widths({"2.o": width}) == {"0.o": width, "2.o": width, "4.o": 96}


def test_widths_by_name_must_go_together() -> None:
    plan = plan_of("hidden")
    with pytest.raises(surgery.WidthError, match="are tied"):
        plan.widths({"0.o": 12, "2.o": 6})
    assert plan.widths({"*": 0.5, "0.o": 6})["2.o"] == 6  # a glob is overruled
    assert plan.free == ("0.o",) and plan.tied("4.o") == ("0.o", "2.o", "4.o")


@given(st.floats(0.01, 1.0), st.integers(1, 9))
def test_exact_ties_keep_ratios(fraction: float, multiple: int) -> None:
    groups = {name: Group(name, size) for name, size in {"a": 12, "b": 768, "c": 36}.items()}
    tie = Tie(("a", "b", "c"), exact=True)
    groups = with_steps(groups, [tie])
    assert {name: group.granularity for name, group in groups.items()} == {"a": 1, "b": 64, "c": 3}
    found = tie.widths(groups, {"a": fraction}, (), multiple)
    assert found["b"] == 64 * found["a"] and found["c"] == 3 * found["a"] and 1 <= found["a"] <= 12


def test_steps_of_a_tie_are_common_to_its_groups() -> None:
    groups = {"a": Group("a", 24, 4), "b": Group("b", 24, 6), "c": Group("c", 96)}
    assert [g.granularity for g in with_steps(groups, [Tie(("a", "b", "c"))]).values()] == [12, 12, 1]
    assert [g.granularity for g in with_steps(groups, [Tie(("a", "b", "c"), exact=True)]).values()] == [12, 12, 48]


def test_sets_that_share_a_name_are_one() -> None:
    assert merged([["d", "c"], ["a", "b"], ["b", "d"], ["e"]], "abcde") == [("a", "b", "c", "d")]
    assert merged([["e", "d"], ["a", "b"]], "abcde") == [("a", "b"), ("d", "e")]


def by_place(plan, generator):
    return {name: i + 1 for i, name in enumerate(plan.groups)}


@pytest.mark.parametrize("draw", [surgery.paper(p=1.0), surgery.mixed(independent=1.0), by_place])
def test_draws_keep_ties(draw) -> None:
    layers = [nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3)]
    wrapped = surgery.wrap(nn.Sequential(*layers), X, tie=[["0.o", "4.o"]], draw=draw, minimum={"4.o": 3})
    seen = set()
    for _ in range(20):
        wrapped.train()(X)
        drawn = surgery.status(wrapped).drawn
        assert drawn["0.o"] == drawn["4.o"] >= 3
        seen.add(tuple(drawn.values()))
    assert callable(draw) and len(seen) >= 1


def test_searches_and_sensitivities_move_tied_groups_together() -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(7, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 3)]
    wrapped = surgery.wrap(nn.Sequential(*layers), X, tie=[["0.o", "4.o"]])

    def validate(model: nn.Module) -> float:
        return -float(model(X).square().mean())

    found = surgery.sensitivity(wrapped, validate, (0.5,), measure_latency=False, progress=False)
    assert list(found.axes) == ["0.o", "2.o"]
    curve = surgery.search(wrapped, validate, (0.5, 0.2), evaluations=20, measure_latency=False, progress=False)
    for point in curve:
        assert abs(point.widths["4.o"] / 48 - point.widths["0.o"] / 24) <= 1 / 24
        surgery.shrink(wrapped, point)


@pytest.mark.parametrize("tie", [[], [[]], 3, [3], ["config"], [["config", "*"]], "nothing", [["0.o"], 5.0]])
def test_what_is_no_tie_is_an_error(tie) -> None:
    if tie == []:
        assert plan_of(tie).ties == ()
        return
    with pytest.raises((surgery.InputError, surgery.WidthError), match=r"tie|no group"):
        plan_of(tie)
