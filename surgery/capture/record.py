"""One eager run of a model, recorded as a `torch.fx.Graph`.

The model runs with Python's own control flow. Under a `TorchFunctionMode` every torch call becomes a node; a module
with an adapter becomes one `call_module` node and its inside is not recorded. Integers remember where they came from
(`surgery.sizes`). Capture works on a copy of the module tree, so the model comes out exactly as it went in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import fx, nn

from surgery.capture.attributes import Attributes, remember_attributes
from surgery.capture.constants import Constants
from surgery.capture.frames import Branch, Frame
from surgery.capture.process import wait_for_imports
from surgery.capture.recorder import Recorder
from surgery.capture.trace import Trace
from surgery.errors import CaptureError, InputError
from surgery.modules.contents import Contents
from surgery.modules.copying import copy_of
from surgery.modules.inputs import FORMS, Inputs
from surgery.modules.modes import devices_of, forked, seed
from surgery.modules.outputs import Outputs, names_of, picked
from surgery.modules.restoring import Watch
from surgery.modules.tensors import Parts, parts_of
from surgery.nested import all_tensors

ATTEMPTS = 10


@dataclass
class Capture:
    """The record of one run. Values in trees are nodes where the run had tensors; `output` is what it returned."""

    graph: fx.Graph
    frames: list[Frame]
    branches: list[Branch]
    training: bool
    output: Any

    @property
    def root(self) -> Frame:
        return self.frames[0]


def capture(
    model: nn.Module | Parts,
    run: Inputs,
    training: bool = False,
    prefix: str = "",
    own_copies: bool | None = None,
    outputs: Outputs = (),
    alter: Callable[[Parts], None] | None = None,
) -> Capture:
    """Record one run of a model in eval mode (or training mode), without gradients.

    `prefix` stands before the names of modules and tensors, where the model is a part of a larger one. `own_copies`
    says whether modules get copies of plain data objects and of containers that they share; by default they do, unless
    the run writes into one. `outputs` are the parts of the output that count, all by default; what training returns
    without them counts as a whole. `alter` may change the copy of the model that runs; names of modules and tensors
    stay those of the whole model.

    Raises CaptureError where the model does not run on these inputs, WritesSharedState where `own_copies` is True and
    a forward writes into such an object or container. The model, its buffers and the global random state stay as they
    were.
    """
    parts = model if isinstance(model, Parts) else parts_of(model)
    with forked(devices_of(parts.tensors.values())):
        try:
            return _recorded(parts, run, training, prefix, own_copies is not False, outputs, alter)
        except WritesSharedState:
            if own_copies is not None:
                raise
            # what one module writes into an object, another reads there: modules cannot have copies
            return _recorded(parts, run, training, prefix, False, outputs, alter)


class WritesSharedState(Exception):
    """A forward writes into a plain data object, or into a container that modules share."""


_Alter: TypeAlias = "Callable[[Parts], None] | None"


def _recorded(
    parts: Parts, run: Inputs, training: bool, prefix: str, own_copies: bool, outputs: Outputs, alter: _Alter
) -> Capture:
    """One run, recorded again where another thread has imported modules meanwhile, which hides loops.

    And where there were tensors of unknown origin: then it is looked for constants, which makes each call slower.
    """
    constants: Constants | None = None
    for _ in range(ATTEMPTS):
        # buffers may change without saying so
        copied = copy_of(parts, lambda name, tensor: tensor if name in parts.parameters else _cloned(tensor))
        recorder = Recorder(copied, prefix, Watch(copied.tensors.values()), constants)
        output = _run(recorder, parts, copied, run, training, prefix, own_copies, alter)
        trace = recorder.trace
        if recorder.disturbed:
            wait_for_imports()
        elif trace.unknown and constants is None:
            constants = Constants(trace.unknown)
        else:
            _count(trace, output, outputs, training)
            return Capture(trace.graph, trace.frames, trace.branches, training, output)
    raise CaptureError("other threads import modules all the time, which hides loops of the model: wait for them")


def _count(trace: Trace, output: Any, outputs: Outputs, training: bool) -> None:
    """Note which nodes of a run are results. Raises InputError where the parts that are to count are not there."""
    root = trace.frames[0]
    root.counted, root.names = root.returned, ()
    if outputs or outputs == 0:
        # in training a model may return something else, such as losses: then all of that counts
        with contextlib.suppress(InputError) if training else contextlib.nullcontext():
            root.names = names_of(output, outputs)
            root.counted = [trace.node_of(tensor) for tensor in all_tensors(picked(output, root.names), {}, {})]


def _run(
    recorder: Recorder,
    parts: Parts,
    copied: Parts,
    run: Inputs,
    training: bool,
    prefix: str,
    own_copies: bool,
    alter: _Alter,
) -> Any:
    """What a copy of the model returns; the recorder has the rest. Tensors are put back, whatever happens."""
    twin: Any = copied.model
    args, kwargs = recorder.trace.placeholders(run)
    before: list[Attributes | Contents] = []
    try:
        with recorder.watch:
            twin.train(not training).train(training)  # modules clear what they keep between runs
        before = remember_attributes(copied, prefix, own_copies)
        if alter is not None:
            alter(copied)
        with torch.no_grad():
            seed(devices_of(parts.tensors.values()))  # as proofs do, which need what it returns
            with recorder.active():
                output = twin(*args, **kwargs)
    except Exception as error:
        if any(contents.changed() for contents in before):
            raise WritesSharedState from error
        shapes = ", ".join(_describe(value) for value in (*run.args, *run.kwargs.values()))
        mode = "training" if training else "eval"
        raise CaptureError(
            f"{type(parts.model).__name__} does not run in {mode} mode on the example inputs ({shapes}): "
            f"{type(error).__name__}: {error}{_hint(run)}"
        ) from error
    finally:
        recorder.watch.put_back()
    if any(contents.changed() for contents in before):
        raise WritesSharedState
    return output


def _cloned(tensor: torch.Tensor) -> torch.Tensor:
    clone = tensor.detach().clone()
    return nn.Parameter(clone, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else clone


def _hint(run: Inputs) -> str:
    """What example inputs may be, where a model has failed on something else."""
    given = (*run.args, *run.kwargs.values())
    return "" if given and all(isinstance(value, torch.Tensor) for value in given) else f". {FORMS}"


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)} on {value.device}"
    return type(value).__name__
