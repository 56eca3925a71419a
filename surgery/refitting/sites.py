"""Sites: calls that multiply by a parameter, as they are seen while a model runs.

`F.linear`, convolutions, `addmm` and the first layer of recurrences with a parameter of the model are sites, whatever
module calls them. Their inputs are the rows that a weight is fitted on: of a convolution, its patches. Each group of a
grouped convolution is a site of its own; where it reads one channel, nothing of that can be cut, and it is none.
"""

# R rows, I columns that a weight multiplies (of a convolution: channels times kernel), O outputs, C channels, N batch

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

ARGUMENTS: Mapping[str, Sequence[str]] = {
    "linear": ("input", "weight", "bias"),
    "addmm": ("bias", "input", "weight"),
    "conv1d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "conv3d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
}
RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu"})
OTHER_NAMES = {"self": "bias", "mat1": "input", "mat2": "weight"}


@dataclass(frozen=True)
class Site:
    """Where a weight is used: the names of it and of the bias, and the dimensions of the weight that are O and I.

    Of a grouped convolution, one of its groups: a site has the weights of its outputs alone.
    """

    weight: str
    bias: str | None
    out: int
    inside: int
    group: int = 0

    def matrix(self, weight: Tensor) -> Tensor:
        """(O, I) the weight as a matrix: channels first, then the places of a kernel."""
        return (weight.t() if self.out else weight).flatten(1)

    def weight_of(self, matrix: Tensor, like: Tensor) -> Tensor:
        """The weight of a matrix, in the shape of another one but for its O and I."""
        shaped = matrix.reshape(matrix.shape[0], -1, *like.shape[2:])
        return shaped.t() if self.out else shaped


@dataclass(frozen=True)
class Visit:
    """One call at a site: what it was given, how rows are made of that, and which outputs of the weight are its.

    Where it is known what its output is added to, `added` is that.
    """

    site: Site
    input: Tensor
    outputs: slice = field(default_factory=lambda: slice(None))
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: tuple[int, ...] = ()
    kernel: tuple[int, ...] = ()
    added: Tensor | None = None

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

    def addend(self, index: Tensor) -> Tensor | None:
        """(R, O) some of the rows of what the output is added to; None where that is not known."""
        if self.added is None or self.added.dim() < 2:
            return None
        channels = self.added.movedim(1, -1) if self.kernel else self.added
        rows = channels.reshape(-1, channels.shape[-1])
        return rows[index] if len(rows) == self.count else None


@dataclass(frozen=True)
class Addend:
    """Where to find what a site's output is added to: the number of the call that makes it, and that of the site."""

    number: int
    site: int


class Listener(TorchFunctionMode):
    """Tells `visit` of every call at a site. `others` are the parameters that other calls use as well.

    `addends` tells for sites which call makes what their output is added to; see `Sums`. It is believed where as many
    calls have come before the site as there.
    """

    def __init__(
        self, names: Mapping[int, str], visit: Callable[[Visit], None], addends: Mapping[Site, Addend] | None = None
    ):
        super().__init__()
        self.names, self.visit, self.addends_of = names, visit, addends or {}
        self.others = set[str]()
        self.calls = 0
        self.wanted = Counter(addend.number for addend in self.addends_of.values())  # by so many sites that come yet
        self.kept: dict[int, Any] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = named(name, args, kwargs)
        visits = self.recurrent(args) if name in RECURRENT else [] if given is None else self.seen(name, given)
        for visit in visits:
            self.visit(replace(visit, added=self._addend(visit.site)))
        result = func(*args, **kwargs)
        self.calls += 1
        if self.wanted[self.calls] > 0:
            self.kept[self.calls] = result
        self._count((args, kwargs), visits, result)
        self.made(name, (args, kwargs), visits, result)
        return result

    def _addend(self, site: Site) -> Tensor | None:
        """What the output of a site is added to; it is not held any longer than sites want it."""
        addend = self.addends_of.get(site)
        if addend is None:
            return None
        self.wanted[addend.number] -= 1
        held = self.kept.get if self.wanted[addend.number] > 0 else self.kept.pop
        found = held(addend.number, None)
        return found if isinstance(found, Tensor) and addend.site == self.calls + 1 else None

    def _count(self, given: Any, visits: list[Visit], result: Any) -> None:
        """Note the parameters that a call uses otherwise than as a site: what it makes holds their values."""
        known = {name for visit in visits for name in (visit.site.weight, visit.site.bias)}
        if any(isinstance(x, Tensor) for x in pytree.tree_leaves(result)):
            used = {self.names[id(x)] for x in pytree.tree_leaves(given) if id(x) in self.names}
            self.others |= used - known

    def made(self, name: str, given: Any, visits: list[Visit], result: Any) -> None:
        """Called after each call."""

    def seen(self, name: str, given: Mapping[str, Any]) -> list[Visit]:
        """A call as visits of sites; none where it is none: a weight that was computed, odd padding."""
        weight, bias = given["weight"], given.get("bias")
        if id(weight) not in self.names or weight.dim() < 2:
            return []
        if bias is not None and (id(bias) not in self.names or bias.dim() != 1):
            return []
        known = None if bias is None else self.names[id(bias)]
        if name in ("linear", "addmm"):
            out = int(name == "addmm")
            return [Visit(Site(self.names[id(weight)], known, out, 1 - out), given["input"].detach())]
        n, input_, groups = weight.dim() - 2, given["input"].detach(), given.get("groups", 1)
        dilation = tuples(given.get("dilation", 1), n)
        padding = pads(given.get("padding", 0), weight.shape[2:], dilation)
        if padding is None or (groups > 1 and weight.shape[1] == 1):
            return []
        input_ = input_ if input_.dim() == weight.dim() else input_.unsqueeze(0)
        each = len(weight) // groups
        return [
            Visit(
                Site(self.names[id(weight)], known, 0, 1, group), channels, slice(group * each, (group + 1) * each),
                tuples(given.get("stride", 1), n), padding, dilation, tuple(weight.shape[2:]),
            )
            for group, channels in enumerate(input_.chunk(groups, 1))
        ]  # fmt: skip

    def recurrent(self, args: Sequence[Any]) -> list[Visit]:
        """What the first layer of a recurrence reads, in each direction: of later ones, torch shows no inputs."""
        packed = isinstance(args[1], Tensor) and not args[1].is_floating_point()
        weights, biased, layers, _, _, both, *_ = args[3:] if packed else args[2:]
        count, found = len(weights) // (layers * (1 + both)), []
        for at in range(0, count * (1 + both), count):
            weight, bias = weights[at], weights[at + 2] if biased else None
            if id(weight) in self.names and (bias is None or id(bias) in self.names):
                known = None if bias is None else self.names[id(bias)]
                found.append(Visit(Site(self.names[id(weight)], known, 0, 1), args[0].detach()))
        return found


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
