"""A process of its own that imports a written module where the library is not, runs the model, and leaves its outputs.

It is started by its path, as a script, and knows nothing of the library; what started it reads outputs in the same way.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import random
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

LIBRARY = "surgery"


def told(value: Any, place: str = "output") -> Iterator[tuple[str, Any]]:
    """Each tensor and each plain value in an output, with its place; of anything else the name of its class."""
    if isinstance(value, torch.Tensor):
        yield place, value
    elif value is None or isinstance(value, bool | int | float | str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from told(item, f"{place}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from told(item, f"{place}[{number}]")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from told(getattr(value, field.name), f"{place}.{field.name}")
    elif vars_of := getattr(value, "__dict__", None):
        for key, item in vars_of.items():
            yield f"{place}.{key}", type(item).__name__
    else:
        yield place, type(value).__name__


def run(job: Path) -> None:
    """Do what the job says: import, run on each of the inputs from a state of its own, write what came out."""
    task: dict[str, Any] = torch.load(job / "task.pt", weights_only=True)
    sys.path[:] = task["path"]
    sys.modules[LIBRARY] = None  # type: ignore[assignment]
    torch.set_num_threads(task["threads"])
    torch.set_default_dtype(task["dtype"])
    torch.backends.mha.set_fastpath_enabled(False)
    spec = importlib.util.spec_from_file_location("model", task["file"])
    assert spec is not None and spec.loader is not None
    module = sys.modules["model"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = torch.load(job / "inputs.pt", weights_only=False)
    torch.save([_output(module, args, kwargs) for args, kwargs in given], job / "outputs.pt")


def _output(module: Any, args: Any, kwargs: Any) -> dict[str, Any]:
    model = module.model()
    torch.manual_seed(0)
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    with torch.no_grad():
        return dict(told(model(*args, **kwargs)))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
