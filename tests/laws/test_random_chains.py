"""The laws over random models with lists of modules, of which some are left out."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st
from torch import nn

import surgery
from surgery.twin.setting import plan_of
from tests.laws import laws
from tests.laws.chains import BLOCKS, PIECES, Chained, Piece, Recurrent, chained, chains


def listed(plan: surgery.Plan) -> dict[str, surgery.Group]:
    return {name: group for name, group in plan.groups.items() if group.lists}


def children(group: surgery.Group, unit: int) -> list[str]:
    return [one.child(name) for one in group.lists for name in one.units[unit]]


def freed(plan: surgery.Plan) -> set[str]:
    """The paths of the modules that a plan can leave out."""
    return {
        path
        for group in listed(plan).values()
        for unit in range(group.size)
        if unit not in group.stays
        for path in children(group, unit)
    }


def drawn(plan: surgery.Plan, generator: torch.Generator) -> tuple[dict[str, list[int]], dict[str, int]]:
    """A random order for each list, and widths at which lists alone are shorter."""
    depths = [group for group in listed(plan).values() if group.kind == "depth"]
    orders = {group.name: torch.randperm(group.size, generator=generator).tolist() for group in depths}
    return orders, {**plan.full(), **{n: laws.random_widths(plan, generator)[n] for n in listed(plan)}}


def left_out(plan: surgery.Plan, widths: dict[str, int]) -> list[str]:
    return [
        path
        for name, group in listed(plan).items()
        for unit in range(group.size)
        if unit not in group.kept(widths[name])
        for path in children(group, unit)
    ]


def rightly_shorter(program: Chained, wrapped: nn.Module, generator: torch.Generator) -> None:
    """Law 13: twin and small model compute what the pieces compute without what is left out, by their own account."""
    orders, _ = drawn(plan_of(wrapped), generator)
    surgery.set_depth_order(wrapped, orders)
    plan = plan_of(wrapped)
    _, widths = drawn(plan, generator)
    x = program.inputs(1)
    expected = program.without(x, left_out(plan, widths))
    small = surgery.shrink(wrapped, widths, recalibrate=False)
    with torch.no_grad(), surgery.at_widths(wrapped, widths):
        for model in (small, wrapped):
            assert laws.output_of(model, (x,)).shape == expected.shape
            gap = (laws.output_of(model, (x,)) - expected).abs().max()
            assert gap <= laws.EXACT * expected.abs().max(), f"without {left_out(plan, widths)}"
    nests(wrapped, small, widths, x)
    other = surgery.load(saved(small), copy.deepcopy(program.model), (program.inputs(0),))
    assert torch.equal(laws.output_of(small, (x,)), laws.output_of(other, (x,)))


def nests(wrapped: nn.Module, small: nn.Module, widths: dict[str, int], x: torch.Tensor) -> None:
    """Law 3: shorter, and then shorter again in the same order, is as short at once."""
    groups = listed(plan_of(wrapped))
    if not any(group.kind == "depth" for group in listed(surgery.inspect(small, (x,), depth=True)).values()):
        return
    again = surgery.wrap(small, (x,), depth=True)
    orders, further = {}, {}
    for name, group in listed(plan_of(again)).items():
        whole = groups.get(name)
        if whole is None or group.size != widths[name] or not whole.order:
            continue
        kept = whole.kept(widths[name])
        orders[name] = [kept.index(unit) for unit in whole.order[: group.size]]
        further[name] = max(group.least, whole.least, group.size - 1)
    surgery.set_depth_order(again, orders)
    if any(
        set(plan_of(again).groups[name].order[: further[name]]) != set(orders[name][: further[name]]) for name in orders
    ):
        return  # what must stay of the shorter list is another
    least = surgery.shrink(again, {**plan_of(again).full(), **further}, recalibrate=False)
    at_once = surgery.shrink(wrapped, {**widths, **further}, recalibrate=False)
    gap = (laws.output_of(least, (x,)) - laws.output_of(at_once, (x,))).abs().max()
    assert gap <= laws.EXACT * laws.output_of(least, (x,)).abs().max(), f"first to {widths}, then to {further}"


def saved(small: nn.Module) -> Path:
    folder = Path(tempfile.mkdtemp())
    surgery.save(small, folder / "small")
    return folder / "small"


def trains(program: Chained, wrapped: nn.Module) -> None:
    """Training forwards at drawn depths run, and reach parameters."""
    wrapped.train()
    for seed in range(2):
        wrapped.zero_grad()
        laws.loss(wrapped(program.inputs(seed))).backward()
        assert any(p.grad is not None and p.grad.any() for p in wrapped.parameters())
    wrapped.zero_grad()
    wrapped.eval()


def held(program: Chained, seed: int) -> None:
    # torch does not count recurrences, and what routers send to experts is a matter of data
    counted = not any(isinstance(piece, Recurrent) for piece in program.model)
    plan = laws.all_laws(
        program.model, (program.inputs(0),), (program.inputs(1),), seed, macs=counted, depth=True, experts=True
    )
    assert freed(plan) <= program.may(), f"{freed(plan) - program.may()} must stay"
    if not listed(plan):
        return
    generator = torch.Generator().manual_seed(seed)
    wrapped = surgery.wrap(
        program.model, (program.inputs(0),), draw=surgery.paper(p=0.8), generator=generator, depth=True, experts=True
    )
    for _ in range(3):
        rightly_shorter(program, wrapped, generator)
    trains(program, wrapped)


@pytest.mark.slow
@settings(max_examples=60)
@given(program=chains(), seed=st.integers(0, 2**16))
def test_laws_hold_for_random_models_with_lists(program: Chained, seed: int) -> None:
    note(repr(program))
    held(program, seed)


@pytest.mark.parametrize("kind", PIECES)
def test_all_that_may_go_is_found(kind: type[Piece]) -> None:
    """By construction; but for what a piece says of itself, and lists of which any half may go, but not all."""
    program = chained((kind, 4, "mlp"))
    found = freed(surgery.inspect(program.model, (program.inputs(0),), depth=True, experts=True))
    assert bool(found) != bool(kind.unseen or not program.may() - {"1"})
    assert found == program.may() - {"1"} or kind.unseen or kind.__name__ == "Halves"


@pytest.mark.parametrize("kind", PIECES)
def test_laws_hold_for_each_piece(kind: type[Piece]) -> None:
    held(chained((kind, 3, "mlp")), seed=2)


@pytest.mark.parametrize("block", BLOCKS)
def test_blocks_of_all_kinds_may_go(block: str) -> None:
    held(chained((Piece, 3, block)), seed=1)
