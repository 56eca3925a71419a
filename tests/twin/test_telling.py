"""A function of the user's is told the widths, the losses, and the scores of fixed widths."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import surgery
from tests.small_models import mlp

X, Y = torch.randn(6, 8), torch.randint(3, (6,))


def test_training_and_progress_are_told_by_number() -> None:
    told: list[tuple[dict[str, float], int]] = []
    wrapped = surgery.wrap(mlp(8, 16, 16, 3), X, draw=surgery.grid([0.5])).train()
    wrapped(X)
    surgery.log_to(wrapped, lambda values, step: told.append((values, step)), step=3)
    wrapped(X)
    loss = surgery.train_step(wrapped, X, lambda out: F.cross_entropy(out, Y), narrow=[0.25, 0.5])
    found = surgery.progress(wrapped, lambda model: 0.5, (1.0, {"*": 4}))
    wrapped.eval()(X)
    wrapped.train()(X)
    assert [step for _, step in told] == [3, 4, 5, 5]
    assert told[0][0] == {"surgery/width": 0.5} == told[3][0]
    assert told[1][0].keys() == {f"surgery/{name}" for name in ("width 1", "width 2", "narrow loss", "loss")}
    assert told[1][0]["surgery/width 1"] == 0.25 and told[1][0]["surgery/loss"] == pytest.approx(loss.item())
    assert told[2][0] == {"surgery/score 1.0": 0.5, "surgery/score 2": 0.5} and found.scores == (0.5, 0.5)
    surgery.log_to(wrapped, None)
    wrapped(X)
    assert len(told) == 4


def test_copies_and_pickles_tell_nobody() -> None:
    told: list[Any] = []
    wrapped = surgery.wrap(mlp(8, 16, 3), X).train()
    surgery.log_to(wrapped, lambda values, step: told.append(step))
    for other in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):
        other(X)
    assert not told


@pytest.mark.parametrize("log, step", [("wandb", 0), (print, -1), (print, 0.5)])
def test_what_is_no_function_or_step_is_an_error(log: Any, step: Any) -> None:
    wrapped = surgery.wrap(mlp(8, 16, 3), X)
    with pytest.raises(surgery.InputError, match=r"log_to|step"):
        surgery.log_to(wrapped, log, step=step)
    with pytest.raises(surgery.InputError, match="not wrapped"):
        surgery.log_to(mlp(8, 16, 3), print)
