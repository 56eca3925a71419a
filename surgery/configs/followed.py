"""What modules keep that follows a number: a whole model beside one whose class was given one less of something."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from surgery.axes.formulas import AttributePath, Steps
from surgery.configs.fields import Config, fields, sequences
from surgery.modules.plain_data import at


@dataclass(frozen=True)
class Pair:
    """A whole model, and one with one unit less.

    Attributes:
        whole, fewer: their modules by path.
        name: what a module of the whole model is called in the other; None where it is not there.
    """

    whole: Mapping[str, nn.Module]
    fewer: Mapping[str, nn.Module]
    name: Callable[[str], str | None] = str

    def numbers(self, size: int) -> Iterator[tuple[str, AttributePath]]:
        """The integers that are the number of units, in both."""
        for path, name, value, other in self._held():
            for steps, number in fields(value):
                if number == size and _there(other, steps) == size - 1:
                    yield path, (name, *steps)

    def lists(self, size: int) -> Iterator[tuple[str, AttributePath]]:
        """The lists with an entry for each unit, in both."""
        for path, name, value, other in self._held():
            for steps, entries in sequences(value):
                shorter = _there(other, steps)
                if len(entries) == size and isinstance(shorter, list | tuple) and len(shorter) == size - 1:
                    yield path, (name, *steps)

    def _held(self) -> Iterator[tuple[str, str, Config, Config]]:
        """The attributes that both have: the module, the name, and both values."""
        for path, module in self.whole.items():
            now = self.name(path)
            other = None if now is None else self.fewer.get(now)
            for name, value in vars(module).items() if other is not None else ():
                if not name.startswith("_") and name in vars(other):
                    yield path, name, value, vars(other)[name]


def _there(value: Config, steps: Steps) -> Config:
    """What steps lead to; None where they lead nowhere."""
    try:
        return at(value, steps)
    except (LookupError, TypeError):  # an object of another shape
        return None
