"""What draws remember, in checkpoints of torch.distributed and of accelerate: bit for bit, on one rank and on two."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.nn.parallel import DistributedDataParallel

import surgery
from surgery import InputError
from tests.processes import killed, ranks
from tests.small_models import Net, X, seen_widths
from tests.training.test_resuming import DRAWS

pytestmark = pytest.mark.filterwarnings(  # torch's own, on saving without a process group
    "ignore:torch.distributed is disabled:UserWarning"
)
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


ALL = DRAWS | {"kept": Kept}


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


# --- torch.distributed.checkpoint ---


def test_a_killed_process_goes_on_from_a_distributed_checkpoint(tmp_path: Path) -> None:
    killed(
        f"from tests.training.test_stateful import *\ntrain(Kept(), range(STEPS), Path({str(tmp_path)!r}), save=True)"
    )
    with torch.random.fork_rng(devices=[]):
        whole = train(Kept(), range(STEPS), tmp_path)
        rest = train(Kept(), range(SAVED, STEPS), tmp_path, load=True)
        other = train(Kept(), range(SAVED), tmp_path)
    assert all(torch.equal(rest[name], tensor) for name, tensor in whole.items())
    assert not torch.equal(other["0.weight"], whole["0.weight"])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("far", [False, True], ids=["fresh", "far"])
def test_a_checkpoint_is_read_into_what_is_there(name: str, far: bool, tmp_path: Path) -> None:
    first, again = (surgery.wrap(Net(), X, draw=ALL[name]()) for _ in range(2))
    seen_widths(first, 4)
    dcp.save({"draws": surgery.TrainingState(first), "model": first.state_dict()}, checkpoint_id=tmp_path)
    if far:
        seen_widths(again, 9)
    dcp.load({"draws": surgery.TrainingState(again), "model": again.state_dict()}, checkpoint_id=tmp_path)
    assert seen_widths(again, 7) == seen_widths(first, 7)


def test_an_empty_draw_and_set_widths_come_along(tmp_path: Path) -> None:
    first, again = (surgery.wrap(Net(), X, draw=Kept()) for _ in range(2))
    surgery.set_widths(first, 0.5)
    dcp.save({"draws": surgery.TrainingState(first)}, checkpoint_id=tmp_path)
    seen_widths(again, 3)
    dcp.load({"draws": surgery.TrainingState(again)}, checkpoint_id=tmp_path)
    assert surgery.widths(again) == surgery.widths(first) and seen_widths(again, 5) == seen_widths(first, 5)


def test_what_it_gives_may_stand_in_a_state_of_your_own(tmp_path: Path) -> None:
    first, again = (surgery.wrap(Net(), X, draw=Kept()) for _ in range(2))
    seen_widths(first, 4)
    dcp.save({"app": {"draws": surgery.TrainingState(first).state_dict()}}, checkpoint_id=tmp_path)
    state = {"app": {"draws": surgery.TrainingState(again).state_dict()}}
    dcp.load(state, checkpoint_id=tmp_path)
    surgery.TrainingState(again).load_state_dict(state["app"]["draws"])
    assert seen_widths(again, 5) == seen_widths(first, 5)


def one_rank(folder: Path) -> None:
    """One of two ranks: the whole training, half of it, and the rest in a new twin."""
    index = int(os.environ["RANK"])
    dist.init_process_group("gloo", store=dist.FileStore(str(folder / "store"), 2), rank=index, world_size=2)
    whole = train(Kept(), range(STEPS), folder / "saved")
    stopped = train(Kept(), range(SAVED), folder / "saved", save=True)
    rest = train(Kept(), range(SAVED, STEPS), folder / "saved", load=True)
    torch.save([whole, stopped, rest], folder / f"{index}.pt")
    dist.destroy_process_group()


def test_two_ranks_go_on_and_stay_alike(tmp_path: Path) -> None:
    ranks(f"from tests.training.test_stateful import *; one_rank(Path({str(tmp_path)!r}))")
    (whole, stopped, rest), (other, _, _) = (torch.load(tmp_path / f"{index}.pt") for index in range(2))
    learnt = [name for name in whole if not name.startswith("1.")]  # statistics of BatchNorm are those of each rank
    for name in learnt:
        assert torch.equal(whole[name], rest[name]) and torch.equal(whole[name], other[name]), name
    assert not torch.equal(stopped["0.weight"], rest["0.weight"])


# --- other checkpoints, and refusals ---


def test_accelerate_keeps_it_among_its_own(tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    first, again = (surgery.wrap(Net(), X, draw=Kept()) for _ in range(2))
    seen_widths(first, 4)
    for wrapped, act in ((first, "save_state"), (again, "load_state")):
        accelerator = accelerate.Accelerator(cpu=True)
        accelerator.register_for_checkpointing(surgery.TrainingState(accelerator.prepare(wrapped)))
        getattr(accelerator, act)(str(tmp_path))
    assert seen_widths(again, 5) == seen_widths(first, 5)


@pytest.mark.parametrize("use", [copy.deepcopy, pickle.dumps, lambda state: torch.save({"draws": state}, os.devnull)])
def test_it_is_no_part_of_a_pickle(use: Any) -> None:
    with pytest.raises(InputError, match="at the top of what is saved"):
        use(surgery.TrainingState(surgery.wrap(Net(), X)))


def test_inside_of_a_dict_a_checkpoint_refuses_it(tmp_path: Path) -> None:
    state = {"app": {"draws": surgery.TrainingState(surgery.wrap(Net(), X))}}
    with pytest.raises(CheckpointException, match="at the top of what is saved"):
        dcp.save(state, checkpoint_id=tmp_path)


@pytest.mark.parametrize(
    "wrong", [{}, {"surgery.training/1": "x"}, {"surgery.training/1": 3}, None, Net().state_dict()]
)
def test_what_is_no_state_changes_nothing(wrong: Any) -> None:
    wrapped = surgery.wrap(Net(), X, draw=Kept())
    before = surgery.TrainingState(wrapped).state_dict()
    with pytest.raises(InputError, match="no state of a training"):
        surgery.TrainingState(wrapped).load_state_dict(wrong)
    assert surgery.TrainingState(wrapped).state_dict() == before


def test_only_wrapped_models_have_one() -> None:
    with pytest.raises(InputError, match="Net is not wrapped"):
        surgery.TrainingState(Net())
