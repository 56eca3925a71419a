"""A callback for Lightning's Trainer."""

from __future__ import annotations

import warnings
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

import surgery
from surgery.integrations.told import ANEW, Told, Widths, named, only_twin

KEY = "surgery"  # of a checkpoint


class SurgeryCallback(Callback):
    """Keeps the draws of a wrapped model in Lightning's checkpoints, and tells its logger of draws and widths.

    `Trainer(callbacks=[SurgeryCallback()])`, with a LightningModule that holds a wrapped model. A run that is resumed
    (`fit(..., ckpt_path=...)`) draws what it would have drawn without the break. Each batch logs `surgery/width`, the
    mean share of their sizes that groups had. `surgery.log_to` is taken.

    Validation runs at the widths that are set, full at first. After each, `validate` scores the wrapped model at each
    of `widths`, which is logged as `val_width_0.25`, to be monitored as any other value. It is called as by
    `surgery.progress`: BatchNorm's statistics are estimated at each width, and training goes on as if it had not been.

    Args:
        validate: a score of a wrapped model: a number, or one for each example, as for `surgery.sweep`.
        widths: fractions, or a mapping of names to anything that `surgery.set_widths` takes.

    Its hooks raise InputError for a LightningModule that holds no wrapped model, or several.
    """

    def __init__(self, validate: Any = None, widths: Widths = (1.0, 0.5, 0.25)):
        self.validate, self.widths, self.told = validate, named(widths), Told()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen to the wrapped model."""
        self.told.listen(only_twin(pl_module), trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Tell what was drawn."""
        pl_module.log_dict(self.told.means())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen no longer."""
        surgery.log_to(only_twin(pl_module), None)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scores at fixed widths."""
        if self.validate is not None and self.widths and not trainer.sanity_checking:
            with self.told.not_listening():
                found = surgery.progress(only_twin(pl_module), self.validate, list(self.widths.values()))
            scores = zip(self.widths, found.scores, strict=True)
            pl_module.log_dict({f"val_width_{name}": score for name, score in scores})

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What the draws remember goes into the checkpoint."""
        checkpoint[KEY] = surgery.training_state(only_twin(pl_module))

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """A run that is resumed goes on with the draws of its checkpoint."""
        if KEY in checkpoint:
            surgery.load_training_state(only_twin(pl_module), checkpoint[KEY])
        else:
            warnings.warn(ANEW, UserWarning, stacklevel=2)
