"""A callback for transformers' Trainer, and for what is built on it, such as TRL's trainers."""

from __future__ import annotations

import copy
import warnings
from typing import Any

from torch import nn
from transformers import Trainer, TrainerCallback
from transformers.trainer_callback import ExportableState, TrainerControl, TrainerState

import surgery
from surgery.errors import InputError
from surgery.integrations.told import ANEW, Told, Widths, named, only_twin

RUNTIME = "_runtime"  # what all metrics of an evaluation have, after their prefix


class SurgeryCallback(TrainerCallback, ExportableState):
    """Keeps the draws of a wrapped model in the Trainer's checkpoints, and tells its logger of draws and widths.

    `trainer.add_callback(SurgeryCallback(trainer))`. A run that is resumed draws what it would have drawn without the
    break: the state is a part of `trainer_state.json`, the last file of a checkpoint. At each step that is logged,
    `surgery/width` is the mean share of their sizes that groups had since the last one. `surgery.log_to` is taken.

    Evaluations run at the widths that are set, full at first. After each, one at each of `widths` follows, with the
    same data, and its metrics are logged and returned as well: `eval_width_0.25_loss`. So one of them may be
    `metric_for_best_model`. BatchNorm's statistics are estimated at each, on the `calibration` that the model was
    wrapped with.

    Args:
        trainer: of which the model is a wrapped one, or holds one.
        widths: to evaluate at, besides those that are set: fractions, or a mapping of names to anything that
            `surgery.set_widths` takes.

    Raises InputError for a Trainer whose model holds no wrapped one, or several, and for one that has such a callback.
    """

    def __init__(self, trainer: Trainer, widths: Widths = ()):
        if trainer is None:
            raise InputError(
                "restore_callback_states_from_checkpoint=True makes callbacks anew, without their Trainer: leave it "
                "out, what draws remember is restored without it"
            )
        if any(isinstance(other, SurgeryCallback) for other in trainer.callback_handler.callbacks):
            raise InputError("this Trainer has a SurgeryCallback already: one keeps the draws, and takes all widths")
        self.trainer, self.widths, self.told = trainer, named(widths), Told()
        only_twin(self.model)

    @property
    def model(self) -> nn.Module:
        model: nn.Module = self.trainer.model
        return model

    def state(self) -> dict[str, Any]:
        """What the Trainer writes into a checkpoint."""
        return {"args": {"trainer": None}, "attributes": surgery.TrainingState(self.model).state_dict()}

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """A run that is resumed goes on with the draws of its checkpoint."""
        name = type(self).__name__
        if name in state.stateful_callbacks:
            surgery.TrainingState(self.model).load_state_dict(state.stateful_callbacks[name]["attributes"])
        else:
            warnings.warn(ANEW, UserWarning, stacklevel=2)
            state.stateful_callbacks[name] = self.state()
        self.told.listen(only_twin(self.model), state.global_step)

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell what was drawn, where this step is logged."""
        if control.should_log:
            self._log()

    on_epoch_end = on_step_end

    def on_train_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell the rest."""
        self._log()
        surgery.log_to(only_twin(self.model), None)

    def _log(self) -> None:
        means = self.told.means()
        if means:
            Trainer.log(self.trainer, means)  # other trainers add metrics of theirs to the next thing that is logged

    def on_evaluate(
        self,
        args: Any,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        eval_dataloader: Any = None,
        **_: Any,
    ) -> None:
        """The same evaluation at further widths."""
        prefix = next((name.removesuffix(RUNTIME) for name in metrics or () if name.endswith(RUNTIME)), None)
        if not self.widths or metrics is None or prefix is None or eval_dataloader is None:
            return
        names = iter(self.widths)

        def validate(_: nn.Module) -> float:
            found = self._evaluated(eval_dataloader.dataset, prefix, f"{prefix}_width_{next(names)}")
            Trainer.log(self.trainer, found)
            metrics.update(found)
            return 0.0  # the metrics are what counts, and may be none that `progress` takes

        with self.told.not_listening():
            surgery.progress(only_twin(self.model), validate, list(self.widths.values()))

    def _evaluated(self, dataset: Any, prefix: str, new: str) -> dict[str, float]:
        """The metrics of another evaluation, under a prefix of its own, also those that a trainer gives the usual one.

        Callbacks, and so loggers, do not see it.
        """
        trainer, handler = self.trainer, self.trainer.callback_handler
        length = len(trainer.state.log_history)
        trainer.callback_handler = copy.copy(handler)
        trainer.callback_handler.callbacks = []
        try:
            found = trainer.evaluate(dataset, metric_key_prefix=new)
        finally:
            trainer.callback_handler = handler
            del trainer.state.log_history[length:]
        renamed = {name: name.replace(f"{prefix}_", f"{new}_", 1) for name in found if name.startswith(f"{prefix}_")}
        return {name if name.startswith(f"{new}_") else to: found[name] for name, to in renamed.items()}
