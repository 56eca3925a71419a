"""How far two outputs are apart: what is compared with what, by a table of types, and how."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn

from surgery.errors import ProofError
from surgery.nested import class_name

# Largest difference allowed, relative to the largest value of the output, by the coarsest float type that took part.
TOLERANCES: dict[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 8e-2,
}


def difference(left: object, right: object, tolerance: float | None = None, apart: Collection[str] = ()) -> float:
    """How far two outputs are apart, relative to the largest value of each tensor. Raises ProofError as `verify`.

    Objects of the classes that `apart` names are no difference.
    """
    pairs = _Comparison(apart).pairs("output", left, right)
    return max((_gap(place, a, b, tolerance) for place, a, b in pairs), default=0.0)


K = TypeVar("K")
Pairs: TypeAlias = "Iterator[tuple[str, Tensor, Tensor]]"  # where they are, and two tensors to compare


@runtime_checkable
class Array(Protocol):
    """An array or a scalar of numpy, or of a library like it."""

    shape: Any
    dtype: Any

    def __array__(self) -> object: ...
    def copy(self) -> Array: ...


@dataclass(frozen=True)
class _Comparison:
    """Two outputs, walked side by side down to their tensors. Raises ProofError where anything else differs."""

    apart: Collection[str]

    def pairs(self, place: str, left: object, right: object) -> Pairs:
        kind, other = _kind(left), _kind(right)
        if kind is not other or (kind.one_class and type(left) is not type(right)):
            raise ProofError(f"{place}: {type(left).__name__} against {type(right).__name__}")
        yield from kind.compare(self, place, left, right)

    def tensors(self, place: str, left: Tensor, right: Tensor) -> Pairs:
        yield place, left, right

    def items(self, place: str, left: Mapping[K, object], right: Mapping[K, object]) -> Pairs:
        if list(left) != list(right):
            raise ProofError(f"{place}: keys {list(left)} against {list(right)}")
        for key in left:
            yield from self.pairs(f"{place}[{key!r}]", left[key], right[key])

    def sequences(self, place: str, left: Sequence[object], right: Sequence[object]) -> Pairs:
        if len(left) != len(right):
            raise ProofError(f"{place}: {len(left)} values against {len(right)}")
        for i, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from self.pairs(f"{place}[{i}]", one, other)

    def values(self, place: str, left: object, right: object) -> Pairs:
        if left != right and not (left != left and right != right):  # a number that is none equals itself here
            raise ProofError(f"{place}: {left!r} against {right!r}")
        yield from ()

    def arrays(self, place: str, left: Array, right: Array) -> Pairs:
        try:
            a, b = torch.tensor(left.copy()), torch.tensor(right.copy())
        except (TypeError, ValueError):  # of a type that torch does not have
            if left.shape != right.shape or left.dtype != right.dtype or not _all(left == right):
                raise ProofError(f"{place}: {left!r} against {right!r}") from None
        else:
            yield place, a, b

    def objects(self, place: str, left: object, right: object) -> Pairs:
        if isinstance(left, type | nn.Module) or class_name(left) in self.apart:
            return
        attributes = _attributes(left)
        if attributes:
            yield from self.items(place, attributes, _attributes(right))
        elif type(left).__eq__(left, right) is False:  # by what the class says of it, not by identity
            raise ProofError(f"{place}: {left!r} against {right!r}")


@dataclass(frozen=True)
class _Kind:
    """Values of these types are compared with one another; with `one_class`, only those of the same class."""

    types: tuple[type, ...]
    compare: Callable[[_Comparison, str, Any, Any], Pairs]
    one_class: bool = False


_KINDS = (  # the first that fits
    _Kind((Tensor,), _Comparison.tensors),
    _Kind((Mapping,), _Comparison.items),
    _Kind((tuple, list), _Comparison.sequences),
    _Kind((bool,), _Comparison.values),
    _Kind((int,), _Comparison.values),
    _Kind((float, complex, str, bytes, torch.dtype, Set), _Comparison.values, one_class=True),
    _Kind((Array,), _Comparison.arrays, one_class=True),
    _Kind((object,), _Comparison.objects, one_class=True),
)


def _kind(value: object) -> _Kind:
    return next(kind for kind in _KINDS if isinstance(value, kind.types))


def _attributes(value: object) -> Mapping[str, object]:
    """What an object holds under names."""
    if hasattr(value, "__dict__"):
        return vars(value)
    if dataclasses.is_dataclass(value):  # with slots
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    return {}


def _all(outcome: Any) -> bool:
    return bool(outcome.all() if hasattr(outcome, "all") else outcome)


def _gap(place: str, a: Tensor, b: Tensor, tolerance: float | None) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ProofError(f"{place}: {a.dtype} {list(a.shape)} against {b.dtype} {list(b.shape)}")
    if not (a.is_floating_point() or a.is_complex()):
        if not torch.equal(a, b):
            raise ProofError(f"{place}: {int((a != b).sum())} of {a.numel()} {a.dtype} values differ")
        return 0.0
    if a.isnan().any() or b.isnan().any():
        raise ProofError(f"{place} holds NaN: {int(a.isnan().sum())} values against {int(b.isnan().sum())}")
    allowed = TOLERANCES.get(a.dtype, 1e-4) if tolerance is None else tolerance
    same = a == b  # equal infinities are no difference
    gap = torch.where(same, 0.0, (a - b).abs()).max().item() if a.numel() else 0.0
    finite = b.abs()[b.isfinite()]
    scale = finite.max().item() if finite.numel() else 0.0
    error = gap / scale if scale else gap
    if not error <= allowed:
        raise ProofError(f"{place} differs by {error:.2e} of its scale ({allowed:.0e} is allowed)")
    return error
