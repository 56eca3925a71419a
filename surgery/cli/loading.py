"""What the command line names: models and loaders in modules or files, and example inputs."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import json
import operator
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import nn

from surgery.curves.curve import Curve
from surgery.errors import FileError, InputError

T = TypeVar("T")
INTEGERS = ("long", "int", "short", "uint8", "int8")
FLOATS = ("float", "double", "half", "bfloat16")
SHOWN = 8  # names that a message lists


def load_model(spec: str) -> nn.Module:
    """The model that `module:factory` names: the factory is called without arguments, a module is taken as it is.

    Raises InputError for a bad spec, a failed import or call, or another result.
    """
    factory = load(spec)
    if isinstance(factory, nn.Module):
        return factory
    if not callable(factory):
        raise InputError(f"{spec} is {type(factory).__name__}, not a function that returns a model")
    model = called(spec, factory)
    if not isinstance(model, nn.Module):
        raise InputError(
            f"{spec}() returned {type(model).__name__}, not a torch.nn.Module: name a function that returns the model"
        )
    return model


def called(spec: str, function: Callable[[], T]) -> T:
    """What a function without arguments returns. Raises InputError where it needs some, or fails."""
    needed = _needed(function)
    if needed:
        name = spec.rpartition(":")[2]
        given = ", ".join(f"{argument}=..." for argument in needed)
        raise InputError(
            f"{spec} needs arguments ({', '.join(needed)}), and the command gives none: write a function around it, "
            f"such as `def model(): return {name}({given})`, and name that"
        )
    return attempt(f"calling {spec}()", function)


def _needed(function: Callable[..., object]) -> list[str]:
    """The arguments that a function cannot be called without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some of C have none
        return []
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in free]


def load(spec: str) -> Any:
    """What `module:name` or `path/to/file.py:name` names; the current folder is importable.

    Raises InputError where it cannot be had.
    """
    name, colon, path = spec.rpartition(":")
    if not (name and colon and path):
        raise InputError(
            f"{spec!r} is not MODULE:FACTORY: write torchvision.models:resnet18, or for a file nets.py:small"
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    if "/" in name and not name.endswith(".py"):
        raise InputError(f"{spec!r}: a file is written with its ending, {name}.py:{path}; a module with dots")
    module = _file(name) if name.endswith(".py") else _module(name)
    try:
        return operator.attrgetter(path)(module)
    except AttributeError as error:
        raise InputError(
            f"looking for {path} in {name} failed: AttributeError: {error}.{_has(module, path)}"
        ) from error


def _module(name: str) -> ModuleType:
    """An importable module. Raises InputError, which says where it was looked for."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        text = f"importing {name} failed: ModuleNotFoundError: {error}"
        if error.name and f"{name}.".startswith(f"{error.name}."):
            here = f"Looked in {Path.cwd()} and among the installed packages"
            text += f". {here}: run the command where {error.name} is, or write path/to/file.py:name"
        else:
            text += f". It is imported by {name}: install it where surgery is installed ({sys.prefix})"
        raise InputError(text) from error
    except Exception as error:
        raise InputError(f"importing {name} failed: {type(error).__name__}: {error}") from error


def _file(name: str) -> ModuleType:
    """The module that a file holds; the files beside it are importable, too."""
    path = Path(name).resolve()
    _check(name, "*.py")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path):
        return known
    key = path.stem if known is None else f"{path.stem} ({path})"  # a module of this name is another one
    spec = importlib.util.spec_from_file_location(key, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[key]
        hint = ". It is part of a package: write package.module:name" if "relative import" in f"{error}" else ""
        raise InputError(f"importing {name} failed: {type(error).__name__}: {error}{hint}") from error
    return module


def load_curve(path: str) -> Curve:
    """The curve of a file. Raises InputError where there is none, FileError where it holds something else."""
    _check(path, "*.json")
    try:
        return Curve.from_json(path)
    except FileError as error:
        if "'groups'" not in _keys(path):
            raise
        raise FileError(
            f"{path}: is not a curve but a plan, which `surgery inspect --json` writes: name a file of Curve.to_json, "
            "or draw the plan with `surgery inspect --page`"
        ) from error


def _keys(path: str) -> str:
    """The names in the object of a JSON file, if it is one, as a text."""
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return f"{list(document)}" if isinstance(document, dict) else ""


def _check(name: str, kind: str) -> None:
    """Raises InputError where there is no such file; it names those of its kind that are there."""
    path = Path(name).resolve()
    if path.is_file():
        return
    others = sorted(file.name for file in path.parent.glob(kind)) if path.parent.is_dir() else []
    more = ", ..." if len(others) > SHOWN else ""
    has = f"{path.parent} has {', '.join(others[:SHOWN])}{more}" if others else f"{path.parent} holds no {kind}"
    raise InputError(f"{name}: there is no such file; {has}")


def _has(module: ModuleType, path: str) -> str:
    """What a module has instead of a name: what is spelt like it, or its own functions and models."""
    names = [name for name, value in vars(module).items() if not name.startswith("_") and _usable(module, value)]
    close = difflib.get_close_matches(path, names, n=3, cutoff=0.6)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    more = ", ..." if len(names) > SHOWN else ""
    return f" It has {', '.join(names[:SHOWN])}{more}" if names else " It has no functions or models of its own"


def _usable(module: ModuleType, value: object) -> bool:
    """Whether it could be meant: a model, or a function that the module itself defines."""
    own = getattr(value, "__module__", None) == module.__name__ and callable(value)
    return isinstance(value, nn.Module) or (own and not isinstance(value, ModuleType))


def attempt(doing: str, action: Callable[[], T]) -> T:
    """What the user's code gives; whatever it raises becomes a message, not a traceback."""
    try:
        return action()
    except Exception as error:
        raise InputError(f"{doing} failed: {type(error).__name__}: {error}") from error


def example(text: str, default: torch.dtype) -> torch.Tensor:
    """A tensor for `1,3,224,224` or `2,16:long`: normal noise, or zeros and ones where the dtype is not floating."""
    shape, colon, kind = text.partition(":")
    known = {name: getattr(torch, name) for name in (*FLOATS, *INTEGERS, "bool")}
    try:
        sizes = [int(size) for size in shape.split(",")]
        dtype = known[kind] if colon else default
    except (ValueError, KeyError):
        sizes, dtype = [], default
    if not sizes or min(sizes) < 1:
        raise InputError(f"--input {text!r} is not SHAPE[:DTYPE], such as 2,16:long. The dtypes are {', '.join(known)}")
    generator = torch.Generator().manual_seed(0)
    if dtype.is_floating_point:
        return torch.randn(sizes, generator=generator).to(dtype)
    return torch.randint(2, sizes, generator=generator).to(dtype)
