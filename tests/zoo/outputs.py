"""Where in its source a model makes what it returns: why most of what is fixed in a weakly elastic one is fixed."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from surgery.capture.callsites import line
from surgery.capture.frames import info
from surgery.capture.runs import record_runs as recorded
from surgery.modules.inputs import Inputs
from surgery.modules.tensors import parts_of

from .record import Reason

OUTPUT = "it is an output of the model"


def with_lines(reasons: list[Reason], model: nn.Module, run: Inputs) -> list[Reason]:
    """The reasons, with the lines of the model's source that make its outputs."""
    captures, _ = recorded(parts_of(model), run)
    lines = dict.fromkeys(line(info(node).where) for capture in captures for node in capture.root.returned)
    made = f"{OUTPUT} ({', '.join(lines)})"
    return [replace(reason, reason=reason.reason.replace(OUTPUT, made)) for reason in reasons]
