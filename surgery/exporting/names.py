"""The names of a written module, and what it imports for them."""

from __future__ import annotations

import builtins
import keyword
import sys
from types import ModuleType

from surgery.errors import InputError
from surgery.exporting.homes import found, home, importable

OWN = """
    annotations Path load_file nn Tensor FunctionType MethodType Any NamedTuple functools model weights tensors made
""".split()
AT_HAND = {"torch": "import torch", "torch.nn": "from torch import nn"}  # what every written module imports


class Names:
    """Which name means what in a module, and the import statements that it begins with."""

    def __init__(self) -> None:
        self.statements: dict[str, None] = {}
        self.modules: set[str] = set()  # that are imported
        self._meanings = dict.fromkeys(OWN, "") | {"torch": "import torch", "functools": "import functools"}

    def unique(self, wanted: str) -> str:
        """A name like this one that means nothing yet. Now it is taken."""
        wanted = "".join(c if c.isalnum() and c.isascii() else "_" for c in wanted)
        wanted = wanted if wanted[:1].isalpha() or wanted[:1] == "_" else f"_{wanted}"
        name, number = wanted, 2
        while name in self._meanings or hasattr(builtins, name) or keyword.iskeyword(name):
            name, number = f"{wanted}_{number}", number + 1
        self._meanings[name] = ""
        return name

    def reference(self, value: object) -> str | None:
        """An expression for a class, a function or a module, which is imported; None where it cannot be."""
        if isinstance(value, ModuleType):
            return self._dotted(value.__name__) if importable(value.__name__) else None
        place = home(value)
        if place is None:
            return None
        module, name = place
        return name if module == "builtins" else f"{self._dotted(module)}.{name}"

    def _dotted(self, module: str) -> str:
        """The expression for a module after `import a.b`, which gives the name `a` a meaning."""
        self.modules.add(module)
        if module in AT_HAND:
            return module.rpartition(".")[2]
        top = module.partition(".")[0]
        if self._meanings.setdefault(top, f"import {top}") != f"import {top}":
            raise InputError(f"code of the model calls something {top}, which is the name of a package that it needs")
        self.statements[f"import {module}"] = None
        return module

    def bind(self, name: str, value: object, origin: str) -> str | None:
        """The name under which copied code finds what its own module, `origin`, has under `name`: an import.

        None where nothing can be imported.
        """
        source = _source(name, value, origin)
        if source is None:
            return None
        module, start, label = source
        self.modules.add(module)
        if AT_HAND.get(module) == f"{start} {label}" and label == name:
            return name
        for known, meaning in self._meanings.items():
            if meaning == _meaning(source, known):
                return known
        new = name if name not in self._meanings else self.unique(name)
        self._meanings[new] = _meaning(source, new)
        self.statements[self._meanings[new]] = None
        return new


def _meaning(source: tuple[str, str, str], name: str) -> str:
    _, start, label = source
    return f"{start} {label}" + ("" if label == name else f" as {name}")


def _source(name: str, value: object, origin: str) -> tuple[str, str, str] | None:
    """The module that gives a value, and the import statement: how it begins, and what it names."""
    if isinstance(value, ModuleType):
        own = value.__name__
        if own in AT_HAND:
            start, _, label = AT_HAND[own].rpartition(" ")
            return own, start, label
        return (own, "import", own) if importable(own) else None
    place = home(value)
    if place is not None and "." not in place[1]:
        return place[0], f"from {place[0]} import", place[1]
    if importable(origin):
        for label in (name, *vars(sys.modules[origin])):
            if found(origin, label) is value:
                return origin, f"from {origin} import", label
    return None
