"""What ranks do in tests of twins that leave modules out."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import surgery
from tests.models.deep import Deep

STEPS = 6
ROWS = torch.randn(8, 5, generator=torch.Generator().manual_seed(1)).double()
TARGETS = torch.randn(8, 3, generator=torch.Generator().manual_seed(2)).double()
ORDER = [2, 0, 3, 1]


def twin_of() -> Any:
    torch.manual_seed(0)
    draw = surgery.mixed(surgery.grid([0.25, 0.5, 1.0]), independent=1.0)
    return surgery.wrap(Deep().double(), ROWS, depth={"layers.depth": ORDER}, draw=draw).train()


def loss(out: Tensor, rows: slice) -> Tensor:
    return F.mse_loss(out, TARGETS[rows])


def plainly(model: nn.Module, twin: nn.Module, rows: slice, step: int) -> None:
    """One forward, at what it draws."""
    loss(model(ROWS[rows]), rows).backward()


def accumulated(model: nn.Module, twin: nn.Module, rows: slice, step: int) -> None:
    """Several forwards, each with a backward pass of its own, of which the last one is averaged."""
    for number, width in enumerate(({"depth": 1}, {"depth": 2}, {"depth": 1})):
        last = number == 2 or not isinstance(model, DistributedDataParallel)
        with contextlib.nullcontext() if last else model.no_sync(), surgery.at_widths(twin, width):
            loss(model(ROWS[rows]), rows).backward()


def drawn_in_turns(model: nn.Module, twin: nn.Module, rows: slice, step: int) -> None:
    """One depth in each step: what no step runs has no gradient in it, and does not move."""
    with surgery.at_widths(twin, {"depth": 1 + step % 3}):
        loss(model(ROWS[rows]), rows).backward()


def at_many(model: nn.Module, twin: nn.Module, rows: slice, step: int) -> None:
    """`train_step`: the full width, and what is drawn."""
    surgery.train_step(model, ROWS[rows], lambda out: loss(out, rows))


WAYS = {way.__name__: way for way in (plainly, accumulated, drawn_in_turns, at_many)}


def trained(way: str, rank: int | None = None, **options: Any) -> dict[str, Tensor]:
    """The weights after some steps, of one process, or of a rank that has half of the rows."""
    twin = twin_of()
    model: nn.Module = twin
    rows = slice(0, 8) if rank is None else slice(4 * rank, 4 * rank + 4)
    if rank is not None:
        model = DistributedDataParallel(twin, **options)
    optimizer = torch.optim.AdamW(twin.parameters(), 0.02, weight_decay=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        WAYS[way](model, twin, rows, step)
        optimizer.step()
    return {name: value.detach() for name, value in twin.named_parameters()}


def on_a_rank(way: str, options: dict[str, Any]) -> dict[str, Tensor]:
    return trained(way, torch.distributed.get_rank(), **options)


def without_an_engine(way: str) -> dict[str, Tensor]:
    return trained(way)


def two_at_once() -> list[dict[str, Tensor | None]]:
    """The gradients of one backward pass through two forwards, of which one leaves out what the other has."""
    model = twin_of()
    rank, found = torch.distributed.get_rank(), []
    rows = slice(4 * rank, 4 * rank + 4)
    for ranked in (False, True):
        twin = twin_of()
        model = DistributedDataParallel(twin) if ranked else twin
        outs = []
        for number, depth in enumerate((1, 3)):
            last = number == 1 or not ranked
            with contextlib.nullcontext() if last else model.no_sync(), surgery.at_widths(twin, {"depth": depth}):
                outs.append(loss(model(ROWS[rows]), rows))
        (outs[0] + outs[1]).backward()
        found.append({name: None if p.grad is None else p.grad.clone() for name, p in twin.named_parameters()})
    return found


# ---- sharded parameters


def sharded(widths: list[dict[str, int]]) -> list[dict[str, Tensor]]:
    """Gradients at some widths, of FSDP2 around each layer and the whole; and how often layers were gathered."""
    from torch.distributed.fsdp import fully_shard

    torch.distributed.init_device_mesh("cpu", (2,))
    rank = torch.distributed.get_rank()
    rows, twin, found = slice(4 * rank, 4 * rank + 4), twin_of(), []
    gathered: list[int] = []
    for number, layer in enumerate(twin.layers):
        fully_shard(layer)
        layer.register_forward_pre_hook(lambda *_, number=number: gathered.append(number))
    fully_shard(twin)
    for width in widths:
        twin.zero_grad()
        gathered.clear()
        with surgery.at_widths(twin, width):
            loss(twin(ROWS[rows]), rows).backward()
        slopes = {n: p.grad.full_tensor() for n, p in twin.named_parameters() if p.grad is not None}
        found.append({**slopes, "ran": torch.tensor(gathered)})
    return found
