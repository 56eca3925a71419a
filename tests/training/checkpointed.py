"""A training that torch.distributed.checkpoint saves, and a draw that keeps much, on one rank or on several."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel

import surgery
from tests.small_models import X

STEPS, SAVED = 6, 3


class Kept:
    """A draw that keeps lists which grow, containers that are empty at first, and bytes."""

    def __init__(self) -> None:
        self.drawn: list[float] = []
        self.by_step: dict[str, list[Any]] = {}
        self.tensors: list[Tensor] = []
        self.text, self.none = b"", None

    def __call__(self, plan: Any, generator: torch.Generator) -> dict[str, float]:
        share = float(torch.rand((), generator=generator)) * 0.9 + 0.01 * len(self.drawn) + 0.01
        self.drawn.append(share)
        self.by_step.setdefault(f"step {len(self.drawn) // 2}", []).append([])
        self.tensors.append(torch.full((len(self.drawn),), share))
        self.text += b"x"
        return dict.fromkeys(plan.groups, share * (1 - 0.001 * len(self.by_step)))


def twin(draw: Any) -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
    wrapped = surgery.wrap(model, X, draw=draw).train()
    return wrapped, torch.optim.Adam(wrapped.parameters(), lr=1e-2)


class Random:
    """Torch's own random numbers, which a training keeps by itself, and each rank its own."""

    def __init__(self) -> None:
        self.name = f"random {dist.get_rank() if dist.is_initialized() else 0}"

    def state_dict(self) -> dict[str, Tensor]:
        return {self.name: torch.get_rng_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        torch.set_rng_state(state[self.name])


class Both:
    """Model and optimizer, as the guides of torch have it."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer):
        self.parts = model, optimizer

    def state_dict(self) -> dict[str, Any]:
        model, optimizer = get_state_dict(*self.parts)
        return {"model": model, "optimizer": optimizer}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        set_state_dict(*self.parts, model_state_dict=state["model"], optim_state_dict=state["optimizer"])


def train(draw: Any, steps: Iterable[int], path: Path, save: bool = False, load: bool = False) -> Any:
    """Steps of an unchanged loop, the checkpoint after the third of them; it is killed at the fifth. Or the rest."""
    wrapped, optimizer = twin(draw)
    model = DistributedDataParallel(wrapped) if dist.is_initialized() else wrapped
    rows = slice(dist.get_rank(), None, 2) if dist.is_initialized() else slice(None)
    app = {"app": Both(model, optimizer), "draws": surgery.TrainingState(model), "random": Random()}
    if load:
        dcp.load(app, checkpoint_id=path)
    for step in steps:
        optimizer.zero_grad()
        F.cross_entropy(model(X[rows]), torch.arange(len(X))[rows] % 3).backward()
        optimizer.step()
        if save and step + 1 == SAVED:
            dcp.save(app, checkpoint_id=path)
        if save and step + 1 == 5:
            os.kill(os.getpid(), signal.SIGKILL)
    return {name: tensor.clone() for name, tensor in wrapped.state_dict().items()}


def stopped_and_resumed(folder: Path) -> tuple[list[list[float]], list[str], bool]:
    """What a training has learnt; what of it differs in one that stopped and went on; whether the half differs."""
    whole = train(Kept(), range(STEPS), folder)
    half = train(Kept(), range(SAVED), folder, save=True)
    rest = train(Kept(), range(SAVED, STEPS), folder, load=True)
    learnt = [name for name in whole if not name.startswith("1.")]
    differ = [name for name in learnt if not torch.equal(whole[name], rest[name])]
    return (
        [whole[name].flatten().tolist() for name in learnt],
        differ,
        not torch.equal(half["0.weight"], rest["0.weight"]),
    )
