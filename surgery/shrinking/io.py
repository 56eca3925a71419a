"""Small models on disk: safetensors for the tensors, JSON for the widths. Nothing is pickled, no code is run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from surgery.errors import FileError, InputError, WidthError
from surgery.modules.inputs import Examples
from surgery.modules.tensors import named_tensors
from surgery.plan.plan import Plan
from surgery.planning.make import make_plan
from surgery.shrinking.apart import SAME, apart
from surgery.shrinking.record import RECORD, Record
from surgery.shrinking.shrink import M, cut_copy, tell, wrapped_as
from surgery.twin.elastic import is_wrapped

FORMAT = "model-surgery/1"


def _paths(path: str | Path) -> tuple[Path, Path]:
    path = Path(path)
    stem = path.with_suffix("") if path.suffix in (".safetensors", ".json") else path
    return stem.with_name(stem.name + ".safetensors"), stem.with_name(stem.name + ".json")


def save(small: nn.Module, path: str | Path) -> tuple[Path, Path]:
    """Write a shrunk or reordered model as `path.safetensors` and `path.json`; returns the two paths.

    Every parameter and persistent buffer is stored, and every other buffer that the plan cuts. Files are replaced
    whole or not at all.

    Raises InputError for a model that `surgery.shrink` or `surgery.reorder` did not make, and for tensors of a type
    that safetensors does not know.
    """
    if not isinstance(small, nn.Module) and isinstance(path, nn.Module):
        raise InputError("save takes a small model, then a path: they are the other way round")
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"save takes a small model, then the path of a file, got {path!r}")
    record = getattr(small, RECORD, None)
    if record is None:
        raise InputError(f"{type(small).__name__} was not made by surgery.shrink: save its state_dict instead")
    keys = set(small.state_dict(keep_vars=True)) | set(record["cut_buffers"])
    tensors = {name: t.detach().contiguous().cpu() for name, t in named_tensors(small) if name in keys}
    file, described = _paths(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial, text = file.with_suffix(".partial"), described.with_suffix(".json.partial")
    try:
        _write_tensors(tensors, partial)
        data = {"format": FORMAT, "model": type(small).__name__, **record, "sha256": _digest(partial)}
        text.write_text(json.dumps(data, indent=1))
        os.replace(partial, file)
        os.replace(text, described)
    finally:
        for unfinished in (partial, text):
            unfinished.unlink(missing_ok=True)
    return file, described


def _write_tensors(tensors: dict[str, torch.Tensor], file: Path) -> None:
    try:
        save_file(tensors, file, metadata={"format": FORMAT})
    except KeyError as error:  # what it says of a type that its format does not have
        raise InputError(f"safetensors files cannot hold tensors of the type {error}") from error


def load(path: str | Path, model: M, example_inputs: Examples) -> M:
    """The small model that `save` wrote, from a freshly built full-size `model`, which stays as it is.

    Args:
        path: as given to `save`.
        model: a model of the same architecture and full size; its weights do not matter.
        example_inputs: as for `surgery.wrap`.

    The small model is in eval mode, in whichever mode `model` is.

    Raises InputError for arguments in another order; FileError for a file that is missing, damaged, foreign, or of
    another architecture, and for a model on meta.
    """
    if not isinstance(path, str | Path) or not isinstance(model, nn.Module):
        raise InputError(
            f"load takes the path of a file, then the full-size model, then example inputs; got a "
            f"{type(path).__name__} and a {type(model).__name__}"
        )
    if is_wrapped(model):
        raise InputError(
            f"load: the {type(model).__name__} is wrapped: give a plain one of full size, or surgery.unwrap it"
        )
    file, described = _paths(path)
    if Path(path).is_file() and Path(path).suffix not in (".safetensors", ".json"):
        raise FileError(f"{path} was not written by surgery.save, which writes {file.name} and {described.name}")
    data = _read_json(described)
    tensors = _read_tensors(file, data)
    plan, widths = _planned(described, data, tensors, model, example_inputs)
    hollow = next((name for name, tensor in named_tensors(model) if tensor.is_meta), None)
    if hollow is not None:
        raise FileError(
            f"{hollow} is on the meta device, so that what is loaded would have no weights: build the model on a real "
            "device, or give it memory first with model.to_empty(device='cpu')"
        )
    wrapped = wrapped_as(model, plan, example_inputs)
    small = cut_copy(wrapped, plan, widths)
    _fill(small, tensors, file)
    tell(wrapped, small, plan, widths, example_inputs)
    return small.eval()


def _planned(
    described: Path, data: Record, tensors: dict[str, torch.Tensor], model: nn.Module, examples: Examples
) -> tuple[Plan, dict[str, int]]:
    """The plan of a model, and the widths of a file. Raises FileError where the file is of another architecture."""
    plan: Plan | None = None
    try:
        plan = make_plan(model, examples, **data["options"])
        plan = plan.ordered(data.get("orders", {}))
        widths = plan.widths(data["widths"])
        if plan.fingerprint == data["fingerprint"]:
            return plan, widths
        cause = ""
    except (InputError, WidthError) as error:
        cause = str(error)
    other = apart(data, tensors, model, plan)
    if cause and other == SAME:
        other = cause
    raise FileError(
        f"{described} belongs to a {data['model']} of another architecture than this {type(model).__name__} "
        f"({other}): build the model as it was when it was shrunk"
    )


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_json(path: Path) -> Record:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise FileError(f"there is no file {path}") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} is not readable as JSON: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise FileError(f"{path} was not written by surgery.save (its format is not {FORMAT!r})")
    faults = [field for field, valid in _FIELDS.items() if not valid(data.get(field))]
    if faults:
        raise FileError(f"{path} is damaged: {', '.join(faults)} missing or not as surgery.save writes it")
    return data


def _numbers(value: object) -> bool:
    return isinstance(value, dict) and all(type(number) is int for number in value.values())


def _names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _orders(value: object) -> bool:
    """Whether it can be orders of modules; files of models that have none may lack them."""
    lists = value.values() if isinstance(value, dict) else [] if value is None else [None]
    return all(isinstance(order, list) and all(type(unit) is int for unit in order) for order in lists)


def _options(value: object) -> bool:
    return (
        isinstance(value, dict)
        and set(value) - {"rehearse", "outputs", "depth", "experts"} == {"fixed", "only", "granularity"}
        and _names(value.get("outputs", []))
        and all(value.get(key, True) is True or _names(value[key]) for key in ("depth", "experts"))
        and _names(value["fixed"])
        and _names(value["only"])
        and (type(value["granularity"]) is int or _numbers(value["granularity"]))
    )


# What `load` reads from the JSON, and whether a value can be what `save` wrote.
_FIELDS: dict[str, Callable[[object], bool]] = {
    "widths": _numbers,
    "fingerprint": lambda value: isinstance(value, str),
    "sha256": lambda value: isinstance(value, str),
    "model": lambda value: isinstance(value, str),
    "options": _options,
    "orders": _orders,
}


def _read_tensors(path: Path, data: Record) -> dict[str, torch.Tensor]:
    if not path.is_file():
        raise FileError(f"there is no file {path}")
    if _digest(path) != data["sha256"]:
        raise FileError(f"{path} is damaged, or not the file that was saved with its JSON (checksums differ)")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path} is not readable as safetensors: {error}") from error


def _fill(small: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    own = dict(named_tensors(small))
    wanted = {name for name in own if name in set(small.state_dict(keep_vars=True))} | set(
        vars(small)[RECORD]["cut_buffers"]
    )
    if wanted != set(tensors):
        odd = sorted(wanted ^ set(tensors))
        raise FileError(f"{path} and the model differ in which tensors they have: {', '.join(odd[:5])}")
    for name, tensor in tensors.items():
        if own[name].shape != tensor.shape or own[name].dtype != tensor.dtype:
            raise FileError(
                f"{path}: {name} is {tensor.dtype} {list(tensor.shape)}, the model needs "
                f"{own[name].dtype} {list(own[name].shape)}"
            )
    with torch.no_grad():
        for name, tensor in tensors.items():
            own[name].copy_(tensor)
