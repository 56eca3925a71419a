"""What draws remember, in checkpoints of torch.distributed and of accelerate: bit for bit, on one rank and on two."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

import surgery
from surgery import InputError
from tests.processes import killed
from tests.ranks import Ranks
from tests.small_models import Net, X, seen_widths
from tests.training.checkpointed import SAVED, STEPS, Kept, stopped_and_resumed, train
from tests.training.test_resuming import DRAWS

pytestmark = pytest.mark.filterwarnings(  # torch's own, on saving without a process group
    "ignore:torch.distributed is disabled:UserWarning"
)
ALL = DRAWS | {"kept": Kept}

# --- torch.distributed.checkpoint ---


def test_a_killed_process_goes_on_from_a_distributed_checkpoint(tmp_path: Path) -> None:
    killed(
        f"from tests.training.checkpointed import *\ntrain(Kept(), range(STEPS), Path({str(tmp_path)!r}), save=True)"
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


def test_two_ranks_go_on_and_stay_alike(ranks: Ranks, tmp_path: Path) -> None:
    """The statistics of BatchNorm are those of each rank."""
    (first, differ, stopped), (other, also, _) = ranks(stopped_and_resumed, tmp_path)
    assert first == other and not differ and not also and stopped


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
