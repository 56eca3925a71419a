"""Teachers: what a frozen model says to a batch, and memory of it for the epochs after the first."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.modules.inputs import Inputs
from surgery.modules.modes import evaluating
from surgery.modules.verify import TOLERANCES
from surgery.twin.elastic import is_wrapped, state_of

Teacher: TypeAlias = "Callable[..., Any]"
Key: TypeAlias = bytes
LIMIT = 2**31  # bytes of outputs that are kept


@torch.no_grad()
def teacher_output(teacher: Teacher, run: Inputs) -> Any:
    """What a teacher says, in tensors apart from its own: it may have kept them, or be run in inference mode."""
    mode: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
    if isinstance(teacher, nn.Module) and any(module.training for module in teacher.modules()):
        mode = evaluating(teacher)
    with mode:
        said = teacher(*run.args, **run.kwargs)
    return pytree.tree_map(_apart, said)


def _apart(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return (leaf.clone() if leaf.is_inference() else leaf).detach()


def cached(teacher: Teacher, *, limit: int = LIMIT) -> Cached:
    """A `teacher=` that is asked once for each row of data, and says the same again in later epochs.

    Rows are known by their contents, so batches may be shuffled. Random augmentation makes new rows each time: there,
    nothing is saved. The teacher must not change. Of a module it is noticed, and what is kept forgotten, where its
    parameters and buffers are others or were written to (but through `.data`), or a wrapped one is at other widths.

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


@dataclass(frozen=True)
class _Row:
    """What was said of one row: a tensor for each leaf of the output, and the kind of output that they make."""

    leaves: Sequence[Tensor]
    kind: tuple[Any, tuple[torch.device, ...]]


class Cached:
    """See `cached`.

    Attributes:
        bytes: how much is kept.
        asked: how many rows the teacher was asked.
    """

    def __init__(self, teacher: Teacher, limit: int):
        self.teacher, self.limit = teacher, limit
        self.asked = self.bytes = 0
        self._rows: dict[Key, _Row] = {}
        self._state: tuple[Any, ...] = ()
        self._checked = self._told = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        state = tuple(_state(self.teacher))
        if state != self._state:
            self._rows, self.bytes, self._state = {}, 0, state
        run = Inputs(args, kwargs)
        keys = _keys(run)
        if not keys:
            return teacher_output(self.teacher, run)
        unknown = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._rows}
        new = self._ask(run, unknown, len(keys)) if unknown else {}
        said = [new.get(key) or self._rows[key] for key in keys]
        if any(row.kind != said[0].kind for row in said):
            raise InputError("this teacher returns outputs of several kinds, so rows of them make no batch")
        structure, devices = said[0].kind
        leaves = [torch.stack([row.leaves[i] for row in said]).to(device) for i, device in enumerate(devices)]
        return pytree.tree_unflatten(leaves, structure)

    def _ask(self, run: Inputs, unknown: Mapping[Key, int], count: int) -> dict[Key, _Row]:
        """What is said of the rows that are not known; kept as far as there is room."""
        part = run if len(unknown) == count else _rows_of(run, torch.tensor(list(unknown.values())))
        leaves, structure = pytree.tree_flatten(teacher_output(self.teacher, part))
        for leaf in leaves:
            if not isinstance(leaf, Tensor) or leaf.dim() == 0 or len(leaf) != len(unknown):
                seen = list(leaf.shape) if isinstance(leaf, Tensor) else repr(leaf)[:80]
                raise InputError(
                    f"a cached teacher returns tensors with a row for each of the {len(unknown)} rows of the batch, "
                    f"got {seen}: give a function that returns what is learnt from, lambda x: model(x).logits"
                )
        kind = structure, tuple(leaf.device for leaf in leaves)
        leaves = [leaf.cpu().clone() for leaf in leaves]  # a teacher may use its memory again
        if not self._checked and len(unknown) > 1:
            self._check(part, leaves, len(unknown))
        self.asked += len(unknown)
        at = unknown if part is run else {key: i for i, key in enumerate(unknown)}
        found = {key: _Row([leaf[i].clone() for leaf in leaves], kind) for key, i in at.items()}
        for key, row in found.items():
            size = sum(leaf.nbytes for leaf in row.leaves)
            if self.bytes + size > self.limit:
                self._full()
                break
            self._rows[key], self.bytes = row, self.bytes + size
        return found

    def _check(self, run: Inputs, leaves: Sequence[Tensor], rows: int) -> None:
        """Raises InputError where what is said of some rows is something else without the others."""
        few = rows // 2
        part = _rows_of(run, torch.arange(rows - few, rows))
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
    """Whether values are the same but for rounding, which is seen against a usual one: masked ones are huge."""
    if one.shape != other.shape:
        return False
    a, b = one.double(), other.double().to(one.device)
    precision = TOLERANCES.get(other.dtype, TOLERANCES[torch.float32])
    usual = a[a.isfinite() & (a != 0)].abs()
    allowed = precision * float(usual.median()) if usual.numel() else 0.0
    return bool(torch.isclose(a, b, rtol=precision, atol=allowed, equal_nan=True).all())


def _has_rows(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.dim() > 0


def _rows_of(run: Inputs, index: Tensor) -> Inputs:
    def part(leaf: Any) -> Any:
        return leaf[index.to(leaf.device)] if _has_rows(leaf) else leaf

    return Inputs(*pytree.tree_map(part, (run.args, run.kwargs)))


def _state(teacher: Teacher) -> Iterator[Any]:
    """What tells that a module is not what it was."""
    if isinstance(teacher, nn.Module):
        for x in itertools.chain(teacher.parameters(), teacher.buffers()):
            yield id(x), x.data_ptr(), x.dtype, 0 if x.is_inference() else x._version
        if is_wrapped(teacher):
            yield repr(state_of(teacher).setting.chosen)


def _keys(run: Inputs) -> list[Key]:
    """A key for each row of a batch: of its contents, and of what all rows have in common."""
    leaves, structure = pytree.tree_flatten((run.args, run.kwargs))
    rows = [leaf.detach().cpu().resolve_conj().resolve_neg().contiguous() for leaf in leaves if _has_rows(leaf)]
    if not rows or len({len(leaf) for leaf in rows}) > 1:
        raise InputError(
            "dimension 0 of all inputs of a cached teacher counts the rows of the batch, got "
            f"{[list(leaf.shape) for leaf in rows]}: give the model itself as teacher="
        )
    others = [leaf.tolist() if isinstance(leaf, Tensor) else leaf for leaf in leaves if not _has_rows(leaf)]
    cast = [(kind, torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)) for kind in ("cpu", "cuda")]
    try:
        common = pickle.dumps((str(structure), others, [(leaf.shape[1:], leaf.dtype) for leaf in rows], cast))
    except Exception as error:
        raise InputError(f"a cached teacher is given what has no contents to know it by ({error})") from error
    contents = [leaf.reshape(len(leaf), math.prod(leaf.shape[1:])).view(torch.uint8).numpy() for leaf in rows]
    each = zip(*contents, strict=True)
    return [hashlib.blake2b(b"".join((common, *map(bytes, row))), digest_size=16).digest() for row in each]
