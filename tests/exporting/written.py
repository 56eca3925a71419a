"""Written modules, imported in this process. What is proven in a process of its own is tested in `test_export.py`."""

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from safetensors.torch import save_file
from torch import nn

from surgery.exporting.module import Module, module_of


def imported(module: Module, folder: Path) -> ModuleType:
    """A written module as a process gets it that imports it."""
    (folder / "model.py").write_text(module.text)
    save_file(
        {name: tensor.contiguous().clone() for name, tensor in module.tensors.items()}, folder / "model.safetensors"
    )
    spec = importlib.util.spec_from_file_location(f"written_{folder.name}", folder / "model.py")
    assert spec is not None and spec.loader is not None
    made = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(made)
    finally:
        del sys.modules[spec.name]
    return made


def again(model: nn.Module, folder: Path) -> nn.Module:
    """A model that was written, and read."""
    made: nn.Module = imported(module_of(model), folder).model()
    return made


def packages(text: str) -> set[str]:
    """What a module imports, by the names of packages."""
    return set(_packages(ast.parse(text)))


def _packages(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]
