"""The callback for Lightning: a killed run goes on bit for bit; draws and scores are in the logs."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.processes import killed
from tests.small_models import mlp

lightning = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")

from surgery.integrations.lightning import SurgeryCallback  # noqa: E402

pytestmark = pytest.mark.filterwarnings(  # of Lightning itself: workers of loaders, loggers, folders that exist
    "ignore::UserWarning:lightning",
    "ignore:The dirpath has changed:UserWarning",
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
)
X = torch.randn(48, 6, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long() + (X[:, 0] > 1).long()


class Classifier(lightning.LightningModule):
    """By hand, with `train_step`, or as any other model."""

    def __init__(self, wrapped: nn.Module, by_hand: bool = False):
        super().__init__()
        self.wrapped, self.automatic_optimization = wrapped, not by_hand

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.wrapped.parameters(), lr=0.01)

    def training_step(self, batch: Any, index: int) -> Tensor | None:
        x, y = batch
        if self.automatic_optimization:
            return F.cross_entropy(self.wrapped(x), y)
        self.optimizers().zero_grad()
        surgery.train_step(self.wrapped, x, lambda output: F.cross_entropy(output, y), backward=self.manual_backward)
        self.optimizers().step()
        return None

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", F.cross_entropy(self.wrapped(batch[0]), batch[1]))


class Logger(lightning.loggers.logger.Logger):
    """Keeps what it is given."""

    name, version = "kept", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append(dict(metrics))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        pass

    def of(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]


class Stop(Exception):
    pass


class Stopper(lightning.Callback):
    """Ends the run, or its process, in the third epoch: after a checkpoint."""

    def __init__(self, kill: bool):
        self.kill = kill

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch == 2:
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            raise Stop


def module_of(by_hand: bool = False, norm: bool = False) -> Any:
    draw = None if by_hand else surgery.warmup(surgery.mixed(), 2)
    batches = list(X.split(12)) if norm else None
    return Classifier(surgery.wrap(mlp(6, 16, 16, 3, norm=norm), X, draw=draw, calibration=batches), by_hand)


def fit(module: Any, folder: Path, *callbacks: Any, checkpoint: Path | None = None, **options: Any) -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=12)
    keep = lightning.callbacks.ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    common: dict[str, Any] = {
        "accelerator": "cpu", "max_epochs": 4, "logger": False, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": folder,
    }  # fmt: skip
    trainer = lightning.Trainer(callbacks=[keep, *callbacks], **common | options)
    trainer.fit(module, loader, loader, ckpt_path=checkpoint)


def score(model: nn.Module) -> Tensor:
    return model(X).argmax(1) == Y


def whole(by_hand: bool, folder: Path, *callbacks: Any, checkpoint: Path | None = None) -> dict[str, Tensor]:
    module = module_of(by_hand)
    fit(module, folder, SurgeryCallback(score), *callbacks, checkpoint=checkpoint, precision="bf16-mixed")
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("kill", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["stopped", "killed"])
def test_a_run_that_ends_after_a_checkpoint_goes_on_bit_for_bit(by_hand: bool, kill: bool, tmp_path: Path) -> None:
    first = tmp_path / "first"
    if kill:
        killed(
            f"from tests.integrations.test_lightning import *\nwhole({by_hand}, Path({str(first)!r}), Stopper(True))"
        )
    else:
        with pytest.raises(Stop):
            whole(by_hand, first, Stopper(False))
    expected = whole(by_hand, tmp_path / "whole")
    rest = whole(by_hand, tmp_path / "rest", checkpoint=first / "epoch=1.ckpt")
    assert all(torch.equal(rest[name], tensor) for name, tensor in expected.items())


def test_a_checkpoint_without_draws_says_so(tmp_path: Path) -> None:
    module = module_of()
    fit(module, tmp_path)
    with pytest.warns(UserWarning, match="written without a SurgeryCallback"):
        fit(module_of(), tmp_path / "again", SurgeryCallback(), checkpoint=tmp_path / "epoch=1.ckpt")


@pytest.mark.parametrize("by_hand", [False, True])
def test_logs_have_draws_and_scores_at_fixed_widths(by_hand: bool, tmp_path: Path) -> None:
    module, logger = module_of(by_hand, norm=True), Logger()
    widths = {"all": 1.0, "small": {"0.o": 4}}
    best = lightning.callbacks.ModelCheckpoint(tmp_path / "best", monitor="val_width_small", mode="max")
    fit(module, tmp_path, SurgeryCallback(score, widths), best, logger=logger, log_every_n_steps=1)
    shares = logger.of("surgery/width 1" if by_hand else "surgery/width")
    assert len(shares) == 16 and all(0 < share <= 1 for share in shares) and len(set(shares)) > 1
    assert len(logger.of("surgery/loss")) == (16 if by_hand else 0)
    assert not [name for row in logger.rows for name in row if "score" in name]
    expected = surgery.progress(module.wrapped, score, list(widths.values()))
    assert [logger.of(f"val_width_{name}")[-1] for name in widths] == pytest.approx(expected.scores)
    assert len(logger.of("val_width_all")) == len(logger.of("val_loss")) == 4
    assert best.best_model_score == max(logger.of("val_width_small"))


def test_scores_change_nothing_in_the_training(tmp_path: Path) -> None:
    weights = []
    for validate in (None, score):
        module = module_of(norm=True)
        fit(module, tmp_path / str(validate is None), SurgeryCallback(validate))
        weights.append(list(module.state_dict().values()))
    assert all(map(torch.equal, *weights))


def test_what_it_refuses(tmp_path: Path) -> None:
    plain = Classifier(mlp(6, 16, 3))
    with pytest.raises(surgery.InputError, match="Classifier is not wrapped"):
        fit(plain, tmp_path, SurgeryCallback())
    two = module_of()
    two.teacher = surgery.wrap(mlp(6, 16, 3), X)
    with pytest.raises(surgery.InputError, match=r"Classifier holds 2 wrapped models"):
        fit(two, tmp_path, SurgeryCallback())
    with pytest.raises(surgery.InputError, match="widths are fractions such as"):
        SurgeryCallback(score, "0.5")


def test_after_mixed_precision_it_shrinks(tmp_path: Path) -> None:
    for precision in ("bf16-mixed", "bf16-true"):
        module = module_of()
        fit(module, tmp_path / precision, SurgeryCallback(), precision=precision)
        small = surgery.shrink(module.wrapped, 0.5)
        dtype = small[0].weight.dtype
        surgery.save(small, tmp_path / precision / "small")
        again = surgery.load(tmp_path / precision / "small", mlp(6, 16, 16, 3).to(dtype), X.to(dtype))
        assert torch.equal(again[0].weight, small[0].weight) and small[0].out_features == 8
