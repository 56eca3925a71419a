"""`export_source`: a small model as a module of its own, proven in a process where this library is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from surgery.errors import InputError, ProofError, SurgeryError
from surgery.exporting import probe
from surgery.exporting.homes import NAME
from surgery.exporting.module import module_of
from surgery.exporting.probe import INPUTS, OUTPUTS, TASK, told
from surgery.modules.copying import unrun
from surgery.modules.differences import difference
from surgery.modules.inputs import Examples, Inputs, runs
from surgery.modules.verify import output
from surgery.twin.elastic import is_wrapped

FILES = (f"{NAME}.py", f"{NAME}.safetensors")


def export_source(small: nn.Module, folder: str | Path, example_inputs: Examples) -> Path:
    """Write a small model as a Python module that needs no part of this library; returns the path of the module.

    `folder/model.py` holds the tree of modules with its sizes as numbers, and forwards that were rewritten as plain
    methods; `folder/model.safetensors` holds the tensors. `model()` of the module gives the model, in eval mode, on the
    CPU. Classes are imported from where they are; those of a script, of a notebook, or of a file that imports this
    library are written out. Nothing is pickled.

    The module is imported in a fresh process where this library is not, and must give there what the small model gives,
    before any file is put into `folder`. Files that are there are replaced whole or not at all.

    Args:
        small: a model that `surgery.shrink` or `surgery.reorder` made, or any plain model, in eval mode.
        folder: is made where it is not there.
        example_inputs: what the proof runs on, as for `surgery.wrap`.

    Raises InputError for what cannot be written as source, with its place in the model: hooks, parametrizations,
    tensors of other kinds, classes and functions that have no name elsewhere and no source, objects that hold more than
    plain data; ProofError where the written module does not run, or gives something else.
    """
    _check(small, folder)
    place, calls = Path(folder), runs(example_inputs)
    expected = [_expected(small, call) for call in calls]
    with tempfile.TemporaryDirectory() as scratch:
        _write(small, Path(scratch))
        _prove(type(small).__name__, Path(scratch), calls, expected)
        _place(Path(scratch), place)
    return place / FILES[0]


def _check(small: object, folder: object) -> None:
    if not isinstance(small, nn.Module) or not isinstance(folder, str | os.PathLike):
        raise InputError(
            "export_source takes a small model, the path of a folder, then example inputs: "
            f"got a {type(small).__name__} and a {type(folder).__name__}"
        )
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"export_source writes into a folder, and {folder} is a file: name another one")
    if is_wrapped(small):
        raise InputError(
            f"export_source: the {type(small).__name__} is wrapped: give what surgery.shrink(wrapped, widths) returns"
        )
    if small.training:
        raise InputError("export_source writes a model in eval mode, and this one is in training mode: small.eval()")


def _expected(small: nn.Module, call: Inputs) -> dict[str, object]:
    """What a model gives. Raises InputError where it does not run on the example inputs."""
    try:
        given = output(unrun(small), call)
    except SurgeryError:
        raise  # it says what to do already
    except Exception as error:
        raise InputError(
            f"export_source: {type(small).__name__} does not run on the example inputs ({type(error).__name__}: "
            f"{error}): give what one call of it takes"
        ) from error
    return dict(told(given))


def _write(small: nn.Module, folder: Path) -> None:
    module = module_of(small)
    try:
        save_file({name: _alone(tensor) for name, tensor in module.tensors.items()}, folder / FILES[1])
    except KeyError as error:  # what it says of a type that its format does not have
        raise InputError(f"safetensors files cannot hold tensors of the type {error}") from error
    (folder / FILES[0]).write_text(module.text, encoding="utf-8")


def _alone(tensor: Tensor) -> Tensor:
    """A tensor with memory of its own, as files want it."""
    whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if whole else tensor.contiguous().clone()


def _prove(model: str, folder: Path, calls: Sequence[Inputs], expected: Sequence[Mapping[str, object]]) -> None:
    """Raises ProofError where the module gives something else than expected, in a process without this library."""
    task = {
        "path": [os.path.abspath(entry) for entry in sys.path],
        "threads": torch.get_num_threads(),
        "dtype": torch.get_default_dtype(),
    }
    torch.save(task, folder / TASK)
    try:
        torch.save([(call.args, call.kwargs) for call in calls], folder / INPUTS)
    except Exception as error:  # of whatever is in them
        raise InputError(f"the example inputs cannot be given to another process to prove it there: {error}") from error
    command = [sys.executable, probe.__file__, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        raise ProofError(f"the module written for {model} does not run in a process without this library: {last}")
    given = torch.load(folder / OUTPUTS, weights_only=True)
    try:
        for wanted, found in zip(expected, given, strict=True):
            difference(wanted, found)
    except ProofError as error:
        raise ProofError(f"the module written for {model} does not give what the model gives: {error}") from error


def _place(folder: Path, place: Path) -> None:
    """Put the files where they belong: first beside those that are there, then in their place."""
    place.mkdir(parents=True, exist_ok=True)
    partial = [(place / f"{name}.partial", place / name, folder / name) for name in FILES]
    try:
        for beside, _, source in partial:
            shutil.copyfile(source, beside)
        for beside, goal, _ in partial:
            os.replace(beside, goal)
    finally:
        for beside, _, _ in partial:
            beside.unlink(missing_ok=True)
