"""Calls of every operation that has a rule: tables of names, and how arguments for them are drawn.

A maker takes a `Draw` and returns the arguments. An operation is called with what every maker of its entries makes, in
every spelling; what a spelling does not accept is left out, but each spelling must accept something.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor

from surgery.capture.recorder import call_name
from surgery.rules.registry import RULES


@dataclass
class Draw:
    """What makers draw from."""

    random: Random
    generator: torch.Generator

    def pick(self, *options: Any) -> Any:
        return self.random.choice(options)

    def between(self, least: int, most: int) -> int:
        return self.random.randint(least, most)

    def size(self) -> int:
        return self.pick(2, 3, 4, 6)

    def shape(self, least: int = 1, most: int = 3) -> list[int]:
        return [self.size() for _ in range(self.between(least, most))]

    def dim(self, x: Tensor) -> int:
        """A dimension, from the front or from the back."""
        return self.between(-x.dim(), x.dim() - 1)

    def two(self, x: Tensor) -> tuple[int, int]:
        """Two different dimensions."""
        i = self.between(0, x.dim() - 1)
        j = (i + self.between(1, x.dim() - 1)) % x.dim()
        return self.pick(i, i - x.dim()), self.pick(j, j - x.dim())

    def ints(self, *shape: int) -> Tensor:
        """Different integers, as floating point numbers."""
        return torch.randperm(math.prod(shape), generator=self.generator).view(shape).double()

    def real(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def unit(self, *shape: int) -> Tensor:
        """Between 0 and 1."""
        return torch.rand(shape, generator=self.generator, dtype=torch.float64) * 0.9 + 0.05

    def complex(self, *shape: int) -> Tensor:
        return torch.complex(self.real(*shape), self.real(*shape))

    def bools(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator) > 0.5

    def ids(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, shape, generator=self.generator)

    def distinct(self, high: int, n: int) -> Tensor:
        return torch.randperm(high, generator=self.generator)[:n]

    def x(self, least: int = 1, most: int = 3) -> Tensor:
        return self.ints(*self.shape(least, most))

    def near(self, shape: list[int]) -> list[int]:
        """A shape that broadcasts to this one."""
        kept = shape[self.between(0, len(shape)) :]
        return [self.pick(n, n, 1) for n in kept]


Arguments = tuple[tuple[Any, ...], dict[str, Any]]
Maker = Callable[[Draw], Arguments]


def call(*args: Any, **kwargs: Any) -> Arguments:
    return args, kwargs


@dataclass
class Entry:
    makers: list[Maker]
    mixes: bool = False  # results depend on how many units a free axis has, as those of a sum do
    least: int = 1  # how many units a free axis keeps at least, where one alone is an error
    filled: bool = True  # whether the results have values
    views: bool = True  # whether views of other tensors are fine as arguments


TABLE: defaultdict[str, list[Entry]] = defaultdict(list)


def calls(names: str, *makers: Maker, **options: Any) -> None:
    for name in names.split():
        TABLE[name].append(Entry(list(makers), **options))


def family(one: str, *makers: Maker, mixes: bool = False, but: str = "") -> None:
    """For every operation with the rule of this one."""
    rules = [(plain(function), rule) for function, rule in RULES.items()]
    (meant,) = {rule for name, rule in rules if name == one}
    for name in {name for name, rule in rules if rule is meant} - set(but.split()):
        TABLE[name].append(Entry(list(makers), mixes))


def plain(function: Any) -> str:
    """The name of an operation, the same for its in-place form."""
    name = function if isinstance(function, str) else call_name(function)
    return name if name.endswith("__") else name.rstrip("_")


# --- families ---


def _broadcast(make: Callable[[Draw], Callable[..., Tensor]], n: int) -> Maker:
    def maker(d: Draw) -> Arguments:
        shape, values = d.shape(), make(d)
        return call(values(*shape), *(values(*d.near(shape)) for _ in range(n - 1)))

    return maker


def _whole(d: Draw) -> Callable[..., Tensor]:
    return lambda *shape: d.ids(5, *shape) + 1


family(
    "add",
    *(_broadcast(lambda d: d.unit, n) for n in (1, 2, 3)),
    _broadcast(_whole, 1),
    _broadcast(_whole, 2),
    _broadcast(lambda d: d.bools, 2),
    _broadcast(lambda d: d.complex, 1),
    lambda d: call(d.real(*d.shape()), 0.5),
    lambda d: call(d.real(*d.shape()), 0.25, 0.5),
    lambda d: call(d.ids(9, *d.shape()), 3),
)
family(
    "eq",
    _broadcast(_whole, 2),
    _broadcast(lambda d: d.bools, 2),
    lambda d: call(d.ids(9, *d.shape()), 3),
)
calls("masked_fill", lambda d: (lambda s: call(d.x(0, 0).new_zeros(s), d.bools(*d.near(s)), 3.0))(d.shape()))
calls("ldexp", lambda d: (lambda s: call(d.real(*s), d.ids(4, *s)))(d.shape()))
_SHARES = "softmax log_softmax softmin normalize special_softmax special_log_softmax"
_DROPOUTS = "dropout dropout1d dropout2d dropout3d alpha_dropout feature_dropout feature_alpha_dropout"
family(
    "clone",
    lambda d: call(d.x()),
    lambda d: call(d.x(), torch.float32),
    lambda d: call(d.x(), 2.0),
    lambda d: call(d.x(), d.x()),
    but=f"{_DROPOUTS} {_SHARES} empty_like",
)
calls(_DROPOUTS, *(lambda d, n=n: call(d.x(n, n), 0.5, False) for n in range(1, 6)))
calls("empty_like", lambda d: call(d.x()), filled=False)
calls(
    _SHARES,
    lambda d: (lambda x: call(x, dim=d.dim(x)))(d.real(*d.shape())),
    lambda d: (lambda x: call(x, d.dim(x), dtype=torch.float64))(d.real(*d.shape())),
    lambda d: (lambda x: call(x, 2.0, d.dim(x)))(d.real(*d.shape())),
    mixes=True,
)
family(
    "sum",
    lambda d: call(d.x()),
    lambda d: (lambda x: call(x, d.dim(x)))(d.x()),
    lambda d: (lambda x: call(x, dim=d.dim(x), keepdim=d.pick(True, False)))(d.x()),
    lambda d: (lambda x: call(x, axis=d.dim(x)))(d.x()),
    lambda d: (lambda x: call(x, d.two(x), d.pick(True, False)))(d.x(2)),
    mixes=True,
)
for _name in ("std", "norm", "max", "argmax"):
    family(
        _name,
        lambda d: call(d.x()),
        lambda d: (lambda x: call(x, dim=d.dim(x)))(d.x()),
        lambda d: (lambda x: call(x, dim=d.dim(x), keepdim=True))(d.x()),
        lambda d: (lambda x: call(x, axis=d.dim(x), keepdims=True))(d.x()),
        mixes=True,
    )
calls("std var", lambda d: (lambda x: call(x, d.dim(x), d.pick(True, False), True))(d.x()), mixes=True)
calls("std var", lambda d: (lambda x: call(x, d.two(x), correction=0))(d.x(2)), mixes=True)
calls("norm", lambda d: (lambda x: call(x, d.pick(1, 2, "fro"), d.dim(x), True))(d.x()), mixes=True)
calls("linalg_norm linalg_vector_norm", lambda d: (lambda x: call(x, 2, d.dim(x)))(d.x()), mixes=True)
calls("linalg_norm", lambda d: call(d.x(2, 2), d.pick(1, 2, "nuc")), mixes=True)
calls("max min median mode nanmedian", lambda d: (lambda x: call(x, d.dim(x), True))(d.x()), mixes=True)
calls("max min", _broadcast(lambda d: d.ints, 2))
for _name in ("cumsum", "cumprod"):
    family(
        _name,
        lambda d: call(d.x()),
        lambda d: (lambda x: call(x, d.dim(x)))(d.x()),
        lambda d: (lambda x: call(x, dim=d.dim(x)))(d.x()),
        lambda d: (lambda x: call(x, axis=d.dim(x)))(d.x()),
    )
calls("sort argsort", lambda d: (lambda x: call(x, stable=True, dim=d.dim(x), descending=True))(d.x()))
calls("msort", lambda d: call(d.x()))
family(
    "interpolate",
    lambda d: call(d.x(4, 4), scale_factor=2, mode="nearest"),
    lambda d: call(d.x(3, 3), size=5, mode="linear"),
    lambda d: call(d.x(4, 4), (3, 3)),
    lambda d: call(d.real(*d.shape(2, 2), 4, 4), scale_factor=2),
)

# --- contractions ---


def _linear(d: Draw) -> Arguments:
    i, o = d.size(), d.size()
    return call(d.real(*d.shape(0, 2), i), d.real(o, i), *([d.real(o)] if d.pick(True, False) else []))


def _matrices(d: Draw) -> Arguments:
    n, k, m = d.size(), d.size(), d.size()
    batch = d.shape(0, 2)
    return call(d.real(*batch, n, k), d.real(*d.near(batch), k, m))


def _added(d: Draw) -> Arguments:
    n, k, m = (d.size() for _ in range(3))
    return call(d.real(*d.near([n, m])), d.real(n, k), d.real(k, m), beta=0.5, alpha=2)


def _batch_added(*kept: int) -> Maker:
    def maker(d: Draw) -> Arguments:
        sizes = [d.size() for _ in range(4)]
        b, n, k, m = sizes
        return call(d.real(*([b, n, m][i] for i in kept)), d.real(b, n, k), d.real(b, k, m))

    return maker


calls("linear", _linear, mixes=True)
calls("linear", lambda d: (lambda n: call(d.real(3, n), weight=d.real(n)))(d.size()), mixes=True)
calls(
    "linear",
    lambda d: (lambda i, o: call(input=d.real(3, i), weight=d.real(o, i), bias=d.real(o)))(d.size(), d.size()),
    mixes=True,
)
calls(
    "bilinear",
    lambda d: (lambda b, i, j, o: call(d.real(b, i), d.real(b, j), d.real(o, i, j), d.real(o)))(
        *(d.size() for _ in range(4))
    ),
    mixes=True,
)
_matmuls = "matmul linalg_matmul __matmul__ __rmatmul__"
calls(_matmuls, _matrices, mixes=True)
calls(_matmuls, lambda d: (lambda n: call(d.real(2, 3, n), d.real(n)))(d.size()), mixes=True)
calls(_matmuls, lambda d: (lambda n: call(d.real(n), d.real(n, 3)))(d.size()), mixes=True)
calls(_matmuls + " dot", lambda d: (lambda n: call(d.real(n), d.real(n)))(d.size()), mixes=True)
calls(
    "__rmatmul__",
    lambda d: (lambda n, k, m: call(d.real(k, m), d.real(n, k)))(d.size(), d.size(), d.size()),
    mixes=True,
)
calls("mm", lambda d: (lambda n, k, m: call(d.real(n, k), mat2=d.real(k, m)))(d.size(), d.size(), d.size()), mixes=True)
calls("mm", lambda d: (lambda n, k, m: call(d.real(n, k), d.real(k, m)))(d.size(), d.size(), d.size()), mixes=True)
calls(
    "_sparse_mm",
    lambda d: (lambda n, k, m: call(d.real(n, k), d.real(k, m)))(d.size(), d.size(), d.size()),
    mixes=True,
)
calls(
    "bmm", lambda d: (lambda b, n, k: call(d.real(b, n, k), d.real(b, k, 3)))(d.size(), d.size(), d.size()), mixes=True
)
calls("mv", lambda d: (lambda n, k: call(d.real(n, k), d.real(k)))(d.size(), d.size()), mixes=True)
calls(
    "addmm",
    _added,
    lambda d: (lambda n, k, m: call(d.real(n, m), d.real(n, k), d.real(k, m)))(d.size(), d.size(), d.size()),
    mixes=True,
)
calls("addmv", lambda d: (lambda n, k: call(d.real(n), d.real(n, k), d.real(k)))(d.size(), d.size()), mixes=True)
calls("baddbmm", _batch_added(0, 1, 2), mixes=True)
calls("addbmm", _batch_added(1, 2), mixes=True)
calls("outer ger", lambda d: call(d.x(1, 1), d.x(1, 1)))
calls(
    "einsum",
    lambda d: (lambda b, n, k, m: call("bnk,km->bnm", d.real(b, n, k), d.real(k, m)))(*(d.size() for _ in range(4))),
    mixes=True,
)
calls(
    "einsum", lambda d: (lambda n: call("...ij,...kj->...ki", d.real(2, 3, n), d.real(2, 4, n)))(d.size()), mixes=True
)
calls("einsum", lambda d: (lambda n: call("ii->i", d.ints(n, n)))(d.size()), mixes=True)
calls("einsum", lambda d: (lambda n: call("ij,jk", d.ints(n, 3), d.ints(3, 2)))(d.size()), mixes=True)
calls("einsum", lambda d: (lambda n: call("ij, j -> i", [d.ints(n, 3), d.ints(3)]))(d.size()), mixes=True)


def _attention(d: Draw) -> Arguments:
    b, h, t, s, e, v = (d.size() for _ in range(6))
    mask = d.pick(None, d.bools(t, s) | True, d.real(t, s))
    return call(
        d.real(b, h, t, e),
        d.real(b, h, s, e),
        d.real(b, h, s, v),
        mask,
        0.0,
        mask is None and d.pick(0, 1) == 1,
        scale=0.5,
    )


def _grouped_attention(d: Draw) -> Arguments:
    b, h, r, t, e = d.size(), d.pick(2, 3), d.pick(1, 2, 3), d.size(), d.size()
    keys = d.real(b, h, t, e), d.real(b, h, t, e)
    return call(d.real(b, h * r, t, e), key=keys[0], value=keys[1], enable_gqa=True, scale=0.5)


calls("scaled_dot_product_attention", _attention, _grouped_attention, mixes=True)


def _many_heads(d: Draw) -> Arguments:
    h, k, t, s, n, o = d.pick(1, 2, 3), d.pick(2, 3), d.size(), d.size(), d.size(), d.size()
    e = h * k
    padding, mask = d.pick(None, d.real(n, s)), d.pick(None, d.real(t, s), d.real(n * h, t, s))
    tail = d.real(o, e), d.real(o), False, padding, d.pick(True, False), mask
    parts = {"average_attn_weights": d.pick(True, False)}
    if d.pick(True, False):
        q, kv = d.real(t, n, e), d.real(s, n, e)
        return call(q, kv, kv + 1, e, h, d.real(3 * e, e), d.real(3 * e), None, None, False, 0.0, *tail, **parts)
    a, b = d.size(), d.size()
    weights = {"q_proj_weight": d.real(e, e), "k_proj_weight": d.real(e, a), "v_proj_weight": d.real(e, b)}
    q, key, value = d.real(t, n, e), d.real(s, n, a), d.real(s, n, b)
    parts |= {"use_separate_proj_weight": True, **weights}
    return call(q, key, value, e, h, None, d.real(3 * e), None, None, False, 0.0, *tail, **parts)


calls("multi_head_attention_forward", _many_heads, mixes=True)


def _conv(n: int, transposed: bool = False) -> Maker:
    def maker(d: Draw) -> Arguments:
        g, i, o, k = d.pick(1, 1, 2), d.pick(2, 3), d.pick(2, 3), d.pick(1, 2)
        weight = (g * i, o) if transposed else (g * o, i)
        batch = d.pick([], [2])
        x, w = d.real(*batch, g * i, *[4] * n), d.real(*weight, *[k] * n)
        bias = d.real(g * o) if d.pick(True, False) else None
        return call(x, w, bias, stride=d.pick(1, 2), padding=d.pick(0, 1), groups=g)

    return maker


for _n in (1, 2, 3):
    calls(f"conv{_n}d", _conv(_n), mixes=True)
    calls(f"conv_transpose{_n}d", _conv(_n, transposed=True), mixes=True)
calls("conv1d", lambda d: call(d.real(2, 3, 5), d.real(4, 3, 2), None, 1, "same"), mixes=True)
calls("conv2d", lambda d: call(input=d.real(2, 3, 5, 5), weight=d.real(4, 3, 2, 2), stride=1, padding=1), mixes=True)
calls(
    "embedding",
    lambda d: (lambda n, e, s: call(d.ids(n, *s), d.ints(n, e)))(d.size(), d.size(), d.shape(0, 2)),
    lambda d: (lambda n, e, s: call(d.ints(n, e), d.ids(n, *s)))(d.size(), d.size(), d.shape(0, 2)),
)
calls("layer_norm rms_norm", lambda d: (lambda n: call(d.real(2, 3, n), (n,), d.real(n)))(d.size()), mixes=True)
calls(
    "layer_norm",
    lambda d: (lambda a, b: call(d.real(2, a, b), (a, b), d.real(a, b), d.real(a, b)))(d.size(), d.size()),
    mixes=True,
)
calls(
    "batch_norm",
    lambda d: (lambda c: call(d.real(2, c, *d.shape(0, 2)), d.real(c), d.unit(c), d.real(c), d.real(c)))(d.size()),
    mixes=True,
)
calls(
    "batch_norm",
    lambda d: (lambda c, n: call(d.real(1, c, n), None, None, d.real(c), training=True))(d.size(), d.size()),
    mixes=True,
)
calls(
    "instance_norm",
    lambda d: (lambda c: call(d.real(2, c, *d.shape(1, 2)), d.real(c), d.unit(c), weight=d.real(c)))(d.size()),
    mixes=True,
)
calls(
    "group_norm",
    lambda d: (lambda g, c: call(d.real(2, g * c, *d.shape(0, 2)), g, d.real(g * c), d.real(g * c)))(
        d.pick(1, 2, 3), d.size()
    ),
    mixes=True,
    least=2,
)
calls("renorm", lambda d: (lambda x: call(x, 2.0, d.between(0, x.dim() - 1), 0.5))(d.real(*d.shape(2, 3))), mixes=True)
calls("_weight_norm", lambda d: (lambda n: call(d.real(n, *d.shape(1, 1)), d.unit(n, 1), 0))(d.size()), mixes=True)
calls("cosine_similarity", lambda d: (lambda x: call(x, x.flip(0) + 1, d.dim(x)))(d.x(2)), mixes=True)
calls(
    "pairwise_distance",
    lambda d: (lambda n, k: call(d.real(n, k), d.real(n, k), keepdim=d.pick(True, False)))(d.size(), d.size()),
    mixes=True,
)
calls("cdist", lambda d: (lambda k: call(d.real(2, 3, k), d.real(2, 4, k)))(d.size()), mixes=True)

# --- shapes ---


def _divisor(d: Draw, n: int) -> int:
    return d.pick(*(k for k in range(1, n + 1) if n % k == 0))


def _viewed(d: Draw) -> Arguments:
    x = d.x()
    i = d.dim(x)
    k = _divisor(d, x.shape[i])
    shape = list(x.shape)
    shape[i : i + 1 if i != -1 else None] = [d.pick(x.shape[i] // k, -1), k]
    return call(x, shape)


calls(
    "view reshape",
    _viewed,
    lambda d: (lambda args, _: call(args[0], *args[1]))(*_viewed(d)),
    lambda d: (lambda x: call(x, d.pick(-1, x.numel())))(d.x()),
)
calls("view reshape", lambda d: (lambda x: call(x, -1, x.shape[-1]))(d.x(2)))
calls("view reshape", lambda d: call(d.ints(4, 6), 2, torch.tensor(2), 6))  # a size that is computed
calls("new_zeros new_ones", lambda d: call(d.ints(2), (d.size(), torch.tensor(3))))
calls(
    "view_as reshape_as", lambda d: (lambda x, k: call(x, d.ints(k, x.numel() // k)))(d.ints(4, 6), d.pick(2, 3, 4, 6))
)
calls("flatten", lambda d: call(d.x()), lambda d: call(d.x(2), 0, -1), lambda d: call(d.x(3), start_dim=-2))
calls("ravel", lambda d: call(d.x()))


def _unflattened(d: Draw) -> Arguments:
    x = d.x()
    i = d.dim(x)
    k = _divisor(d, x.shape[i])
    return call(x, i, d.pick((x.shape[i] // k, k), [-1, k], (k, -1)))


calls("unflatten", _unflattened)


def _order(d: Draw, x: Tensor) -> list[int]:
    return [d.pick(i, i - x.dim()) for i in d.random.sample(range(x.dim()), x.dim())]


calls(
    "permute",
    lambda d: (lambda x: call(x, _order(d, x)))(d.x()),
    lambda d: (lambda x: call(x, *_order(d, x)))(d.x()),
    lambda d: (lambda x: call(x, dims=_order(d, x)))(d.x()),
)
calls("transpose swapaxes swapdims", lambda d: (lambda x: call(x, *d.two(x)))(d.x(2)))
calls("transpose", lambda d: (lambda x, ij: call(x, dim0=ij[0], dim1=ij[1]))(*(lambda x: (x, d.two(x)))(d.x(2))))
calls("swapaxes", lambda d: (lambda x, ij: call(x, axis0=ij[0], axis1=ij[1]))(*(lambda x: (x, d.two(x)))(d.x(2))))
calls("t T H mT mH adjoint", lambda d: call(d.x(2, 2)), lambda d: call(d.x(3, 3)), lambda d: call(d.complex(2, 3)))
calls("t", lambda d: call(d.x(1, 1)))
calls(
    "movedim moveaxis",
    lambda d: (lambda x: call(x, d.dim(x), d.dim(x)))(d.x()),
    lambda d: (lambda x: call(x, d.two(x), d.two(x)))(d.x(2)),
)
calls(
    "squeeze",
    lambda d: call(d.x().unsqueeze(0)),
    lambda d: call(d.x().unsqueeze(0), 0),
    lambda d: call(d.x(2).unsqueeze(-1), dim=(0, -1)),
    lambda d: call(d.x().unsqueeze(1), -1),
)
calls("unsqueeze", lambda d: (lambda x: call(x, d.pick(0, x.dim(), -1, -x.dim() - 1)))(d.x()))


def _expanded(d: Draw) -> Arguments:
    x = d.x()
    shape = [d.pick(-1, n) for n in x.shape]
    i = d.between(0, x.dim() - 1)
    shape[i] = d.size()
    grown = [d.size() for _ in range(d.pick(0, 1))] + shape
    return call(x.narrow(i, 0, 1), grown)


calls("expand broadcast_to", _expanded)
calls("expand", lambda d: (lambda args, _: call(args[0], *args[1]))(*_expanded(d)))
calls("expand_as", lambda d: (lambda s: call(d.ints(*d.near(s)), d.ints(*s)))(d.shape()))
calls(
    "repeat tile",
    lambda d: (lambda x: call(x, *(d.pick(1, 2, 3) for _ in x.shape)))(d.x()),
    lambda d: (lambda x: call(x, [d.pick(1, 2) for _ in range(x.dim() + 1)]))(d.x()),
    lambda d: (lambda x: call(x, (2,)))(d.x()),
)
calls(
    "repeat_interleave",
    lambda d: (lambda x: call(x, d.pick(1, 2, 3), d.dim(x)))(d.x()),
    lambda d: (lambda x: call(x, repeats=2, dim=d.dim(x)))(d.x()),
    lambda d: call(d.x(), 3),
    lambda d: (lambda x: call(x, 2, 0, output_size=2 * x.shape[0]))(d.x()),
)
calls("pixel_shuffle", lambda d: (lambda r, c: call(d.ints(2, c * r * r, 2, 3), r))(d.pick(1, 2, 3), d.size()))
calls("pixel_unshuffle", lambda d: (lambda r, c: call(d.ints(2, c, 2 * r, r), r))(d.pick(1, 2, 3), d.size()))
calls(
    "channel_shuffle native_channel_shuffle",
    lambda d: (lambda g, c: call(d.ints(2, c * g, 2, 3), g))(d.pick(2, 3), d.size()),
)
calls("view_as_complex", lambda d: call(d.real(*d.shape(), 2)), views=False)  # strides must be even
calls("view_as_real", lambda d: call(d.complex(*d.shape())))
calls("unfold", lambda d: (lambda x: call(x, d.dim(x), 2, d.pick(1, 2)))(d.x()))
calls("unfold", lambda d: (lambda x: call(x, dimension=d.dim(x), size=1, step=1))(d.x()))
calls("unfold", lambda d: call(d.ints(*d.pick([], [2]), d.size(), 4, 5), (2, d.pick(1, 2)), padding=1))
calls(
    "grid_sample",
    lambda d: (lambda b, c: call(d.real(b, c, 4, 4), d.unit(b, 2, 3, 2), align_corners=False))(d.size(), d.size()),
)
for _n in (1, 2, 3):
    calls(
        f"max_pool{_n}d avg_pool{_n}d adaptive_max_pool{_n}d adaptive_avg_pool{_n}d lp_pool{_n}d",
        lambda d, n=_n: call(d.ints(*d.shape(1, 2)[: d.pick(1, 2)], *[4] * n), 2),
        lambda d, n=_n: call(d.ints(2, d.size(), *[4] * n), 2.0, 2),
        mixes=True,
        views=_n < 3,  # those of three dimensions write past the strides of a view
    )
    calls(
        f"max_pool{_n}d avg_pool{_n}d",  # some dimensions are pooled, others are not
        lambda d, n=_n: call(d.ints(2, d.size(), *[4] * n), [d.pick(1, 2) for _ in range(n)], ceil_mode=True),
        lambda d, n=_n: call(d.ints(2, d.size(), *[4] * n), 1, stride=[d.pick(1, 2) for _ in range(n)]),
        lambda d, n=_n: call(d.ints(2, d.size(), *[4] * n), kernel_size=3, stride=1, padding=d.pick(0, 1)),
        mixes=True,
        views=_n < 3,
    )
    calls(
        f"max_pool{_n}d",
        lambda d, n=_n: call(d.ints(2, d.size(), *[4] * n), [2, *[1] * (n - 1)], return_indices=True),
        views=_n < 3,
    )
    calls(
        f"max_pool{_n}d_with_indices adaptive_max_pool{_n}d_with_indices",
        lambda d, n=_n: call(d.ints(2, d.size(), *[4] * n), 2),
        views=_n < 3,
    )
calls(
    "meshgrid",
    lambda d: call(d.x(1, 1), d.x(1, 1), indexing="ij"),
    lambda d: call([d.x(1, 1), d.x(1, 1)], indexing="xy"),
)
calls("glu", lambda d: (lambda s: (lambda x: call(x, d.dim(x)))(d.real(*(2 * n for n in s))))(d.shape()))

# --- joins and parts ---


def _tensors(d: Draw, same: bool) -> tuple[list[Tensor], int]:
    shape = d.shape()
    i = d.between(0, len(shape) - 1)
    shapes = [shape[:i] + [shape[i] if same else d.size()] + shape[i + 1 :] for _ in range(d.pick(2, 3))]
    return [d.ints(*s) for s in shapes], d.pick(i, i - len(shape))


calls("cat concat concatenate", lambda d: (lambda xs, i: call(xs, i))(*_tensors(d, False)))
calls("cat concat concatenate", lambda d: (lambda xs, i: call(tuple(xs), dim=i))(*_tensors(d, False)))
calls("cat concatenate", lambda d: (lambda xs, i: call(xs, axis=i))(*_tensors(d, False)))
calls(
    "stack",
    lambda d: (lambda xs, i: call(xs, i))(*_tensors(d, True)),
    lambda d: (lambda xs, i: call(xs, dim=i))(*_tensors(d, True)),
)
calls("unbind", lambda d: (lambda x: call(x, d.dim(x)))(d.x()), lambda d: call(d.x()))
calls("__iter__", lambda d: call(d.x()))
calls("select", lambda d: (lambda x: (lambda i: call(x, i, d.pick(0, 1, -1, -2)))(d.dim(x)))(d.x()))


def _narrowed(d: Draw) -> Arguments:
    x = d.x()
    i = d.dim(x)
    n = d.between(1, x.shape[i])
    start = d.between(0, x.shape[i] - n)
    return d.pick(call(x, i, start, n), call(x, dim=i, start=start - x.shape[i], length=n))


calls("narrow", _narrowed)


def _sections(d: Draw, n: int) -> list[int]:
    at = d.between(1, n - 1)
    return [at, n - at]


calls(
    "split",
    lambda d: (lambda x: (lambda i: call(x, d.pick(1, 2, x.shape[i]), i))(d.dim(x)))(d.x()),
    lambda d: (lambda x: (lambda i: call(x, d.between(1, 7), dim=i))(d.dim(x)))(d.x()),
)
calls("split split_with_sizes", lambda d: (lambda x: (lambda i: call(x, _sections(d, x.shape[i]), i))(d.dim(x)))(d.x()))
calls(
    "chunk tensor_split",
    lambda d: (lambda x: (lambda i: call(x, d.pick(1, 2, 3, x.shape[i]), i))(d.dim(x)))(d.x()),
    lambda d: (lambda x: call(x, 2, dim=d.dim(x)))(d.x()),
)
calls("tensor_split", lambda d: (lambda x: (lambda i: call(x, (1, 2), i))(d.dim(x)))(d.x()))
calls(
    "pad",
    lambda d: call(d.x(), (d.pick(0, 1, 2), d.pick(0, 1))),
    lambda d: call(d.x(2), (0, 0, d.pick(-1, 1), 2), value=3.0),
    lambda d: call(d.x(3, 3), (1, 1), mode="reflect"),
    lambda d: call(d.ints(4, 6), (0, 0, torch.tensor(1), 2)),
)

# --- indices ---


def _item(d: Draw, n: int) -> Any:
    return d.pick(
        slice(None),
        d.pick(0, -1, 1),
        slice(1, None),
        slice(None, -1),
        slice(0, d.pick(1, 2)),
        slice(None, None, 2),
        d.ids(n, 3),
        d.bools(n),
        [d.pick(0, 1), 1],
    )


def _indexed(d: Draw) -> tuple[Tensor, Any]:
    x = d.x()
    items = [_item(d, n) for n in x.shape[: d.between(1, x.dim())]]
    if sum(isinstance(item, Tensor | list) for item in items) > 1:  # they would have to broadcast
        items = items[:1]
    for extra in (None, Ellipsis):
        if d.pick(True, False, False):
            items.insert(d.pick(0, len(items)), extra)
    return x, items[0] if len(items) == 1 else tuple(items)


def _assigned(d: Draw) -> Arguments:
    x, index = _indexed(d)
    target = x[index]
    return call(x, index, d.pick(7.0, d.ints(*target.shape) + 100, d.ints(*d.near(list(target.shape)))))


calls("tolist item numpy __int__ __index__ __bool__ __float__", lambda d: call(d.ids(4)))
calls("__format__", lambda d: call(d.ids(4), ""))
calls("__contains__", lambda d: call(d.ids(4, 3), 2))
calls("__getitem__", lambda d: call(*_indexed(d)))
calls("__setitem__", _assigned)
calls("__getitem__", lambda d: (lambda x: call(x, d.bools(*x.shape[: d.between(1, x.dim())])))(d.x()))
calls("__setitem__", lambda d: (lambda x: call(x, d.bools(*x.shape[: d.between(1, x.dim())]), 3))(d.x()))
calls("index_select", lambda d: (lambda x: (lambda i: call(x, i, d.ids(x.shape[i], d.size())))(d.dim(x)))(d.x()))
calls("index_select", lambda d: (lambda x: (lambda i: call(x, dim=i, index=d.ids(x.shape[i], 1)))(d.dim(x)))(d.x()))


def _gathered(d: Draw) -> Arguments:
    x = d.x()
    i = d.dim(x)
    shape = list(x.shape)
    shape[i] = d.size()
    if d.pick(True, False, False):
        j = d.dim(x)
        shape[j] = max(1, shape[j] - 1) if j % x.dim() != i % x.dim() else shape[j]
    return call(x, i, d.ids(x.shape[i], *shape))


calls("gather", _gathered)
calls("take_along_dim", lambda d: (lambda args, _: call(args[0], args[2], args[1]))(*_gathered(d)))
calls("take_along_dim", lambda d: (lambda args, _: call(args[0], args[2], dim=args[1]))(*_gathered(d)))


def _scattered(d: Draw, *more: Any, value: Any = None) -> Arguments:
    x = d.x()
    i = d.dim(x)
    shape = list(x.shape)
    shape[i] = d.between(1, shape[i])
    index = torch.rand(x.shape, generator=d.generator).argsort(i).narrow(i, 0, shape[i])
    return call(x, i, index, d.ints(*shape) + 100 if value is None else value, *more)


calls("scatter", _scattered, lambda d: _scattered(d, value=3.0))
calls("scatter_add", _scattered)
calls("scatter_reduce", lambda d: _scattered(d, d.pick("sum", "amax")))


def _index_written(d: Draw, *more: Any) -> Arguments:
    x = d.x()
    i = d.dim(x)
    shape = list(x.shape)
    shape[i] = d.between(1, shape[i])
    return call(x, i, d.distinct(x.shape[i], shape[i]), d.ints(*shape) + 100, *more)


calls("index_add index_copy", _index_written)
calls("index_reduce", lambda d: _index_written(d, "amax"))
calls("index_fill", lambda d: (lambda a, _: call(a[0], a[1], a[2], 5.0))(*_index_written(d)))
calls(
    "_pack_padded_sequence",
    lambda d: (lambda b, t: call(d.ints(b, t, d.size()), torch.arange(b, 0, -1).clamp(1, t), True))(
        d.pick(2, 3), d.pick(3, 4)
    ),
)
calls("_pad_packed_sequence", lambda d: call(d.ints(5, d.size()), torch.tensor([2, 2, 1]), False, 0.0, 3))
calls("one_hot", lambda d: call(d.ids(4, *d.shape()), 4), lambda d: call(d.ids(4, *d.shape()), num_classes=5))

# --- other element-wise ones, and orders ---

calls("where", lambda d: (lambda s: call(d.bools(*s), d.ints(*d.near(s)), d.ints(*d.near(s))))(d.shape()))
calls("where", lambda d: (lambda s: call(d.bools(*s), d.ints(*s), 3.0))(d.shape()))
calls("where", lambda d: (lambda s: call(d.ints(*s), d.bools(*s), d.ints(*s)))(d.shape()))
calls("copy", lambda d: (lambda s: call(d.ints(*s), d.ints(*d.near(s))))(d.shape()))
calls("prelu", lambda d: (lambda c: call(d.real(*d.pick([c], [2, c], [2, c, 3])), d.unit(1)))(d.size()))
calls("prelu", lambda d: (lambda c: call(d.real(2, c, 3), d.unit(c)))(d.size()))
calls("gumbel_softmax", lambda d: (lambda x: call(x, 1.0, dim=d.dim(x)))(d.real(*d.shape())))
calls(
    "roll", lambda d: (lambda x: call(x, 1, d.dim(x)))(d.x()), lambda d: (lambda x: call(x, (1, 2), d.two(x)))(d.x(2))
)
calls("roll", lambda d: call(d.x(), shifts=1), lambda d: (lambda x: call(x, shifts=1, dims=d.dim(x)))(d.x()))
calls(
    "flip",
    lambda d: (lambda x: call(x, d.dim(x)))(d.x()),
    lambda d: (lambda x: call(x, d.two(x)))(d.x(2)),
    lambda d: (lambda x: call(x, dims=[d.dim(x)]))(d.x()),
)
calls("tril triu", lambda d: call(d.x(2)), lambda d: call(d.x(2), d.pick(-1, 1)))
calls("topk", lambda d: (lambda x: call(x, d.pick(1, 2), d.dim(x)))(d.x()), lambda d: call(d.x(), k=1))
calls(
    "fft_fft fft_ifft fft_rfft fft_irfft fft_hfft fft_ihfft",
    lambda d: (lambda x: call(x, dim=d.dim(x)))(d.real(*d.shape())),
    lambda d: (lambda x: call(x, 4, d.dim(x), norm="ortho"))(d.real(*d.shape())),
)
calls(
    "fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn fft_rfftn fft_irfftn",
    lambda d: (lambda x: call(x, dim=d.two(x)))(d.real(*d.shape(2))),
    lambda d: call(d.real(*d.shape(2))),
    lambda d: call(d.real(*d.shape(2)), (2, 4)),
)
calls("diff", lambda d: (lambda x: call(x, 1, d.dim(x)))(d.x()), lambda d: call(d.x()))

# --- new tensors ---

for _names, _filled in (("zeros ones", True), ("empty", False)):
    calls(_names, lambda d: call(d.shape()), lambda d: call(*d.shape()), lambda d: call(size=d.shape()), filled=_filled)
    calls(
        " ".join(f"new_{name}" for name in _names.split()),
        lambda d: call(d.x(), d.shape()),
        lambda d: call(d.x(), *d.shape()),
        filled=_filled,
    )
calls("full", lambda d: call(d.shape(), 2.0), lambda d: call(size=d.shape(), fill_value=2.0))
calls("new", lambda d: call(d.x(), d.size(), d.size()), lambda d: call(d.x(), [0.5, 2.0]), filled=False)
calls("new_full", lambda d: call(d.x(), d.shape(), 2.0))
calls("arange", lambda d: call(0, d.size()), lambda d: call(1, 9, 2))
calls("eye", lambda d: call(d.size()))
calls("linspace logspace", lambda d: call(0, 1, d.size()))
calls("hann_window hamming_window blackman_window bartlett_window kaiser_window", lambda d: call(d.size()))
calls("tril_indices triu_indices", lambda d: call(d.size(), d.size()))
calls("tensor", lambda d: call([1.0, 2.0]))
calls("as_tensor asarray", lambda d: call([1.0, 2.0]), lambda d: call(d.x()))
calls("scalar_tensor", lambda d: call(3.0))
calls("new_tensor", lambda d: call(d.x(), [1.0, 2.0]))
calls("rand randn", lambda d: call(d.shape()))
calls("randint", lambda d: call(9, d.shape()))
calls("randperm", lambda d: call(d.size()))
calls("normal", lambda d: call(d.x(), 1.0), lambda d: call(0.0, 1.0, d.shape()))
calls("rand_like randn_like uniform exponential random cauchy log_normal", lambda d: call(d.x()))
calls("randint_like", lambda d: call(d.x(), 9))
calls("bernoulli poisson", lambda d: call(d.unit(*d.shape())))
calls("geometric", lambda d: call(d.x(), 0.5))
calls("multinomial", lambda d: call(d.unit(*d.shape(1, 2)), 2))

# --- matrices ---


def _square(d: Draw) -> Tensor:
    n = d.size()
    return d.real(*d.shape(0, 1), n, n) + 9 * torch.eye(n, dtype=torch.float64)


_DECOMPOSED = (
    "det logdet slogdet cholesky cholesky_ex qr svd svdvals eig eigh eigvals eigvalsh lu_factor matrix_rank "
    "cholesky_inverse"
)
calls(
    " ".join(f"{name} linalg_{name}" for name in f"{_DECOMPOSED} inv inverse matrix_exp pinv pinverse".split()),
    lambda d: call(_square(d)),
    lambda d: (lambda a: call(a @ a.mT))(_square(d)),
    mixes=True,
)
calls("matrix_power linalg_matrix_power", lambda d: call(_square(d), 2), mixes=True)
calls(
    "fill_diagonal",
    lambda d: call(d.x(2, 2), 0.5),
    lambda d: (lambda n: call(d.ints(*[n] * d.pick(2, 3)), 0.5))(d.size()),
)
calls("trace", lambda d: call(d.x(2, 2)), lambda d: (lambda n: call(d.ints(n, n)))(d.size()), mixes=True)
calls(
    "diagonal linalg_diagonal",
    lambda d: (lambda n: call(d.ints(n, n, *d.shape(0, 1))))(d.size()),
    lambda d: (lambda n: call(d.ints(*d.shape(1, 1), n, n), offset=d.pick(0, 1), dim1=-1, dim2=1))(d.size()),
    lambda d: (lambda n: call(d.ints(*d.shape(1, 1), n, n)))(d.size()),
)
calls("diag_embed", lambda d: call(d.x(), d.pick(0, 1, -1)), lambda d: call(d.x(2), 0, 0, -1))
calls("diag", lambda d: call(d.x(1, 1)), lambda d: call(_square(d)[..., :], d.pick(0, 1)))
calls(
    "linalg_solve",
    lambda d: (lambda a: call(a, d.real(*a.shape[:-1], d.size())))(_square(d)),
    mixes=True,
)
calls("linalg_solve_triangular", lambda d: (lambda a: call(a, d.real(*a.shape[:-1], d.size()), upper=True))(_square(d)))
calls("addr", lambda d: (lambda n, m: call(d.real(n, m), d.real(n), d.real(m)))(d.size(), d.size()))
calls("inner", lambda d: (lambda n: call(d.real(*d.shape(0, 2), n), d.real(*d.shape(0, 2), n)))(d.size()), mixes=True)
calls("vdot", lambda d: (lambda n: call(d.real(n), d.real(n)))(d.size()), mixes=True)
calls(
    "tensordot",
    lambda d: (lambda s: call(d.real(*d.shape(0, 1), *s), d.real(*s, *d.shape(0, 1)), len(s)))(d.shape(0, 2)),
    mixes=True,
)
calls(
    "tensordot",
    lambda d: (lambda a, b: call(d.real(a, 2, b), d.real(b, 3, a), dims=([0, -1], [2, 0])))(d.size(), d.size()),
    mixes=True,
)
calls("kron", lambda d: call(d.x(1, 2), d.x(1, 2)))
calls("cross linalg_cross", lambda d: (lambda n: call(d.real(n, 3), d.real(n, 3)))(d.pick(2, 4)))


def _grouped(d: Draw) -> Arguments:
    k, n = 8 * d.pick(1, 2, 3), 8 * d.pick(1, 2, 3)
    return call(d.real(6, k).float(), d.real(2, k, n).float(), offs=torch.tensor([2, 6], dtype=torch.int32))


calls("_grouped_mm grouped_mm", _grouped, mixes=True, views=False)
calls(
    "embedding_bag",
    lambda d: (lambda n: call(d.ids(n, d.size(), d.size()), d.real(n, d.size()), mode=d.pick("sum", "mean")))(d.size()),
    mixes=True,
)
calls("embedding_bag", lambda d: call(d.ids(4, 6), d.real(4, d.size()), torch.tensor([0, 2]), mode="sum"), mixes=True)

# --- losses ---

for _reduction in ("none", "mean", "sum"):
    calls(
        "mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits kl_div "
        "poisson_nll_loss soft_margin_loss hinge_embedding_loss",
        lambda d, r=_reduction: (lambda s: call(d.unit(*s), d.unit(*s), reduction=r))(d.shape()),
        mixes=True,
    )
    calls(
        "cross_entropy nll_loss",
        lambda d, r=_reduction: (lambda b, c, s: call(d.real(b, c, *s), d.ids(c, b, *s), reduction=r))(
            d.size(), d.size(), d.shape(0, 1)
        ),
        lambda d, r=_reduction: (lambda b, c: call(d.real(b, c), d.unit(b, c), reduction=r))(d.size(), d.size()),
        lambda d, r=_reduction: (lambda c: call(d.real(2, c), d.ids(c, 2), d.unit(c), reduction=r))(d.size()),
        mixes=True,
    )

# --- values ---

calls("nonzero argwhere", lambda d: call(d.ids(2, *d.shape())))
calls("masked_select", lambda d: (lambda s: call(d.ints(*s), d.bools(*s)))(d.shape()))
calls("unique unique_consecutive bincount", lambda d: call(d.ids(4, d.size())))
calls("unique", lambda d: call(d.ids(2, 4, 3), dim=0, return_inverse=True))
calls("cartesian_prod", lambda d: call(d.x(1, 1), d.x(1, 1)))
calls("combinations", lambda d: call(d.x(1, 1)))
calls("as_strided", lambda d: call(d.ints(4, 6), (2, 2), (1, 2)))


def _overlapping_chunks(d: Draw) -> Arguments:
    """Windows of two rows that overlap, as Longformer makes them. Batch and features are whole."""
    b, n, f = d.size(), d.pick(4, 6), d.size()
    return call(d.ints(b, n, f), (b, n - 1, 2, f), (n * f, f, f, 1))


calls("as_strided", _overlapping_chunks, lambda d: call(d.ints(4, 6), (4, 2, 6), (6, 6, 1)))
calls("as_strided_scatter", lambda d: call(d.ints(4, 6), d.ints(2, 2), (2, 2), (1, 2)))
calls("take", lambda d: call(d.ints(4, 6), d.ids(24, d.size())))
calls("put", lambda d: call(d.ints(4, 6), torch.arange(3), d.ints(3)))
calls("histc", lambda d: call(d.unit(*d.shape()), 4, 0, 1), mixes=True)
calls("isin", lambda d: call(d.x(), d.x()), mixes=True, views=False)  # torch views its arguments as flat
calls("bucketize", lambda d: call(d.unit(*d.shape()), d.unit(d.size()).sort()[0]))
calls("searchsorted", lambda d: (lambda b: call(d.unit(*b, 4).sort(-1)[0], d.unit(*b, d.size())))(d.shape(0, 1)))
calls("masked_scatter", lambda d: (lambda s: call(d.ints(*s), d.bools(*d.near(s)), d.ints(*s)))(d.shape()))
calls("index_put", lambda d: call(d.x(2, 2), (d.ids(2, 1),), torch.tensor(3.0).double()))
calls("index_put", lambda d: (lambda x: call(x, (None, d.ids(2, 1)), d.ints(x.shape[0], 1)))(d.x(2, 2)))

# --- others ---

calls("polygamma special_polygamma", lambda d: call(1, d.unit(*d.shape())))
calls("polygamma", lambda d: call(d.unit(*d.shape()), 1))
calls("mvlgamma", lambda d: call(d.unit(*d.shape()) + 3, 1))
calls("_is_all_true _is_any_true", lambda d: call(d.bools(*d.shape())), mixes=True)
calls(
    "_nested_tensor_from_mask_left_aligned",
    lambda d: (lambda n, k: call(d.real(n, k, d.size()), d.bools(n, k)))(d.size(), d.size()),
)
calls("torchvision::nms", lambda d: (lambda n: call(d.unit(n, 4).cumsum(1), d.unit(n), 0.5))(d.size()))
calls(
    "torchvision::roi_align torchvision::roi_pool",
    lambda d: (
        lambda k: call(d.real(2, d.size(), 5, 5), torch.cat([d.ids(2, k, 1), d.unit(k, 4).cumsum(1)], 1), 1.0, 2, 2)
    )(d.size()),
    lambda d: (
        lambda k: call(
            d.real(2, d.size(), 5, 5), torch.cat([d.ids(2, k, 1), d.unit(k, 4).cumsum(1)], 1), 1.0, 2, 2, 2, False
        )
    )(d.size()),
)
calls("_assert", lambda d: call((d.x() > -1).all(), "never"))
calls("_parse_to", lambda d: call(torch.float64))
calls("fft_fftshift fft_ifftshift", lambda d: (lambda x: call(x, dim=d.dim(x)))(d.x()), lambda d: call(d.x()))
calls("stft", lambda d: call(d.real(*d.shape(0, 1), 24), 8, window=d.unit(8), return_complex=True))
calls("istft", lambda d: call(d.complex(*d.shape(0, 1), 5, 6), 8, window=d.unit(8), center=True))
calls("kthvalue", lambda d: (lambda x: call(x, 1, d.dim(x), d.pick(True, False)))(d.x()))
calls("quantile nanquantile", lambda d: (lambda x: call(x, 0.3, d.dim(x), d.pick(True, False)))(d.x()), mixes=True)
calls("quantile nanquantile", lambda d: (lambda x: call(x, d.unit(2), dim=d.dim(x)))(d.x()), mixes=True)
calls("quantile nanquantile", lambda d: call(d.x(), d.unit(d.size())), mixes=True)
calls("linalg_matrix_norm", lambda d: call(d.x(2)), lambda d: (lambda x: call(x, 1, d.two(x)))(d.x(2)), mixes=True)
calls("dist", lambda d: (lambda s: call(d.real(*s), d.real(*d.near(s))))(d.shape()), mixes=True)
calls("fliplr flipud", lambda d: call(d.x(2)))
calls("rot90", lambda d: (lambda x: call(x, d.pick(1, 2, 3), d.two(x)))(d.x(2)))
calls("local_response_norm", lambda d: call(d.real(2, *d.shape(2, 2)), 2))
calls(
    "cov",
    lambda d: call(d.real(*d.shape(1, 2))),
    lambda d: (lambda n: call(d.real(d.size(), n), aweights=d.unit(n)))(d.size()),
    mixes=True,
)
calls("repeat_interleave", lambda d: (lambda x: call(x, d.ids(3, x.shape[0]), dim=0))(d.x()))
calls("fold", lambda d: (lambda c: call(d.ints(*d.pick([], [2]), c * 4, 4), (3, 3), d.pick(2, (2, 2))))(d.size()))
calls("atleast_1d atleast_2d atleast_3d", lambda d: call(d.x()), lambda d: call(d.x(), d.x()))
calls("broadcast_tensors", lambda d: (lambda s: call(d.ints(*s), d.ints(*d.near(s))))(d.shape()))
calls("hstack vstack dstack column_stack row_stack", lambda d: (lambda xs, _: call(xs))(*_tensors(d, True)))
calls("hsplit vsplit dsplit", lambda d: call(d.ints(2, 4, 2), 2), lambda d: call(d.ints(4), 2))
calls("block_diag", lambda d: call(d.x(2, 2), d.x(1, 2)))
