"""What two ranks of torch.distributed do in `test_ranks.py`: every case in one process group."""

from __future__ import annotations

import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

import surgery
from surgery.errors import InputError
from surgery.measuring import ranks
from tests.measuring.scoring import INPUTS, LABELS, loss, wrapped

QUIET = {"progress": False, "measure_latency": False}
WIDTHS = (1.0, 0.75, 0.5, 0.25)


class Counted:
    """A validate that counts its calls."""

    def __init__(self, validate=loss, seconds: float = 0.0):
        self.validate, self.seconds, self.calls = validate, seconds, 0

    def __call__(self, model: nn.Module) -> Any:
        self.calls += 1
        time.sleep(self.seconds)
        return self.validate(model)


def failing(model: nn.Module) -> float:
    """Rank 1 fails at half of the width."""
    if dist.get_rank() == 1 and surgery.widths(model)["0.o"] == 8:
        raise ValueError("boom")
    return loss(model)


def never_on_rank_1(model: nn.Module) -> float:
    if dist.get_rank() == 1:
        raise ValueError("boom")
    return loss(model)


def own_half(model: nn.Module) -> float:
    """The data of this rank alone."""
    mine = slice(dist.get_rank(), None, 2)
    return -nn.functional.cross_entropy(model(INPUTS[mine]), LABELS[mine]).item()


def reduced(model: nn.Module) -> float:
    """The data of this rank, and the mean over ranks."""
    found = torch.tensor(own_half(model), dtype=torch.float64)
    dist.all_reduce(found)
    return found.item() / dist.get_world_size()


def sweep(validate, **options):
    counted = validate if isinstance(validate, Counted) else Counted(validate)
    curve = surgery.sweep(wrapped(), counted, WIDTHS, **{**QUIET, **options})
    return curve.points, counted.calls


def together(rank: int, folder: Path):
    return sweep(loss)


def timed(rank: int, folder: Path):
    return sweep(loss, measure_latency=True)


def split(rank: int, folder: Path):
    return sweep(Counted(seconds=0.1), executor=surgery.ranks())


def refitted(rank: int, folder: Path):
    return sweep(Counted(seconds=0.1), executor=surgery.ranks(), refit=[INPUTS])


def collectives(rank: int, folder: Path):
    return sweep(reduced)


def halves(rank: int, folder: Path):
    return sweep(own_half)


def resumed(rank: int, folder: Path):
    path = folder / f"file of rank {rank}" / "curve.json"
    first = surgery.sweep(wrapped(), loss, WIDTHS[:2], resume=path, **QUIET)
    return len(first), sweep(loss, resume=path), sweep(loss, resume=path), path.exists()


def resumed_split(rank: int, folder: Path):
    path = folder / f"file of rank {rank}" / "split.json"
    sweep(Counted(seconds=0.1), resume=path, executor=surgery.ranks())
    return len(surgery.Curve.from_json(path)) if path.exists() else 0


def damaged(rank: int, folder: Path):
    path = folder / f"damaged of rank {rank}"
    path.write_text("{}")
    return sweep(loss, resume=path)


def fails(rank: int, folder: Path):
    return sweep(failing)


def fails_split(rank: int, folder: Path):
    return sweep(Counted(never_on_rank_1, seconds=0.1), executor=surgery.ranks())


def pool_of_rank_0(rank: int, folder: Path):
    with ThreadPoolExecutor(2) as pool:
        return sweep(loss, executor=None if rank else pool)


def alone(rank: int, folder: Path):
    return sweep(loss, executor=surgery.ranks("alone")) if rank == 0 else None


def missing(rank: int, folder: Path):
    """Rank 1 comes too late, and is told so."""
    if rank:
        time.sleep(1)
        return sweep(loss)
    before, ranks.TOLD, ranks.PATIENCE = (ranks.TOLD, ranks.PATIENCE), 0.1, 0.5
    try:
        return sweep(loss)
    finally:
        ranks.TOLD, ranks.PATIENCE = before


def different(rank: int, folder: Path):
    return surgery.sensitivity(wrapped(), loss, **QUIET) if rank else sweep(loss)


def other_widths(rank: int, folder: Path):
    return surgery.sweep(wrapped(), loss, WIDTHS[: 2 + rank], **QUIET)


def other_widths_split(rank: int, folder: Path):
    return surgery.sweep(wrapped(), loss, WIDTHS[: 2 + rank], executor=surgery.ranks(), **QUIET)


def other_keywords(rank: int, folder: Path):
    return sweep(loss, multiple=1 + rank)


def other_weights(rank: int, folder: Path):
    twin = wrapped()
    with torch.no_grad():
        twin[0].weight.add_(rank)
    return surgery.sweep(twin, loss, WIDTHS, executor=surgery.ranks(), **QUIET)


def searched(rank: int, folder: Path):
    curve = surgery.search(wrapped(), loss, (0.5, {"max_latency": 1.0}), evaluations=20, progress=False)
    return curve.points, curve.uniform, curve.base


def searched_split(rank: int, folder: Path):
    return surgery.search(wrapped(), loss, (0.5, 0.3), evaluations=20, executor=surgery.ranks(), **QUIET).points


def sensitive(rank: int, folder: Path):
    return surgery.sensitivity(wrapped(), loss, **QUIET).curve.points


def adaptive(rank: int, folder: Path):
    return surgery.sweep(wrapped(), loss, surgery.adaptive(0.01, most=12), executor=surgery.ranks(), **QUIET).points


def sharded(rank: int, folder: Path):
    twin = fully_shard(wrapped(), mesh=init_device_mesh("cpu", (2,)))
    path = folder / "sharded.json" if rank == 0 else None
    curve = surgery.sweep(twin, loss, WIDTHS, resume=path, progress=False)
    try:
        surgery.sweep(twin, loss, WIDTHS, executor=surgery.ranks(), **QUIET)
    except InputError as error:
        return curve.points, str(error)


CASES = (
    together, timed, split, refitted, collectives, halves, resumed, resumed_split, damaged, fails, fails_split,
    pool_of_rank_0, alone, missing, different, other_widths, other_widths_split, other_keywords, other_weights,
    searched, searched_split, sensitive, adaptive, sharded,
)  # fmt: skip


def run(folder: Path) -> dict[str, Any]:
    """All cases, one after another: an error of one must leave the ranks able to work on the next."""
    rank, found = dist.get_rank(), {}
    for case in CASES:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                result = case(rank, folder)
            except Exception as error:
                result = (type(error).__name__, str(error), len(getattr(error, "curve", ())))
        messages = [str(one.message) for one in told if "rank" in str(one.message)]
        found[case.__name__] = (result, messages)
        dist.barrier()
    return found
