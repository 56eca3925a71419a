"""Groups whose units are modules: their widths, steps and orders, and what tables and files say of them."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch

import surgery
from surgery.errors import InputError
from surgery.plan.groups import DEPTH, EXPERTS, Group, Listed
from surgery.plan.plan import Draw, Plan
from surgery.plan.runs import in_runs
from surgery.planning.make import make_plan
from surgery.training.draws import DEFAULT
from tests.models.deep import Deep, X, deep


def plan_of(depth: int, **options: Any) -> Plan:
    return make_plan(Deep(depth), surgery.inputs(X), depth=True, **options)


GENERATOR = torch.Generator().manual_seed(0)


def chain(size: int, step: int = 1, stays: tuple[int, ...] = ()) -> Group:
    order = (*stays, *(unit for unit in range(size) if unit not in stays))
    lists = (Listed("layers", tuple((str(i),) for i in range(size))),)
    group = Group("layers.depth", size, kind=DEPTH, lists=lists, order=order, stays=stays, least=max(1, len(stays)))
    return group.stepped(step)


# ---- orders in steps


@pytest.mark.parametrize("size, step", [(6, 2), (7, 2), (8, 3), (5, 4), (3, 5)])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_are_whole_runs_of_neighbours(size: int, step: int, seed: int) -> None:
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).tolist()
    group = chain(size, step).ordered(order)
    for width in range(group.smallest, size, step):
        kept = set(group.kept(width))
        runs = [set(range(a, a + step)) for a in range(0, size - step + 1, step)]
        assert len(kept) == width and all(run <= kept or not run & kept for run in runs)
    assert group.ordered(group.order) == group  # it is rounded already


def test_without_another_order_the_last_runs_go_first() -> None:
    assert chain(6, 2).order == (0, 1, 2, 3, 4, 5) and chain(7, 3).order == tuple(range(7))
    assert chain(6, 2).ordered([5, 0, 1, 2, 3, 4]).order == (0, 1, 4, 5, 2, 3)


@pytest.mark.parametrize("size, step", [*itertools.product(range(2, 9), range(1, 5))])
def test_what_stays_is_there_at_every_width(size: int, step: int) -> None:
    for stays in itertools.chain(itertools.combinations(range(size), 1), itertools.combinations(range(size), 2)):
        group = chain(size, step, stays)
        widths = [w for w in range(group.least, size + 1) if w % step == 0 or w == size]
        assert all(set(stays) <= set(group.kept(width)) for width in widths) and group.smallest in widths


def test_a_short_run_that_stays_stands_at_the_other_end() -> None:
    assert in_runs(range(5), {4}, 2) == ((3, 4, 1, 2, 0), 2)
    assert in_runs(range(5), {0, 4}, 2)[1] == 5  # both ends stay: so do all


# ---- widths


def test_steps_and_multiples_of_features_are_none_of_modules() -> None:
    plan = plan_of(6, granularity=4)
    assert plan.groups["layers.depth"].granularity == 1 and plan.groups["stem.o"].granularity == 4
    named = plan_of(6, granularity={"*": 4, "depth": 2})
    assert named.groups["layers.depth"].granularity == 2
    widths = plan.widths(0.5, multiple=8)
    assert widths["layers.depth"] == 3 and widths["stem.o"] == 8
    twin = deep(6, draw=surgery.grid([0.01]), minimum=8).train()
    twin(X)
    drawn = surgery.status(twin).drawn
    assert drawn is not None and drawn["layers.depth"] == 1 and drawn["stem.o"] == 8


def test_widths_below_what_must_stay_are_refused() -> None:
    plan = plan_of(6, granularity={"depth": 2})
    with pytest.raises(surgery.WidthError, match="not a multiple of 2"):
        plan.widths({"depth": 3})
    with pytest.raises(surgery.WidthError, match="between 1 and 6"):
        plan.widths({"depth": 0})
    assert plan.widths(0.01)["layers.depth"] == 2


@pytest.mark.parametrize(
    "draw",
    [
        DEFAULT,
        surgery.paper(p=1.0, lower=5, step=3),
        surgery.shared(p=1.0),
        surgery.mixed(),
        surgery.grid([0.01, 0.5]),
        surgery.sandwich(),
        surgery.warmup(surgery.grid([0.01]), 2),
    ],
    ids=lambda draw: type(draw).__name__,
)
def test_draws_are_widths_that_the_group_can_have(draw: Draw) -> None:
    plan = plan_of(6, granularity={"depth": 2})
    drawn = [plan.widths(draw(plan, GENERATOR))["layers.depth"] for _ in range(60)]
    assert set(drawn) <= {2, 4, 6} and min(drawn) == 2


def test_minimum_bounds_what_is_drawn() -> None:
    twin = deep(6, draw=surgery.grid([0.01]), minimum={"depth": 3}).train()
    twin(X)
    drawn = surgery.status(twin).drawn
    assert drawn is not None and drawn["layers.depth"] == 3


# ---- finding them


def test_names_kinds_and_paths_select_them() -> None:
    plan = surgery.inspect(Deep(), X, depth=True)
    for pattern in ("depth", "layers.depth", "*.depth", "layers:depth", "*:depth"):
        assert plan.find(pattern) == ["layers.depth"]
    assert "layers.depth" in plan.find("layers") and "layers.depth" not in plan.find("layers.0")


def test_fixed_and_only() -> None:
    assert "layers.depth" not in plan_of(4, fixed="depth").groups
    assert "layers.depth" not in plan_of(4, only="ffn").groups
    assert [*plan_of(4, only="depth").groups] == ["layers.depth"]
    small = surgery.shrink(deep(only="depth"), {"depth": 2})
    assert len(small.layers) == 2 and small.stem.out_features == 8


def test_groups_of_modules_may_be_tied_to_others() -> None:
    plan = plan_of(6, tie=[["layers.depth", "stem.o"]])
    assert plan.widths({"layers.depth": 3})["stem.o"] == 4 and plan.widths({"stem.o": 0.5})["layers.depth"] == 3


def test_experts_have_no_order_of_importance() -> None:
    experts = Group("mixture", 4, kind=EXPERTS)
    with pytest.raises(InputError, match="kind experts"):
        experts.ordered(range(4))


# ---- tables and files


def test_the_table_counts_the_tensors_that_come_and_go() -> None:
    row = next(line for line in str(surgery.inspect(Deep(), X, depth=True)).splitlines() if "layers.depth" in line)
    assert row.split()[:5] == ["layers.depth", "depth", "4", "1", "24"]  # six tensors in each layer


def test_what_was_not_asked_for_is_said_to_be_available() -> None:
    plan = surgery.inspect(Deep(), X)
    assert "available: layers.depth (4 modules; depth=True)" in str(plan)
    assert json.loads(plan.to_json())["available"] == [{"name": "layers.depth", "kind": "depth", "size": 4}]


def test_json_says_which_modules_they_are() -> None:
    data = json.loads(surgery.inspect(Deep(), X, depth={"layers.depth": [2, 0, 1, 3]}).to_json())
    (group,) = (item for item in data["groups"] if item["kind"] == "depth")
    assert group["lists"] == [{"path": "layers", "units": [["0"], ["1"], ["2"], ["3"]]}]
    assert group["order"] == [2, 0, 1, 3] and group["least"] == 1
