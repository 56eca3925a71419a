"""Tensor parallelism on two ranks: of twins, at widths that the mesh divides, and of small models."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.errors import WidthError
from tests.cluster.transformer import STEPS, Apart, X, built, furthest, optimizer_of, train
from tests.ranks import Ranks

NARROW = ({"*.up.o": 0.25, "*.a.q.o.0": 0.5}, {"*.a.q.o.1": 0.5, "*.up.o": 0.5}, 0.5)


def parallel(model: nn.Module, mesh: Any = None) -> Any:
    """Rows of queries, keys, values and the first MLP layer on the ranks; columns of what reads them."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    mesh = init_device_mesh("cpu", (torch.distributed.get_world_size(),)) if mesh is None else mesh
    rows, columns = ("a.q", "a.k", "a.v", "up"), ("a.o", "down")
    styles = {**{name: ColwiseParallel() for name in rows}, **{name: RowwiseParallel() for name in columns}}
    for block in model.blocks:  # type: ignore[union-attr]
        parallelize_module(block, mesh, styles)
    return model


def whole(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: getattr(value, "full_tensor", lambda v=value: v)() for name, value in model.state_dict().items()}


def twins(rescale: bool = False) -> list[Any]:
    """A parallel twin and a whole one, with a granularity that is the size of the mesh."""
    found = []
    for change in (parallel, lambda model: model):
        draw = surgery.paper(rescale=rescale)
        only = "*.up.o" if rescale else ()
        found.append(change(surgery.wrap(built(attention=Apart), X, granularity=2, draw=draw, only=only).train()))
    return found


def _trained(rescale: bool) -> tuple[float, float, float]:
    wrapped, alone = twins(rescale)
    narrow = (0.5, surgery.paper(rescale=True)) if rescale else (*NARROW, surgery.shared())
    losses = [train(model, optimizer_of(model), range(STEPS), narrow=narrow) for model in (wrapped, alone)]
    off = max(abs(a - b) for a, b in zip(*losses, strict=True))
    small = surgery.shrink(wrapped, 0.5)
    return off, furthest(whole(wrapped), alone.state_dict()), surgery.verify(small, surgery.shrink(alone, 0.5), X)


@pytest.mark.parametrize("rescale", [False, True])
def test_a_parallel_twin_trains_as_a_whole_one(ranks: Ranks, rescale: bool) -> None:
    for result in ranks(_trained, rescale):
        assert max(result) < 1e-9


def _small() -> float:
    wrapped, _ = twins()
    small = surgery.shrink(wrapped, 0.5)
    return surgery.verify(parallel(copy.deepcopy(small)), small, X)


def test_a_small_model_is_parallelised(ranks: Ranks) -> None:
    assert max(ranks(_small)) < 1e-12


def _odd() -> list[str]:
    wrapped = parallel(surgery.wrap(built(attention=Apart), X).train())
    before, said = whole(wrapped), []
    for call in (
        lambda: surgery.shrink(wrapped, {"blocks.0.up.o": 31}),
        lambda: surgery.train_step(wrapped, X, lambda output: output.square().mean(), narrow=[{"blocks.0.up.o": 31}]),
    ):
        try:
            call()
        except WidthError as error:
            said.append(str(error))
    surgery.shrink(wrapped, {"blocks.0.up.o": 32})
    return [*said, str(furthest(whole(wrapped), before))]


def test_widths_that_the_mesh_does_not_divide_are_refused(ranks: Ranks) -> None:
    for first, second, far in ranks(_odd):
        assert first == second and "blocks.0.up.weight [64, 16] is spread over 2 ranks" in first
        assert "granularity=2" in first and far == "0.0"


def _attribute() -> tuple[tuple[int, ...], str]:
    try:
        surgery.wrap(parallel(built(attention=Apart)), X)
    except surgery.InputError as error:
        return tuple(surgery.inspect(built(attention=Apart), X).full().values()), str(error)
    return (), ""


def test_a_parallel_model_is_wrapped_first(ranks: Ranks) -> None:
    for sizes, error in ranks(_attribute):
        assert sizes and "wrap the plain model first" in error
