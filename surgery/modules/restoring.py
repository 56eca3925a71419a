"""Tensors that are as they were after code has run that changes them in place."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType
from typing import TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from surgery.nested import fold

TorchFunction: TypeAlias = Callable[..., object]  # what `__torch_function__` is asked about
_clone: Callable[[torch.UntypedStorage], torch.UntypedStorage] = torch.UntypedStorage.clone
_SWITCHES = {"inplace", "max_norm"}  # arguments by which a function of torch changes what it is given
Way: TypeAlias = "str | dict[str, int]"  # see `_way`
_STATISTICS: dict[str, Way] = {  # these change their statistics without saying so
    "batch_norm": {"training": 5},  # its place among the arguments, in each of its spellings
    "instance_norm": "any",
}


@contextlib.contextmanager
def restored(tensors: Iterable[Tensor], at_once: Iterable[Tensor] = ()) -> Iterator[None]:
    """Whatever the code inside does to these tensors is undone at the end; those `at_once` are copied before it."""
    with Watch(tensors).restoring(at_once):
        yield


class Watch(TorchFunctionMode):
    """Copies a tensor's memory before the first call that may change it, so that it can be put back.

    Calls that are written as in-place (`mul_`, `+=`, `w[i] = ...`, `out=`) are seen, also through views and `.data`.
    A tensor that is given other memory (`w.data = ...`) gets its own back, and so do the flags for gradients.

    While such a mode is active, as it is in recordings and proofs, torch's transformer layers do not take their fused
    path, which gives zeros at padded positions where the layers give numbers.
    """

    def __init__(self, tensors: Iterable[Tensor]):
        super().__init__()
        kept = [tensor for tensor in tensors if _has_memory(tensor)]
        self.before = [(tensor, tensor.detach(), tensor.requires_grad) for tensor in kept]
        self.watched = {_address(tensor) for tensor in kept if not tensor.is_meta}
        self.saved: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    @contextlib.contextmanager
    def restoring(self, at_once: Iterable[Tensor] = ()) -> Iterator[None]:
        """What the code inside does to the tensors is undone at the end; those `at_once` are copied before it."""
        for tensor in at_once:
            self.save(tensor)
        try:
            with self:
                yield
        finally:
            self.put_back()

    def __torch_function__(
        self,
        func: TorchFunction,
        types: object,
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if kwargs or _way(func):
            self.note(func, args, kwargs or {})
        return func(*args, **kwargs) if kwargs else func(*args)

    def note(self, func: TorchFunction, args: Sequence[object], kwargs: Mapping[str, object]) -> None:
        """Copy what a call may be about to change."""
        how = _way(func)
        if how or kwargs:  # most calls change nothing
            for tensor in _changed(how, args, kwargs):
                self.save(tensor)

    def save(self, tensor: Tensor) -> None:
        """Copy the memory of a tensor, if it is one of those that are watched, or a view of one."""
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # under vmap and its kin
            tensor = torch._C._functorch.get_unwrapped(tensor)
        if _has_memory(tensor) and (address := _address(tensor)) in self.watched and address not in self.saved:
            memory = tensor.untyped_storage()
            self.saved[address] = memory, _clone(memory)

    def put_back(self) -> None:
        """Undo every change."""
        for tensor, own, flag in self.before:
            if not _in_place(tensor, own):
                tensor.data = own
            if tensor.requires_grad != flag:
                tensor.requires_grad_(flag)
        for memory, saved in self.saved.values():
            memory.copy_(saved)
        self.saved.clear()


def _has_memory(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__


def _address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _in_place(tensor: Tensor, own: Tensor) -> bool:
    """Whether a tensor still is its own memory, seen in the same way."""
    if tensor.dtype is own.dtype and not (tensor.is_meta or own.is_meta):
        return tensor.is_set_to(own)
    return _place(tensor) == _place(own)


def _place(tensor: Tensor) -> tuple[object, ...]:
    return _address(tensor), tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _changed(how: Way, args: Sequence[object], kwargs: Mapping[str, object]) -> Iterator[Tensor]:
    """The tensors among the arguments of a call that it may change in place."""
    if how == "first":
        yield from fold(args[0] if args else next(iter(kwargs.values()), None), Tensor)
    elif how == "any" or (isinstance(how, dict) and any(_given(args, kwargs, *switch) for switch in how.items())):
        yield from fold((args, kwargs), Tensor)
    if kwargs.get("out") is not None:
        yield from fold(kwargs["out"], Tensor)


def _given(args: Sequence[object], kwargs: Mapping[str, object], name: str, index: int) -> bool:
    return bool(args[index] if index < len(args) else kwargs.get(name))


@functools.lru_cache(maxsize=4096)
def _way(func: TorchFunction) -> Way:
    """Which arguments a function may change: the first, any, or any if one of these arguments is given."""
    name = getattr(func, "__name__", "").partition(".")[0]
    schemas = [getattr(func, "_schema", None), *getattr(func, "_schemas", {}).values()]
    if any(schema is not None and schema.is_mutable for schema in schemas):
        return "any"
    if name in _STATISTICS:
        return _STATISTICS[name]
    if name.startswith("__"):
        return "first" if name.startswith("__i") or name == "__setitem__" else {}
    if name.endswith("_"):
        return "first"
    # not those of what it wraps, which may be a builtin
    names = list(inspect.signature(func, follow_wrapped=False).parameters) if isinstance(func, FunctionType) else []
    return {name: index for index, name in enumerate(names) if name in _SWITCHES}
