"""The callback for transformers' Trainer: a killed run goes on bit for bit; draws and widths are in the logs."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from tests.processes import killed, launched
from tests.small_models import mlp, watched

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")

from surgery.integrations.transformers import SurgeryCallback  # noqa: E402
from tests.integrations.bert import INNER, ROWS, TOKENS, arguments, bert  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # of the Trainer itself
    "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore:'pin_memory' argument is set:UserWarning"
)
SAVED = 4


class Stop(Exception):
    pass


class Stopper(transformers.TrainerCallback):
    """Ends the run, or its process, as soon as a checkpoint is there."""

    def __init__(self, kill: bool):
        self.kill = kill

    def on_save(self, *_: Any, **__: Any) -> None:
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        raise Stop


def trainer_of(folder: Path, widths: Any = (), callback: bool = True, **options: Any) -> Any:
    wrapped = surgery.wrap(bert(), {"input_ids": TOKENS[:2]}, draw=surgery.warmup(surgery.mixed(), 1))
    trainer = transformers.Trainer(
        model=wrapped, args=arguments(folder, **options), train_dataset=ROWS, eval_dataset=ROWS[:6]
    )
    if callback:
        trainer.add_callback(SurgeryCallback(trainer, widths))
    return trainer


def run(folder: Path, *callbacks: Any, resume: bool = False, **options: Any) -> dict[str, Tensor]:
    trainer = trainer_of(folder, save_strategy="steps", save_steps=SAVED, bf16=True, **options)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=resume)
    weights: dict[str, Tensor] = trainer.model.state_dict()
    return weights


@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["stopped", "killed"])
def test_a_run_that_ends_after_a_checkpoint_goes_on_bit_for_bit(kill: bool, tmp_path: Path) -> None:
    if kill:
        killed(
            "from tests.integrations.test_transformers import *\n"
            f"run(Path({str(tmp_path / 'first')!r}), Stopper(True), gradient_accumulation_steps=2)"
        )
    else:
        with pytest.raises(Stop):
            run(tmp_path / "first", Stopper(False), gradient_accumulation_steps=2)
    whole = run(tmp_path / "whole", gradient_accumulation_steps=2)
    rest = run(tmp_path / "first", resume=True, gradient_accumulation_steps=2)
    assert all(torch.equal(rest[name], tensor) for name, tensor in whole.items())


def one_rank(folder: Path) -> None:
    """A whole run, one that is stopped, and the rest of it, as one of two ranks."""
    options = {"eval_strategy": "steps", "eval_steps": 2, "widths": (0.5,)}
    whole = run(folder / "whole", **options)
    with pytest.raises(Stop):
        run(folder / "first", Stopper(False), **options)
    rest = run(folder / "first", resume=True, **options)
    assert torch.distributed.get_world_size() == 2
    assert all(torch.equal(rest[name], tensor) for name, tensor in whole.items())


@pytest.mark.slow
def test_two_ranks_go_on_bit_for_bit(tmp_path: Path) -> None:
    launched(f"from tests.integrations.test_transformers import *; one_rank(Path({str(tmp_path)!r}))")


def test_without_the_callback_it_would_not_and_the_callback_says_so(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "bare", callback=False)
    checkpoint = str(tmp_path / "bare" / f"checkpoint-{SAVED}")
    trainer = trainer_of(tmp_path / "bare", save_strategy="steps", save_steps=SAVED, bf16=True)
    with pytest.warns(UserWarning, match="written without a SurgeryCallback"):
        trainer.train(resume_from_checkpoint=checkpoint)
    assert any(not torch.equal(trainer.model.state_dict()[name], tensor) for name, tensor in whole.items())


def test_logs_have_draws_and_metrics_at_further_widths(tmp_path: Path) -> None:
    trainer = trainer_of(
        tmp_path, (0.5, 0.25), eval_strategy="steps", eval_steps=3, logging_steps=2,
        metric_for_best_model="eval_width_0.25_loss", load_best_model_at_end=True, save_strategy="steps", save_steps=3,
    )  # fmt: skip
    seen = watched(trainer.model.get_submodule(INNER))
    trainer.train()
    history = trainer.state.log_history
    shares = [row["surgery/width"] for row in history if "surgery/width" in row]
    assert [row["step"] for row in history if "surgery/width" in row] == [2, 4, 6]
    assert len(seen) == 6 and all(0 < share <= 1 for share in shares) and len(set(shares)) > 1
    for prefix in ("eval", "eval_width_0.5", "eval_width_0.25"):
        assert [row["step"] for row in history if f"{prefix}_loss" in row] == [3, 6]
    assert trainer.state.best_metric == min(
        row["eval_width_0.25_loss"] for row in history if "eval_width_0.25_loss" in row
    )
    found = trainer.evaluate()
    twin, inputs = trainer.model.eval(), {key: torch.stack([row[key] for row in ROWS[:6]]) for key in ROWS[0]}
    for key, width in {"eval_loss": 1.0, "eval_width_0.25_loss": 0.25}.items():
        with surgery.at_widths(twin, width), torch.no_grad():
            assert found[key] == pytest.approx(float(twin(**inputs).loss), abs=1e-6)
    assert surgery.widths(twin) == surgery.inspect(twin).widths(1.0)


def test_scores_of_your_own_are_logged_too(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, (0.5,), eval_strategy="steps", eval_steps=3, logging_steps=3)

    class Scores(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            surgery.progress(trainer.model, lambda model: 0.5, widths=(0.25,))

    trainer.add_callback(Scores())
    trainer.train()
    found = [name for row in trainer.state.log_history for name in row if "score" in name]
    assert found == ["surgery/score 0.25"] * 2


def test_each_of_several_evaluation_sets_and_named_widths(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path, {"small": {"ffn": 0.25}})
    found = trainer.evaluate({"a": ROWS[:4], "b": ROWS[4:12]})
    assert {f"eval_{name}_loss" for name in ("a", "b", "a_width_small", "b_width_small")} <= found.keys()
    other = trainer.evaluate(ROWS[4:12], metric_key_prefix="test")
    assert other["test_width_small_loss"] == found["eval_b_width_small_loss"] != found["eval_a_width_small_loss"]


def test_further_widths_change_nothing_in_the_training(tmp_path: Path) -> None:
    weights = []
    for widths in ((), (0.5,)):
        trainer = trainer_of(tmp_path, widths, eval_strategy="steps", eval_steps=2)
        trainer.train()
        weights.append(list(trainer.model.parameters()))
    assert all(map(torch.equal, *weights))


def test_the_state_is_in_the_last_file_of_a_checkpoint(tmp_path: Path) -> None:
    run(tmp_path)
    saved = json.loads((tmp_path / f"checkpoint-{SAVED}" / "trainer_state.json").read_text())
    again = surgery.wrap(bert(), {"input_ids": TOKENS[:2]}, draw=(draw := surgery.warmup(surgery.mixed(), 1)))
    surgery.TrainingState(again).load_state_dict(saved["stateful_callbacks"]["SurgeryCallback"]["attributes"])
    assert draw.forwards == SAVED


def test_what_it_refuses(tmp_path: Path) -> None:
    trainer = trainer_of(tmp_path)
    with pytest.raises(surgery.InputError, match="has a SurgeryCallback already"):
        SurgeryCallback(trainer)
    plain = transformers.Trainer(model=bert(), args=arguments(tmp_path))
    with pytest.raises(surgery.InputError, match="is not wrapped"):
        SurgeryCallback(plain)
    with pytest.raises(surgery.InputError, match=r"widths are fractions such as \(0.5, 0.25\)"):
        SurgeryCallback(transformers.Trainer(model=trainer.model, args=arguments(tmp_path)), 0.5)
    two = nn.ModuleList([surgery.wrap(mlp(3, 4, 2), torch.randn(2, 3)) for _ in range(2)])
    with pytest.raises(surgery.InputError, match=r"holds 2 wrapped models \(Sequential, Sequential\)"):
        SurgeryCallback(transformers.Trainer(model=two, args=arguments(tmp_path)))


def test_callbacks_that_the_trainer_makes_anew_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    trainer = trainer_of(tmp_path, restore_callback_states_from_checkpoint=True)
    with pytest.raises(surgery.InputError, match="restore_callback_states_from_checkpoint"):
        trainer.train(resume_from_checkpoint=True)
