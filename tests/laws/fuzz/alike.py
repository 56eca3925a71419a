"""Whether two things that modules returned or kept are the same, to rounding. Knows nothing of the library."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

EXACT = 1e-9  # of the larger one's scale
OPAQUE = (nn.Module, FunctionType, MethodType, torch.Generator)
OWN = frozenset(vars(nn.Module())) | {"surgery_record", "forward"}


def gap(place: str, a: Any, b: Any, tolerance: float = EXACT) -> str | None:
    """Where two values differ first, or None."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return _tensors(place, a.detach(), b.detach(), tolerance)
    if isinstance(a, OPAQUE) or isinstance(b, OPAQUE) or callable(a):
        return None
    left, right = parts(a), parts(b)
    if left is None or right is None:
        return None if _equal(a, b, tolerance) else f"{place}: {a!r} against {b!r}"
    if list(left) != list(right):
        return f"{place}: {list(left)} against {list(right)}"
    found = (gap(f"{place}.{key}", left[key], right[key], tolerance) for key in left)
    return next((one for one in found if one is not None), None)


def _tensors(place: str, a: Tensor, b: Tensor, tolerance: float) -> str | None:
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{place}: {tuple(a.shape)} {a.dtype} against {tuple(b.shape)} {b.dtype}"
    if not a.numel() or torch.equal(a, b):
        return None
    x, y = a.double(), b.double()
    scale = max(1e-3, float(x.abs().nan_to_num(0, 0, 0).max()))
    if torch.allclose(x, y, rtol=0, atol=tolerance * scale, equal_nan=True):
        return None
    return f"{place}: values differ by {float((x - y).abs().max()):.2e} of {scale:.2e}"


def _equal(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float | int):
        return abs(a - b) <= tolerance * max(1.0, abs(a)) or (a != a and b != b)
    return bool(a == b) if type(a) is type(b) or isinstance(a, int | str) else True


def parts(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if isinstance(value, list | tuple | deque):
        return dict(enumerate(value))
    if isinstance(value, SimpleNamespace):
        return vars(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def kept(model: nn.Module, names: Mapping[str, list[str]]) -> dict[str, Any]:
    """What the modules of a model hold in attributes of these names, as code sees it; tensors are copied."""
    modules = dict(model.named_modules())
    return {
        f"{path}:{name}": _copied(getattr(modules[path], name, None)) for path, own in names.items() for name in own
    }


def attributes(model: nn.Module) -> dict[str, list[str]]:
    """The names of what each module of a program's own class holds of its own, buffers included."""
    return {
        path: [name for name in {**vars(module), **module._buffers} if name not in OWN]
        for path, module in model.named_modules()
        if not type(module).__module__.startswith(("torch.", "surgery."))
    }


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) in (list, tuple, deque):
        return [_copied(one) for one in value]
    if isinstance(value, SimpleNamespace):
        return SimpleNamespace(**_copied(vars(value)))
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return value


def tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a value."""
    if isinstance(value, Tensor):
        yield value
    else:
        for one in (parts(value) or {}).values():
            yield from tensors(one)


def loss(value: Any) -> Tensor:
    """A scalar in which every output matters."""
    found = [t for t in tensors(value) if t.is_floating_point()]
    return torch.stack([(t * torch.linspace(-1, 2, t.numel()).view(t.shape)).sum() for t in found]).sum()
