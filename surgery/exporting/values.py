"""What attributes of modules hold, as expressions: plain data, tensors, classes, functions, and objects of these."""

from __future__ import annotations

import copyreg
import enum
import functools
import types
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.exporting.layout import Source, call, flat, mapping, sequence, tuple_of
from surgery.exporting.names import Names
from surgery.exporting.written import Written
from surgery.modules.tree import named_modules, registered

TENSORS = "tensors"  # the argument of the function that builds the model, which is given those of the file
MADE = "made"  # the model in the statements that come after it was built
Write: TypeAlias = "Callable[[Values, Any, str], Source]"
_OPEN = (list, dict, set)  # two attributes may hold one and the same, and change it for each other


class Values:
    """Expressions for values. An object that several attributes hold is made once, under a name of its own.

    Attributes:
        tensors: what expressions take from the file, beside parameters and buffers.
        shared: the names of objects that are held several times, with expressions.
        late: those of them that need the model.
        helpers: the functions of `helpers.py` that are called.
        apart: writes a module that is no part of the model, and holds no tensors.
    """

    def __init__(self, model: nn.Module, names: Names, counted: Counter[int] | None = None):
        self.names, self.counted = names, counted
        self.written = Written(names, self.constant)
        self.paths = {id(module): path for path, module in named_modules(model)}
        self.places = {id(tensor): name for name, tensor in registered(model)}
        self.tensors: dict[str, Tensor] = {}
        self.shared: dict[str, Source] = {}
        self.late: dict[str, Source] = {}
        self.helpers: set[str] = set()
        self.seen: Counter[int] = Counter()
        self.needs_model = False
        self.apart: Callable[[nn.Module, str], Source]
        self._known: dict[int, tuple[object, str]] = {}
        self._around: list[int] = []
        self._constants = False

    def of(self, value: Any, where: str) -> Source:
        """The expression for a value. Raises InputError where there is none."""
        if not self._is_shared(value):
            return self._of(value, where)
        self.seen[id(value)] += 1
        if id(value) in self._known:
            name = self._known[id(value)][1]
            self.needs_model |= name in self.late
            return name
        if id(value) in self._around:
            raise InputError(f"{where} holds itself, which cannot be written as source")
        self._around.append(id(value))
        before, self.needs_model = self.needs_model, False
        source = self._of(value, where)
        self._around.pop()
        if self.counted is None or self.counted[id(value)] > 1:
            name = self.names.unique(where.rpartition(".")[2])
            self._known[id(value)] = value, name
            (self.late if self.needs_model else self.shared)[name] = source
            source = name
        self.needs_model |= before
        return source

    def helper(self, name: str) -> str:
        self.helpers.add(name)
        return name

    def constant(self, value: object, where: str) -> Source:
        """A value that stands outside of the function that builds the model."""
        before, self._constants = self._constants, True
        source = self._of(value, where)
        self._constants = before
        return source

    def _is_shared(self, value: object) -> bool:
        if self._constants or isinstance(value, _OPEN):
            return not self._constants
        return type(value) not in _WRITTEN and not isinstance(value, _NEVER_SHARED) and hasattr(value, "__dict__")

    def _of(self, value: Any, where: str) -> Source:
        write = _WRITTEN.get(type(value))
        if write is None:
            write = next((how for kind, how in _KINDS if isinstance(value, kind)), Values._object)
        return write(self, value, where)

    def _items(self, value: Any, where: str) -> list[Source]:
        return [self.of(item, f"{where}[{i}]") for i, item in enumerate(value)]

    def _list(self, value: list[Any], where: str) -> Source:
        return sequence(self._items(value, where))

    def _tuple(self, value: tuple[Any, ...], where: str) -> Source:
        return tuple_of(self._items(value, where))

    def _set(self, value: Any, where: str) -> Source:
        name = type(value).__name__
        if not value:
            return f"{name}()"
        items = sequence(sorted(self._items(list(value), where), key=flat), "{", "}")
        return items if name == "set" else call(name, [items])

    def _dict(self, value: dict[Any, Any], where: str) -> Source:
        keys = [flat(self.of(key, f"a key of {where}")) for key in value]
        items = [self.of(item, f"{where}[{key!r}]") for key, item in value.items()]
        return mapping(zip(keys, items, strict=True))

    def _named(self, value: Any, where: str) -> Source:
        if not hasattr(value, "_asdict"):
            return self._object(value, where)
        cls = self.written.reference(type(value), where)
        return call(cls, [], [(key, self.of(item, f"{where}.{key}")) for key, item in value._asdict().items()])

    def _entries(self, value: Any, where: str) -> Source:
        """A dict of a class of its own, where the class makes the same one of its entries."""
        try:
            again = type(value)(dict(value))
            alike = again == value and vars(again) == vars(value)
        except Exception:  # any class may be here
            alike = False
        if not alike:
            return self._object(value, where)
        return call(self.written.reference(type(value), where), [self._dict(dict(value), where)])

    def _tensor(self, value: Tensor, where: str) -> Source:
        if self._constants:
            raise InputError(f"{where}: a tensor that code finds outside of the model cannot be written out")
        if id(value) in self.places:
            self.needs_model = True
            name = self.places[id(value)]
            kind = "parameter" if isinstance(value, nn.Parameter) else "buffer"
            return f"{MADE}.get_{kind}({name!r})"
        if type(value) not in (Tensor, nn.Parameter) or value.layout is not torch.strided:
            raise InputError(f"{where} is a {type(value).__name__} of layout {value.layout}, which files cannot hold")
        known = next((name for name, tensor in self.tensors.items() if tensor is value), where)
        self.tensors[known] = value
        taken = f"{TENSORS}[{known!r}]"
        if isinstance(value, nn.Parameter):
            return f"nn.Parameter({taken}, requires_grad={value.requires_grad})"
        return f"{taken}.requires_grad_()" if value.requires_grad and value.is_leaf else taken

    def _module(self, value: nn.Module, where: str) -> Source:
        if id(value) not in self.paths:
            if any(True for _ in registered(value)):
                raise InputError(
                    f"{where} holds a {type(value).__name__} that is no part of the model: register it as a module, or "
                    "take it out"
                )
            return self.apart(value, where)
        self.needs_model = True
        path = self.paths[id(value)]
        return f"{MADE}.get_submodule({path!r})" if path else MADE

    def _method(self, value: types.MethodType, where: str) -> Source:
        return f"{flat(self.of(value.__self__, where))}.{value.__name__}"

    def _partial(self, value: functools.partial[Any], where: str) -> Source:
        self.names.reference(functools)
        arguments = [self.of(item, where) for item in (value.func, *value.args)]
        return call("functools.partial", arguments, [(k, self.of(v, where)) for k, v in value.keywords.items()])

    def _enum(self, value: enum.Enum, where: str) -> Source:
        return f"{self.written.reference(type(value), where)}[{value.name!r}]"

    def _reference(self, value: object, where: str) -> Source:
        return self.written.reference(value, where)

    def _object(self, value: Any, where: str) -> Source:
        """Any other object, by what pickle would store of it."""
        try:
            reduced = value.__reduce_ex__(2)
        except Exception as error:
            raise _unwritable(value, where) from error
        if isinstance(reduced, str):
            found = getattr(value, "__module__", None)
            return self.written.reference(types.SimpleNamespace(__module__=found, __qualname__=reduced), where)
        make, given, state, items, entries = (*reduced, None, None, None)[:5]
        cls, *rest = given if make is copyreg.__newobj__ else (None,)  # type: ignore[attr-defined]
        if isinstance(state, tuple) and len(state) == 2:
            state = {**(state[0] or {}), **(state[1] or {})}
        bare = cls is not None and not rest and items is None and entries is None and not hasattr(cls, "__setstate__")
        if bare and isinstance(state, dict | None) and all(isinstance(key, str) for key in state or {}):
            named = [(key, self.of(item, f"{where}.{key}")) for key, item in (state or {}).items()]
            return call(self.helper("_object"), [self.written.reference(cls, where)], named)
        return self._reduced(make, given, (state, items, entries), where)

    def _reduced(self, make: Any, given: Any, held: tuple[Any, Any, Any], where: str) -> Source:
        if make is copyreg.__newobj__:  # type: ignore[attr-defined]
            make, given = given[0].__new__, given
            made = call(f"{self.written.reference(given[0], where)}.__new__", self._items(given, where))
        else:
            made = call(self.written.reference(make, where), self._items(given, where))
        state, items, entries = held
        if state is None and items is None and entries is None:
            return made
        told = [self.of(state, where), self.of(list(items or ()), where), self.of(list(entries or ()), where)]
        return call(self.helper("_restored"), [made, *told])


def _unwritable(value: object, where: str) -> InputError:
    return InputError(f"{where} holds a {type(value).__name__}, which cannot be written as source: take it out")


def _refused(_: Values, value: object, where: str) -> Source:
    raise _unwritable(value, where)


def _repr(_: Values, value: object, where: str) -> Source:
    return repr(value)


def _float(_: Values, value: float, where: str) -> Source:
    return repr(value) if value == value and abs(value) != float("inf") else f"float({str(value)!r})"


def _complex(values: Values, value: complex, where: str) -> Source:
    return call("complex", [_float(values, value.real, where), _float(values, value.imag, where)])


def _device(_: Values, value: torch.device, where: str) -> Source:
    return f"torch.device({str(value)!r})"


def _size(_: Values, value: torch.Size, where: str) -> Source:
    return f"torch.Size({list(value)})"


_NEVER_SHARED = (
    Tensor, nn.Module, enum.Enum, tuple, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType,
)  # fmt: skip
_WRITTEN: Mapping[type, Write] = {
    **dict.fromkeys((bool, int, str, bytes, type(None), type(...)), _repr),
    **dict.fromkeys((torch.dtype, torch.layout, torch.memory_format), _repr),
    **dict.fromkeys((set, frozenset), Values._set),
    float: _float, complex: _complex, torch.device: _device, torch.Size: _size, list: Values._list,
    tuple: Values._tuple, dict: Values._dict, functools.partial: Values._partial, types.MethodType: Values._method,
}  # fmt: skip
_KINDS: tuple[tuple[type | types.UnionType, Write], ...] = (  # the first that fits
    (Tensor, Values._tensor),
    (nn.Module, Values._module),
    (enum.Enum, Values._enum),
    (type | types.FunctionType | types.BuiltinFunctionType | types.ModuleType, Values._reference),
    (types.MethodDescriptorType | types.WrapperDescriptorType, Values._reference),
    (torch.Generator | types.GeneratorType, _refused),
    (dict, Values._entries),
    (tuple, Values._named),
)
