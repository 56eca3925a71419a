"""Operations on matrices: some treat their rows alike, the rest pin them."""

from __future__ import annotations

import torch

from surgery.axes.algebra import Dim, extent
from surgery.axes.signature import broadcast
from surgery.rules.base import Dims, Result, each_result, here, ordered, positions, result_shape, tensors_in, unify
from surgery.rules.registry import rule


def _square(x: Dims) -> Dim:
    """Rows and columns of a matrix that must stay square are one axis."""
    return unify(x[-2], x[-1])


@rule("inv", "inverse", "matrix_exp", "matrix_power")
def square(x: Dims, *_: object) -> Dims:
    side = _square(x)
    return Dims((*x[:-2], side, side))


@rule("pinv", "pinverse")
def pseudo_inverse(x: Dims, *_: object, **__: object) -> Dims:
    return Dims((*x[:-2], x[-1], x[-2]))


@rule("fill_diagonal")
def fill_diagonal(x: Dims, *_: object, **__: object) -> Dims:
    for other in range(1, len(x)):
        _on_diagonal(x, 0, 0, other)
    return x


def _on_diagonal(x: Dims, offset: int, i: int, j: int) -> Dims:
    """The same dimensions, rows and columns tied where the diagonal pairs them one to one."""
    if offset == 0 and extent(x[i]) == extent(x[j]):
        unify(x[i], x[j])
    else:
        for dim in (x[i], x[j]):
            ordered(dim, "a diagonal pairs positions")
    return x


@rule("trace")
def trace(x: Dims) -> Dims:
    _on_diagonal(x, 0, 0, 1)
    return Dims()


@rule(torch.diagonal, torch.Tensor.diagonal)
def diagonal(x: Dims, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Dims:
    return _diagonal(x, offset, dim1, dim2)


@rule(torch.linalg.diagonal)
def last_diagonal(x: Dims, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Dims:
    return _diagonal(x, offset, dim1, dim2)


def _diagonal(x: Dims, offset: int, dim1: int, dim2: int) -> Dims:
    i, j = dim1 % len(x), dim2 % len(x)
    _on_diagonal(x, offset, i, j)
    rest = [dim for k, dim in enumerate(x) if k not in (i, j)]
    n = result_shape()[-1]
    return Dims((*rest, x[i] if offset == 0 and extent(x[i]) == extent(x[j]) else positions(n)))


@rule("diag_embed")
def diag_embed(x: Dims, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Dims:
    if offset:
        ordered(x[-1], "a diagonal pairs positions")
    rank = len(x) + 1
    i, j = dim1 % rank, dim2 % rank
    rest = iter(x[:-1])
    side = positions(result_shape()[i]) if offset else x[-1]
    return Dims(side if k in (i, j) else next(rest) for k in range(rank))


@rule("diag")
def diag(x: Dims, diagonal: int = 0) -> Dims:
    return diag_embed(x, diagonal) if len(x) == 1 else _diagonal(x, diagonal, 0, 1)


@rule(torch.linalg.solve)
def solve(a: Dims, b: Dims, **_: object) -> Dims:
    side = _square(a)
    if len(b) == 1 or len(result_shape()) < max(len(a), len(b)):
        raise NotImplementedError("a vector on the right")
    unify(side, b[-2])
    return Dims((*broadcast([a[:-2], b[:-2]], here()), side, b[-1]))


@rule("solve_triangular")
def solve_triangular(a: Dims, b: Dims, *, left: bool = True, **_: object) -> Dims:
    for dim in (*a[-2:], b[-2 if left else -1]):
        ordered(dim, "the order along this dimension matters")
    return Dims((*broadcast([a[:-2], b[:-2]], here()), b[-2], b[-1]))


_DECOMPOSITIONS = "cholesky cholesky_ex qr svdvals eig eigh eigvals eigvalsh lu_factor matrix_rank"


@rule("det", "logdet", "slogdet", "svd", "cholesky_inverse")
@rule(*(getattr(torch.linalg, name) for name in _DECOMPOSITIONS.split()))  # some of torch's own names are gone
def decomposition(*args: object, **kwargs: object) -> Result:
    """Rows and columns have an order here; a batch of matrices has none."""
    (x,) = tensors_in(args, kwargs)
    for dim in x[-2:]:
        ordered(dim, "a matrix is decomposed")
    return each_result(lambda shape: Dims((*x[:-2], *map(positions, shape[len(x) - 2 :]))))
