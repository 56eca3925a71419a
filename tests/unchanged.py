"""A picture of models and files, to show that a refused call has left everything as it was."""

from __future__ import annotations

import contextlib
import hashlib
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from surgery.twin.elastic import Elastic


def picture(model: nn.Module) -> list[Any]:
    """Module types, attributes, hooks, tensors by identity and value, and the widths of a wrapped model."""
    return [(path, type(module), _seen(vars(module))) for path, module in model.named_modules()]


def _seen(value: Any) -> Any:
    if isinstance(value, Tensor):
        values = () if value.is_meta else value.detach().double().nan_to_num(1e300).flatten().tolist()
        return id(value), value.dtype, value.shape, value.requires_grad, _seen(value.grad), values
    if isinstance(value, Elastic):
        state = value.state
        setting = state.setting
        now = setting.chosen, setting.current, setting.full, setting.pinned, state.forward.root
        return value.path, *map(_seen, now), id(state.plan), id(state.draw), state.pending
    if isinstance(value, weakref.ref):
        return "a weak reference"
    if isinstance(value, Mapping):
        return {key: _seen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [_seen(item) for item in value]
    return value if isinstance(value, int | float | str | type(None)) else id(value)


def files(folder: Path) -> dict[str, str]:
    """Every file below a folder, by the hash of its bytes."""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


@contextlib.contextmanager
def unchanged(*models: nn.Module, folder: Path | None = None) -> Iterator[None]:
    """Raise AssertionError where the block changes a model, a file below `folder`, or the global random state."""

    def now() -> list[Any]:
        return [*map(picture, models), folder and files(folder), torch.get_rng_state().tolist()]

    before = now()
    yield
    assert now() == before
