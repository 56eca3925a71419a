"""Teachers: what a frozen model says to a batch, and memory of it for the epochs after the first."""

# N rows of a batch

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.modules.inputs import Inputs
from surgery.modules.modes import evaluating

Teacher: TypeAlias = "Callable[..., Any]"
Key: TypeAlias = bytes
LIMIT = 2**31  # bytes of outputs that are kept
PRECISION = {torch.float16: 2e-2, torch.bfloat16: 8e-2, torch.float64: 1e-9}  # else 1e-4


@torch.no_grad()
def teacher_output(teacher: Teacher, run: Inputs) -> Any:
    """What a teacher says, in tensors apart from its own: it may have kept them, or be run in inference mode."""
    mode = evaluating(teacher) if isinstance(teacher, nn.Module) and teacher.training else contextlib.nullcontext()
    with mode:
        said = teacher(*run.args, **run.kwargs)
    return pytree.tree_map(_apart, said)


def _apart(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return (leaf.clone() if leaf.is_inference() else leaf).detach()


def cached(teacher: Teacher, *, limit: int = LIMIT) -> Cached:
    """A `teacher=` that runs once for each row of data, and says the same again in later epochs.

    Rows are known by their contents, so batches may be shuffled. Random augmentation makes new rows each time: there,
    nothing is saved. Of a module, what is kept is forgotten when its parameters or buffers change.

    Args:
        teacher: a frozen model, or a function of the inputs. Dimension 0 of every tensor that goes in or comes out
            counts the rows of the batch.
        limit: how many bytes of outputs are kept, on the CPU; rows beyond them are asked anew each time.

    Raises InputError, when it is called, where what comes out is no tensors with a row for each one that went in, or
    where what it says of a row depends on the other rows.
    """
    if not callable(teacher):
        raise InputError(f"a teacher is a model, or a function of the inputs, got {type(teacher).__name__}")
    return Cached(teacher, limit)


@dataclass
class _Row:
    """What was said of one row: a tensor for each leaf of the output, and the kind of output that they make."""

    leaves: list[Tensor]
    kind: tuple[Any, tuple[torch.device, ...]]


class Cached:
    """See `cached`.

    Attributes:
        bytes: how much is kept.
        asked: how many rows the teacher was run on.
    """

    def __init__(self, teacher: Teacher, limit: int):
        self.teacher, self.limit = teacher, limit
        self.asked = self.bytes = 0
        self._rows: dict[Key, _Row] = {}
        self._state: tuple[tuple[int, int], ...] = ()
        self._checked = self._told = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = tuple(_versions(self.teacher))
        if state != self._state:
            self._rows, self.bytes, self._state = {}, 0, state
        run = Inputs(args, kwargs)
        keys = _keys(run)
        known = [self._rows.get(key) for key in keys]
        rows = [row for row in known if row is not None]
        if len(rows) < len(keys) or any(row.kind != rows[0].kind for row in rows):
            return self._said(run, keys)
        structure, devices = rows[0].kind
        leaves = [torch.stack([row.leaves[i] for row in rows]).to(device) for i, device in enumerate(devices)]
        return pytree.tree_unflatten(leaves, structure)

    def _said(self, run: Inputs, keys: Sequence[Key]) -> Any:
        said = teacher_output(self.teacher, run)
        leaves, structure = pytree.tree_flatten(said)
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or leaf.dim() == 0 or len(leaf) != len(keys):
                seen = list(leaf.shape) if isinstance(leaf, Tensor) else repr(leaf)[:80]
                raise InputError(
                    f"a cached teacher returns tensors with a row for each of the {len(keys)} rows of the batch, got "
                    f"{seen}: give a function that returns what is learnt from, lambda x: model(x).logits"
                )
        if not self._checked and len(keys) > 1:
            self._check(run, leaves, len(keys))
        self.asked += len(keys)
        stored = [leaf.cpu() for leaf in leaves]
        size = sum(leaf.nbytes for leaf in stored)
        if self.bytes + size > self.limit:
            self._full()
            return said
        self.bytes += size
        kind = structure, tuple(leaf.device for leaf in leaves)
        self._rows |= {key: _Row([leaf[i] for leaf in stored], kind) for i, key in enumerate(keys)}
        return said

    def _check(self, run: Inputs, leaves: Sequence[Tensor], rows: int) -> None:
        """Raises InputError where what is said of some rows is something else without the others."""
        few = rows // 2
        part = Inputs(*pytree.tree_map(lambda leaf: leaf[-few:] if _has_rows(leaf) else leaf, (run.args, run.kwargs)))
        for whole, other in zip(leaves, pytree.tree_leaves(teacher_output(self.teacher, part)), strict=True):
            if not _alike(whole[-few:], other):
                raise InputError(
                    "what this teacher says of a row depends on the other rows of the batch, or on chance, so it "
                    "cannot be kept by rows: give the model itself as teacher="
                )
        self._checked = True

    def _full(self) -> None:
        if not self._told:
            self._told = True
            warnings.warn(
                f"the outputs of this teacher take more than {self.limit} bytes: the rows beyond are not kept. "
                "Give a larger limit=, or a function that returns less",
                stacklevel=4,
            )


def _alike(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    a, b = one.double(), other.double()
    allowed = PRECISION.get(other.dtype, 1e-4) * (float(a.abs().max()) if a.numel() else 0.0)
    return bool(torch.isclose(a, b, rtol=0.0, atol=allowed, equal_nan=True).all())


def _has_rows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0


def _versions(teacher: Teacher) -> Iterator[tuple[int, int]]:
    """What tells that the tensors of a module have changed."""
    if isinstance(teacher, nn.Module):
        for tensor in itertools.chain(teacher.parameters(), teacher.buffers()):
            yield id(tensor), 0 if tensor.is_inference() else tensor._version


def _keys(run: Inputs) -> list[Key]:
    """A key for each row of a batch: of its contents, and of what all rows have in common."""
    leaves, structure = pytree.tree_flatten((run.args, run.kwargs))
    rows = [leaf.detach().cpu().contiguous() for leaf in leaves if _has_rows(leaf)]
    if not rows or len({len(leaf) for leaf in rows}) > 1:
        raise InputError(
            "dimension 0 of all inputs of a cached teacher counts the rows of the batch, got "
            f"{[list(leaf.shape) for leaf in rows]}: give the model itself as teacher="
        )
    others = [leaf.tolist() if isinstance(leaf, Tensor) else leaf for leaf in leaves if not _has_rows(leaf)]
    cast = [(kind, torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")]
    common = repr((str(structure), others, [(leaf.shape[1:], leaf.dtype) for leaf in rows], cast)).encode()
    contents = [leaf.reshape(len(leaf), math.prod(leaf.shape[1:])).view(torch.uint8).numpy() for leaf in rows]
    return [
        hashlib.blake2b(b"".join((common, *map(bytes, row))), digest_size=16).digest()
        for row in zip(*contents, strict=True)
    ]
