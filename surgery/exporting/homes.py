"""Where another process imports a class, a function or a module from; if it can, without this library."""

from __future__ import annotations

import functools
import sys
from types import FunctionType, ModuleType

LIBRARY = __name__.partition(".")[0]
NAME = "model"  # of the written module, which hides a package of that name
# Modules that give names to functions of C, which do not know where they belong.
_OF_C = ("torch", "torch.nn.functional", "torch.special", "math", "operator", "builtins")


def home(value: object) -> tuple[str, str] | None:
    """The module and the name in it that give this very class or function; None where there are none.

    Of several modules that have it under the same name, it is the outermost package, which is what people import from.
    """
    name = getattr(value, "__qualname__", None)
    if not isinstance(name, str) or "<" in name:
        return None
    own = getattr(value, "__module__", None)
    for module in (own, *_OF_C):
        for label in dict.fromkeys((name, name.rpartition(".")[2])):
            if isinstance(module, str) and importable(module) and found(module, label) is value:
                return _outermost(module, label, value), label
    return None


def found(module: str, name: str) -> object:
    """What stands under a name, with dots in it, in an imported module; None where nothing does."""
    value: object = sys.modules[module]
    try:
        for part in name.split("."):
            value = getattr(value, part)
    except Exception:  # modules that load on demand fail in their own ways
        return None
    return value


def _outermost(module: str, name: str, value: object) -> str:
    parts = module.split(".")
    above = (".".join(parts[:end]) for end in range(1, len(parts)))
    return next((one for one in above if importable(one) and found(one, name) is value), module)


@functools.lru_cache(maxsize=4096)
def importable(name: str) -> bool:
    """Whether a module that is here can be imported in another process where this library is not."""
    module = sys.modules.get(name)
    if module is None or name in ("__main__", "__mp_main__") or name.partition(".")[0] in (LIBRARY, NAME):
        return False
    spec = getattr(module, "__spec__", None)
    return spec is not None and spec.name == name and not _uses_library(module)


def _uses_library(module: ModuleType) -> bool:
    """Whether a file of somebody names something of the library. What `torch.compile` adds begins with underscores."""
    return any(_origin(value) == LIBRARY for name, value in list(vars(module).items()) if not name.startswith("__"))


def _origin(value: object) -> str:
    if isinstance(value, ModuleType):
        return value.__name__.partition(".")[0]
    own = value.__module__ if isinstance(value, type | FunctionType) else ""
    return own.partition(".")[0] if isinstance(own, str) else ""


def versions(modules: list[str]) -> str:
    """The packages that these modules are of, with their versions where they tell them."""
    tops = sorted({name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names))
    told = [f"{top} {getattr(sys.modules.get(top), '__version__', '')}".partition("+")[0].strip() for top in tops]
    return ", ".join(told)
