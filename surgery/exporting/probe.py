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
MODULE, TASK, INPUTS, OUTPUTS = "model.py", "task.pt", "inputs.pt", "outputs.pt"
DEEPEST = 8  # what holds itself ends there


def told(value: Any, place: str = "output", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Each tensor and each plain value in an output, with its place; of what holds neither, the name of its class."""
    if value is None or isinstance(value, torch.Tensor | bool | int | float | str):
        yield place, value
        return
    items: Any = ()
    if isinstance(value, Mapping):
        items = [(f"[{key!r}]", item) for key, item in value.items()]
    elif isinstance(value, list | tuple):
        items = [(f"[{number}]", item) for number, item in enumerate(value)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif not isinstance(value, type | torch.nn.Module) and hasattr(value, "__dict__"):
        items = [(f".{key}", item) for key, item in vars(value).items()]
    yield f"the class of {place}", type(value).__name__
    for key, item in items if depth < DEEPEST else ():
        yield from told(item, place + key, depth + 1)


def run(job: Path) -> None:
    """Do what the job says: import, run on each of the inputs from a state of its own, write what came out."""
    task: dict[str, Any] = torch.load(job / TASK, weights_only=True)
    sys.path[:] = task["path"]
    sys.modules[LIBRARY] = None  # type: ignore[assignment]
    torch.set_num_threads(task["threads"])
    torch.set_default_dtype(task["dtype"])
    torch.backends.mha.set_fastpath_enabled(False)
    spec = importlib.util.spec_from_file_location("model", job / MODULE)
    assert spec is not None and spec.loader is not None
    module = sys.modules["model"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    given = torch.load(job / INPUTS, weights_only=False)
    torch.save([_output(module, args, kwargs) for args, kwargs in given], job / OUTPUTS)


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
