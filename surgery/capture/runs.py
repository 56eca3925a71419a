"""The runs that a plan is made from: in eval mode, and in training mode where code asks for the mode."""

from __future__ import annotations

from surgery.capture.record import Capture, WritesSharedState, capture
from surgery.errors import CaptureError
from surgery.modules.code.bytecode import mentions, reads
from surgery.modules.inputs import Examples, check_device, runs
from surgery.modules.outputs import Outputs
from surgery.modules.tensors import Parts


def record_runs(parts: Parts, examples: Examples, outputs: Outputs = ()) -> tuple[list[Capture], tuple[str, ...]]:
    """Record every run in eval mode, and in training mode too where some forward reads `training`."""
    try:
        return _recorded(parts, examples, True, outputs)
    except WritesSharedState:  # in one run is enough: plain data objects are shared in all
        return _recorded(parts, examples, False, outputs)


def _recorded(
    parts: Parts, examples: Examples, own_copies: bool, outputs: Outputs
) -> tuple[list[Capture], tuple[str, ...]]:
    captures = []
    notes: list[str] = []
    for run in runs(examples):
        check_device(parts.parameters.values(), run)
        captures.append(capture(parts, run, own_copies=own_copies, outputs=outputs))
        if not any(_reads_mode(type(frame.module)) for frame in captures[-1].frames):
            continue
        try:
            captures.append(capture(parts, run, training=True, own_copies=own_copies, outputs=outputs))
        except CaptureError as error:
            notes.append(f"only the eval forward was analysed: {error}")
    return captures, tuple(dict.fromkeys(notes))


def _reads_mode(cls: type) -> bool:
    """Whether a forward may take another way in training. Torch's own layers compute on the same axes in both modes."""
    return not cls.__module__.startswith("torch.nn.") and (mentions(cls, {"training"}) or reads(cls, "training"))
