"""Training loops of others, as they are: the Trainer of transformers, accelerate, Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.small_models import mlp, watched

X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long() + (X[:, 0] > 1).long()
QUIET = "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"  # of the trainers themselves


def net() -> nn.Sequential:
    return mlp(6, 16, 16, 3)


def by_hand(wrapped: nn.Module, steps: int, rate: float) -> list[Tensor]:
    """Parameters after plain SGD with `train_step`, on batches of 12 in order."""
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=rate)
    for i in range(steps):
        rows = slice(12 * (i % 4), 12 * (i % 4) + 12)
        optimizer.zero_grad()
        surgery.train_step(wrapped, X[rows], lambda output, rows=rows: F.cross_entropy(output, Y[rows]))
        optimizer.step()
    return [p.detach().clone() for p in wrapped.parameters()]


# --- transformers ---


@pytest.mark.filterwarnings(*QUIET)
def test_the_trainer_of_transformers_runs_a_sandwich(tmp_path: Path) -> None:
    """Gradients are accumulated over as many micro-batches as the sandwich has turns: one step sees all widths."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="transformers' Trainer needs accelerate")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=2
    )
    model = transformers.BertForSequenceClassification(config)
    tokens = torch.randint(0, 20, (36, 5), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": (row[0] > 9).long()} for row in tokens]
    draw = surgery.sandwich([0.25, 0.5])
    wrapped = surgery.wrap(model, {"input_ids": tokens[:2]}, only="*intermediate*", draw=draw)
    seen = watched(wrapped.bert.encoder.layer[0].intermediate.dense)
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=4, gradient_accumulation_steps=3, max_steps=6,
        learning_rate=1e-2, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True, seed=0,
    )  # fmt: skip
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = transformers.Trainer(model=wrapped, args=arguments, train_dataset=rows)
    trainer.train()
    assert seen == [32, 8, 16] * 6 and draw.forwards == 18
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters()), "`model` follows"

    trainer.save_model(str(tmp_path / "saved"))
    loaded = type(model).from_pretrained(tmp_path / "saved")
    wrapped.eval()
    assert surgery.verify(wrapped, loaded, {"input_ids": tokens}) < 1e-6
    small = surgery.shrink(wrapped, 0.25)
    assert type(small) is type(model) and small.config.intermediate_size == 8


# --- accelerate ---


def test_accelerate_does_the_backward() -> None:
    accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")
    accelerator = accelerate.Accelerator(cpu=True)
    plain = surgery.wrap(net(), X).train()
    wrapped = surgery.wrap(net(), X).train()
    wrapped, optimizer = accelerator.prepare(wrapped, torch.optim.SGD(wrapped.parameters(), lr=0.1))
    for i in range(4):
        rows = slice(12 * i, 12 * i + 12)
        optimizer.zero_grad()
        surgery.train_step(
            wrapped, X[rows], lambda output, rows=rows: F.cross_entropy(output, Y[rows]), backward=accelerator.backward
        )
        optimizer.step()
    for a, b in zip(wrapped.parameters(), by_hand(plain, 4, 0.1), strict=True):
        assert torch.equal(a, b)


# --- Lightning ---


def _lightning() -> Any:
    return pytest.importorskip("lightning.pytorch", reason="lightning is not installed")


def _fit(module: Any, tmp_path: Path, **options: Any) -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=12)
    trainer = _lightning().Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, **options,
    )  # fmt: skip
    trainer.fit(module, loader)


@pytest.mark.filterwarnings(*QUIET)
def test_lightning_with_manual_optimization(tmp_path: Path) -> None:
    class Classifier(_lightning().LightningModule):
        def __init__(self, wrapped: nn.Module):
            super().__init__()
            self.wrapped, self.automatic_optimization = wrapped, False

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.wrapped.parameters(), lr=0.1)

        def training_step(self, batch: Any, index: int) -> None:
            x, y = batch
            self.optimizers().zero_grad()
            loss = surgery.train_step(
                self.wrapped, x, lambda output: F.cross_entropy(output, y), backward=self.manual_backward
            )
            self.log("loss", loss)
            self.optimizers().step()

    module = Classifier(surgery.wrap(net(), X))
    _fit(module, tmp_path)
    for a, b in zip(module.wrapped.parameters(), by_hand(surgery.wrap(net(), X).train(), 8, 0.1), strict=True):
        assert torch.equal(a, b)


@pytest.mark.filterwarnings(*QUIET)
def test_lightning_as_it_is_draws_widths(tmp_path: Path) -> None:
    class Classifier(_lightning().LightningModule):
        def __init__(self, wrapped: nn.Module):
            super().__init__()
            self.wrapped = wrapped

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.wrapped.parameters(), lr=0.1)

        def training_step(self, batch: Any, index: int) -> Tensor:
            x, y = batch
            return F.cross_entropy(self.wrapped(x), y)

    module = Classifier(surgery.wrap(net(), X, draw=surgery.warmup(surgery.sandwich([0.25]), 2)))
    seen = watched(module.wrapped[0])
    _fit(module, tmp_path, accumulate_grad_batches=2)
    assert seen == [16, 16] + [16, 4] * 3
    surgery.shrink(module.wrapped, 0.25)
