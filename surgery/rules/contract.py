"""Operations that sum over products: linear maps, products of matrices, distances; and rows of tables."""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from surgery.axes.algebra import Dim, divide, extent, resolve
from surgery.axes.signature import broadcast
from surgery.rules.base import (
    Dims,
    Result,
    addressed,
    axis,
    axis_list,
    contraction,
    current_node,
    here,
    kind,
    multiply,
    ordered,
    pointed,
    positions,
    result_shape,
    tensors_in,
    unify,
)
from surgery.rules.registry import rule


@rule("linear")
def linear(x: Dims, weight: Dims, bias: Dims | None = None) -> Result:
    if len(weight) == 1:
        return contraction("... i, i -> ...", x, weight, macs="i")
    return contraction("... i, o i, o -> ... o", x, weight, bias, macs="i")


@rule("bilinear")
def bilinear(x: Dims, y: Dims, weight: Dims, bias: Dims | None = None) -> Result:
    return contraction("... i, ... j, o i j, o -> ... o", x, y, weight, bias, macs="i j")


@rule("matmul", "bmm", "mm", torch.sparse.mm, "mv", "dot", torch.Tensor.__matmul__, torch.Tensor.__rmatmul__)
def matmul(x: Dims, *others: Dims, **named: Dims) -> Dims:
    """Batch dimensions broadcast; the last dimension of x meets the last but one of y."""
    (y,) = (*others, *named.values())
    if current_node().target is torch.Tensor.__rmatmul__:
        x, y = y, x
    if len(x) == 1 and "out" in current_node().kwargs:
        raise NotImplementedError("a vector times a matrix resizes what it writes into")
    k = unify(x[-1], y[-2] if len(y) > 1 else y[0])
    batch = broadcast([x[:-2], y[:-2]], here())
    result = Dims((*batch, *(x[-2:-1]), *(y[-1:] if len(y) > 1 else ())))
    multiply(*result, k)
    return result


@rule("addmm", "addbmm", "baddbmm", "addmv")
def addmm(bias: Dims, *factors: object, beta: object = 1, alpha: object = 1, **named: object) -> Dims:
    x, y = tensors_in(factors, named)
    summed = matmul(x, y)
    if len(x) == 3 and len(result_shape()) == 2:  # addbmm: the batch is summed as well
        summed = Dims(summed[1:])
    return broadcast([summed, bias], here())


@rule("outer", "ger")
def outer(x: Dims, y: Dims, **_: object) -> Dims:
    return Dims((*x, *y))


@rule("addr")
def addr(bias: Dims, x: Dims, y: Dims, **_: object) -> Dims:
    return broadcast([bias, outer(x, y)], here())


@rule("inner")
def inner(x: Dims, y: Dims) -> Dims:
    if not x or not y:
        return broadcast([x, y], here())
    k = unify(x[-1], y[-1])
    result = Dims((*x[:-1], *y[:-1]))
    multiply(*result, k)
    return result


@rule("vdot")
def vdot(x: Dims, y: Dims) -> Dims:
    return inner(x, y)


@rule("tensordot")
def tensordot(x: Dims, y: Dims, dims: int | Sequence[Sequence[int]] = 2) -> Dims:
    if isinstance(dims, int):
        dims = list(range(len(x) - dims, len(x))), list(range(dims))
    mine, theirs = axis_list(x, dims[0]), axis_list(y, dims[1])
    summed = [unify(x[i], y[j]) for i, j in zip(mine, theirs, strict=True)] if len(dims[0]) else []
    kept = [dim for i, dim in enumerate(x) if not summed or i not in mine]
    kept += [dim for j, dim in enumerate(y) if not summed or j not in theirs]
    multiply(*kept, *summed)
    return Dims(kept)


@rule("kron")
def kron(x: Dims, y: Dims) -> Dims:
    """Every element of x times all of y."""
    rank = max(len(x), len(y))
    x, y = (Dims((*[()] * (rank - len(one)), *one)) for one in (x, y))
    return Dims(resolve(a) + resolve(b) for a, b in zip(x, y, strict=True))


@rule(torch.linalg.cross)
def cross(x: Dims, y: Dims, *, dim: int = -1) -> Dims:
    both = broadcast([x, y], here())
    ordered(both[dim], "coordinates")
    return both


@rule(torch.cross, torch.Tensor.cross)
def cross_of_three(x: Dims, y: Dims, dim: int | None = None) -> Dims:
    """Without a dimension, it is the first that has three units: those before it must not come to have as many."""
    both = broadcast([x, y], here())
    found = next(i for i, d in enumerate(both) if extent(d) == 3) if dim is None else axis(both, dim)
    for d in both[:found] if dim is None else ():
        ordered(d, "coordinates")
    ordered(both[found], "coordinates")
    return both


@rule("_grouped_mm", "grouped_mm")
def grouped_matmul(x: Dims, y: Dims, offs: Dims | None = None, *_: object, **__: object) -> Dims:
    """Rows of x, in runs that end at the offsets, each run times a matrix of its own."""
    if offs is None:
        return matmul(x, y)
    if len(x) != 2 or len(y) != 3:
        raise NotImplementedError("groups along another dimension than the rows")
    k = unify(x[1], y[1])
    ordered(x[0], "rows belong to groups by position")
    addressed(unify(y[0], offs[0]), "rows belong to groups by position")
    for dim in (k, y[2]):
        _in_blocks(dim)
    multiply(x[0], y[2], k)
    return Dims((x[0], resolve(y[2])))


def _in_blocks(dim: Dim) -> None:
    """Torch takes rows of whole 16 bytes alone: eight units of the smallest type make one block that stays whole."""
    parts = divide(dim, 8) if extent(dim) % 8 == 0 else None
    ordered(parts[1] if parts else dim, "grouped_mm takes blocks of eight")


@rule("einsum")
def einsum(equation: str, *operands: Dims | Sequence[Dims]) -> Result:
    """The equation is read: each letter is an axis."""
    tensors = tensors_in(operands)
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    if not arrow:
        letters = [c for c in sorted(set(inputs) & set(string.ascii_letters)) if inputs.count(c) == 1]
        output = ("..." if "..." in inputs else "") + "".join(letters)
    spaced = [" ".join(part.replace("...", ".").replace(".", "…")) for part in (*inputs.split(","), output)]
    spaced = [part.replace("…", "...") for part in spaced]
    named: dict[str, Dim] = {}
    for part, x in zip(inputs.split(","), tensors, strict=True):
        named.update(_lettered(part, x))
    summed = [letter for letter in sorted(named) if letter not in output]
    multiplies = any(extent(named[letter]) > 1 for letter in summed)  # else torch works element by element
    macs = " ".join(summed) if multiplies else ""
    return contraction(", ".join(spaced[:-1]) + " -> " + spaced[-1], *tensors, macs=macs)


def _lettered(part: str, x: Dims) -> Iterator[tuple[str, Dim]]:
    """The letters of an operand with their dimensions, counted from the back behind the dots."""
    before, _, after = part.partition("...")
    yield from zip(before, x, strict=False)
    yield from zip(reversed(after), reversed(x), strict=False)


@rule(F.embedding)
def embedding(ids: Dims, weight: Dims, *_: object, **__: object) -> Dims:
    pointed(weight[0], ids, "indexed by position")
    kind("embedding", weight[1])
    return Dims((*ids, weight[1]))


@rule(torch.embedding)
def embedding_weight_first(weight: Dims, ids: Dims, *_: object, **__: object) -> Dims:
    return embedding(ids, weight)


@rule(F.embedding_bag)
def embedding_bag(
    ids: Dims, weight: Dims, offsets: Dims | None = None, *more: object, per_sample_weights: Dims | None = None,
    **_: object,
) -> Dims:  # fmt: skip
    """Rows of a table, summed over the ids of each bag."""
    if tensors_in(more) or len(weight) != 2:
        raise NotImplementedError("weights of samples given by position")
    ordered(weight[0], "indexed by position")
    if per_sample_weights is not None:
        broadcast([ids, per_sample_weights], here())
    if len(ids) == 1:
        for dim in (*ids, *(offsets or ())):
            ordered(dim, "bags begin at positions")
        return Dims((positions(result_shape()[0]), weight[1]))
    return Dims((ids[0], weight[1]))


@rule("cosine_similarity")
def cosine_similarity(x1: Dims, x2: Dims, dim: int = 1, eps: float = 1e-8) -> Dims:
    both = list(broadcast([x1, x2], here()))
    del both[dim]
    return Dims(both)


@rule("pairwise_distance")
def pairwise_distance(x1: Dims, x2: Dims, p: float = 2, eps: float = 1e-6, keepdim: bool = False) -> Dims:
    both = broadcast([x1, x2], here())
    return Dims((*both[:-1], ())) if keepdim else Dims(both[:-1])


@rule("cdist")
def cdist(x: Dims, y: Dims, *_: object, **__: object) -> Result:
    return contraction("... n d, ... m d -> ... n m", x, y)
