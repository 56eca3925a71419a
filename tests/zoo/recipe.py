"""How a model is built and what it is fed, as rows of a table: nothing is imported before a row is built."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from surgery.modules.inputs import Inputs

from .entry import image, integers, normal

Fed = Callable[[int], Inputs]


class New:
    """A call that is made later: `module:name` with arguments, which may hold such calls themselves."""

    def __init__(self, path: str, args: tuple[Any, ...], options: dict[str, Any]):
        self.path, self.args, self.options = path, args, options

    def __call__(self) -> Any:
        return self.found()(*settled(self.args), **settled(self.options))

    def found(self) -> Any:
        """What is called, imported now."""
        module, _, names = self.path.partition(":")
        return functools.reduce(getattr, names.split("."), importlib.import_module(module))


def new(path: str, /, *args: Any, **options: Any) -> New:
    return New(path, args, options)


@dataclass(frozen=True)
class Recipe:
    """A model of a package, and its inputs for a seed.

    Attributes:
        model: makes the model.
        inputs: makes its inputs for a seed.
        data_decides: how much work there is depends on data.
    """

    model: New
    inputs: Fed
    data_decides: bool = False


def settled(value: Any, seed: int | None = None) -> Any:
    """A value with the calls in it made: those of `New`, or those of inputs where there is a seed."""
    if isinstance(value, dict):
        return {key: settled(item, seed) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(settled(item, seed) for item in value)
    if seed is None:
        return value() if isinstance(value, New) else value
    return value(seed) if callable(value) else value


def given(*args: Any, **named: Any) -> Fed:
    """Inputs made of functions of a seed, in any nesting, and of constants."""
    return lambda seed: Inputs(settled(args, seed), settled(named, seed))


def floats(*shape: int) -> Callable[[int], torch.Tensor]:
    return lambda seed: normal(seed, *shape)


def unit(*shape: int) -> Callable[[int], torch.Tensor]:
    """Floats between 0 and 1."""
    return lambda seed: image(seed, *shape)


def ints(high: int, *shape: int, low: int = 0) -> Callable[[int], torch.Tensor]:
    return lambda seed: integers(seed, high - low, *shape) + low


def images(*sides: int, channels: int = 3) -> Fed:
    """A batch of two; one side is a square."""
    return given(unit(2, channels, *(sides if len(sides) > 1 else sides * 2)))


def of(package: str, rows: dict[str, tuple[New, Fed]]) -> dict[str, Recipe]:
    """The rows of one package, under `package/model`."""
    return {f"{package}/{name}": Recipe(model, inputs) for name, (model, inputs) in rows.items()}


def same(inputs: Fed, module: str, rows: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, tuple[New, Fed]]:
    """Rows that are fed alike: what is called of `module` (`name`, or `submodule:name`), with which options."""
    return {name: (New(_path(module, called), (), options), inputs) for name, (called, options) in rows.items()}


def _path(module: str, called: str) -> str:
    return f"{module}.{called}" if ":" in called else f"{module}:{called}"
