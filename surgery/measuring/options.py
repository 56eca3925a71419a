"""How rows are measured: what `sweep`, `sensitivity` and `search` are told beside a model and how to score it."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass

from torch import nn

from surgery.curves.points import AnyPath
from surgery.errors import InputError
from surgery.measuring.engines import Engine, engine_of
from surgery.measuring.ranks import Ranks
from surgery.modules.inputs import Examples, Inputs
from surgery.modules.labelled import Batch
from surgery.refitting.statistics import batches_of
from surgery.twin.setting import runnable
from surgery.twin.statistics import Recalibrate, batches_for


@dataclass(frozen=True)
class Options:
    """The keywords that the three share, as `surgery.sweep` describes them."""

    examples: Examples | None = None
    measure_latency: bool = True
    recalibrate: Recalibrate = None
    executor: Executor | Ranks | None = None
    resume: AnyPath | None = None
    progress: bool = True
    multiple: int = 1
    refit: Iterable[Batch] | None = None

    @property
    def ranks(self) -> Ranks:
        """What the executor is, and how ranks share it."""
        return self.executor if isinstance(self.executor, Ranks) else Ranks(executor=self.executor)

    def timed(self, name: str, wrapped: nn.Module) -> Examples | None:
        """What latency is measured on, or None where it is not. Raises InputError where nothing is known to run."""
        if not self.measure_latency:
            return None
        found = self.examples if self.examples is not None else runnable(wrapped)
        if found is None:
            raise InputError(f"{name} has no inputs to measure latency on: pass examples=, or measure_latency=False")
        return found

    def batches(self, wrapped: nn.Module) -> list[Examples]:
        """What BatchNorm statistics are estimated on before each score; none where they stay as they are."""
        return batches_for(wrapped, self.recalibrate)

    def fitted_on(self, wrapped: nn.Module) -> list[Inputs]:
        """What small models are fitted on before each score; none where slices are scored as they are."""
        if self.refit is None:
            return []
        if self.workers() is not None:
            raise InputError("refit= fits each model here: leave out executor=, or nest the model first")
        return batches_of(wrapped, self.refit)

    def workers(self) -> Engine | None:
        """Where scores are computed, or None for here. Raises InputError where it is no executor."""
        executor = self.ranks.executor
        return None if executor is None else engine_of(executor)
