"""A backward pass under way: which parameters no pass of it has run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Backward:
    """What is known of a backward pass under way: the parameters without a gradient that all of its passes left out."""

    def __init__(self) -> None:
        self.task = -1
        self.absent: dict[int, Tensor] = {}

    def reached(self, absent: Sequence[Tensor]) -> None:
        """It has come to a pass."""
        task = torch._C._current_graph_task_id()
        found = {id(parameter): parameter for parameter in absent if parameter.grad is None}
        if task == self.task:
            found = {key: parameter for key, parameter in found.items() if key in self.absent}
        else:
            self.task = task
            engine = torch.autograd.Variable._execution_engine
            engine.queue_callback(lambda: engine.queue_callback(self.ended))  # the second one comes after the reducer's
        self.absent = found

    def ended(self) -> None:
        """Take the zeros away that were put in the place of no gradient, as on one rank there is none."""
        for parameter in self.absent.values():
            parameter.grad = None
        self.task, self.absent = -1, {}
