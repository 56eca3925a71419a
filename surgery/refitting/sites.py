"""Sites: calls that multiply by a parameter, as they are seen while a model runs.

`F.linear`, convolutions and `addmm` with a parameter of the model are sites, whatever module calls them. Their inputs
are the rows that a weight is fitted on: of a convolution, its patches.
"""

# R rows, I columns that a weight multiplies (of a convolution: channels times kernel), O outputs, C channels, N batch

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

ARGUMENTS: Mapping[str, Sequence[str]] = {
    "linear": ("input", "weight", "bias"),
    "addmm": ("bias", "input", "weight"),
    "conv1d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv3d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
}
OTHER_NAMES = {"self": "bias", "mat1": "input", "mat2": "weight"}
DESCRIPTIONS = frozenset("shape dim size numel dtype device requires_grad is_floating_point __get__".split())


@dataclass(frozen=True)
class Site:
    """Where a weight is used: the names of it and of the bias, and the dimensions of the weight that are O and I."""

    weight: str
    bias: str | None
    out: int
    inside: int

    def matrix(self, weight: Tensor) -> Tensor:
        """(O, I) the weight as a matrix: channels first, then the places of a kernel."""
        return (weight.t() if self.out else weight).flatten(1)

    def weight_of(self, matrix: Tensor, like: Tensor) -> Tensor:
        """The weight of a matrix, in the shape of another one but for its O and I."""
        shaped = matrix.reshape(matrix.shape[0], -1, *like.shape[2:])
        return shaped.t() if self.out else shaped


@dataclass(frozen=True)
class Visit:
    """One call at a site: what it was given, and how rows are made of that."""

    site: Site
    input: Tensor
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()

    @property
    def places(self) -> tuple[int, ...]:
        """How many places a kernel has, in each dimension."""
        sizes = zip(self.input.shape[2:], self.padding, self.kernel, self.dilation, self.stride, strict=True)
        return tuple((n + sum(p) - d * (k - 1) - 1) // s + 1 for n, p, k, d, s in sizes)

    @property
    def count(self) -> int:
        """How many rows there are."""
        return math.prod((self.input.shape[0], *self.places)) if self.kernel else self.input[..., 0].numel()

    def rows(self, index: Tensor) -> Tensor:
        """(R, I) some of the rows."""
        if not self.kernel:
            return self.input.reshape(-1, self.input.shape[-1])[index]
        batch, *at = torch.unravel_index(index, (self.input.shape[0], *self.places))
        padded = F.pad(self.input, [n for pair in reversed(self.padding) for n in pair])
        grid = torch.meshgrid(*map(torch.arange, self.kernel), indexing="ij")
        where = [
            a[:, None] * s + g.flatten() * d for a, g, s, d in zip(at, grid, self.stride, self.dilation, strict=True)
        ]
        patches = padded.movedim(1, -1)[(batch[:, None], *where)]  # (R, places of the kernel, C)
        return patches.transpose(1, 2).flatten(1)


class Listener(TorchFunctionMode):
    """Tells `visit` of every call at a site. `others` are the parameters that other calls use as well."""

    def __init__(self, names: Mapping[int, str], visit: Callable[[Visit], None]):
        super().__init__()
        self.names, self.visit = names, visit
        self.others: set[str] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = named(name, args, kwargs)
        visit = None if given is None else self.seen(name, given)
        if visit is not None:
            self.visit(visit)
        elif name not in DESCRIPTIONS:
            used = (*args, *kwargs.values())
            self.others |= {self.names[id(x)] for x in used if isinstance(x, Tensor) and id(x) in self.names}
        return func(*args, **kwargs)

    def seen(self, name: str, given: Mapping[str, Any]) -> Visit | None:
        """A call as a visit of a site; None where it is none: a weight that was computed, groups, odd padding."""
        weight, bias = given["weight"], given.get("bias")
        if id(weight) not in self.names or weight.dim() < 2 or (bias is not None and id(bias) not in self.names):
            return None
        known = None if bias is None else self.names[id(bias)]
        if name in ("linear", "addmm"):
            out = int(name == "addmm")
            return Visit(Site(self.names[id(weight)], known, out, 1 - out), given["input"].detach())
        n, input_ = weight.dim() - 2, given["input"].detach()
        padding = pads(given.get("padding", 0), weight.shape[2:], tuples(given.get("dilation", 1), n))
        if given.get("groups", 1) != 1 or padding is None:
            return None
        input_ = input_ if input_.dim() == weight.dim() else input_.unsqueeze(0)
        site = Site(self.names[id(weight)], known, 0, 1)
        return Visit(
            site, input_, tuples(given.get("stride", 1), n), padding, tuples(given.get("dilation", 1), n),
            tuple(weight.shape[2:]),
        )  # fmt: skip


def named(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a call that may be at a site, by name."""
    if name not in ARGUMENTS:
        return None
    given = dict(zip(ARGUMENTS[name], args, strict=False))
    given |= {OTHER_NAMES.get(key, key): value for key, value in kwargs.items()}
    plain = given.pop("beta", 1) == 1 and given.pop("alpha", 1) == 1
    return given if plain and {"input", "weight"} <= given.keys() else None


def tuples(value: int | Iterable[int], n: int) -> tuple[int, ...]:
    return (value,) * n if isinstance(value, int) else tuple(value) * (n if len(tuple(value)) == 1 else 1)


def pads(
    value: str | int | Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...] | None:
    """The zeros on both sides of each dimension."""
    if value == "same":
        total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((n // 2, n - n // 2) for n in total)
    if isinstance(value, str):
        return tuple((0, 0) for _ in kernel) if value == "valid" else None
    return tuple((n, n) for n in tuples(value, len(kernel)))
