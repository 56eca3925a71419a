"""Skeletons: plain models of the sizes of some widths, that compute with a twin's own slices, buffers and attributes.

What a small model computes is what its twin computes at those widths. So a twin may run as a plain tree of modules, in
which its slices stand for parameters: it is that tree that `torch.compile` is given.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from surgery.modules.engines import is_changed
from surgery.modules.tree import OF_ANY, named_modules
from surgery.twin.elastic import KEY, Elastic, elastic_of
from surgery.twin.memory import Absent
from surgery.twin.plain import plain_at
from surgery.twin.state import State, Widths

_TABLES = (OF_ANY - {"training"}) | {KEY, "_compiled_call_impl"}
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_NO_NAMES = ((), (), ())
_MANY = 10_000  # objects that an attribute may hold


class Stale(Exception):
    """Modules of the twin are others than when its skeleton was made."""


@dataclass
class Pair:
    """A module of a twin, and the one that runs in its place.

    Attributes:
        own: what the twin's module had in the attributes that the other one has values of its own for.
        children: the twin's modules inside, by name.
        cls: the class of the twin's module.
        shared: the attributes in which both have one object, when they were looked through last.
        sizes: how many attributes each of them had then.
    """

    twin: nn.Module
    plain: nn.Module
    elastic: Elastic | None
    own: dict[str, Any]
    children: dict[str, nn.Module | None]
    cls: type[nn.Module]
    shared: list[str] = field(default_factory=list)
    sizes: tuple[int, int] = (-1, -1)

    def alike(self) -> bool:
        """Whether both have the same attributes, as far as they share them. Most often they do."""
        mine, its = vars(self.twin), vars(self.plain)
        pairs = ((mine.get(name, Absent), its.get(name, self)) for name in self.shared)
        return (len(mine), len(its)) == self.sizes and all(a is b for a, b in pairs)

    def follow(self) -> None:
        """Give the plain module the attributes that the twin's has now. Raises Stale, and Unfit for what it cannot."""
        mine, its, own = vars(self.twin), vars(self.plain), self.own
        if type(self.twin) is not self.cls or _children(self.twin) != self.children:
            raise Stale
        for name, value in own.items():
            if mine.get(name, Absent) is not value:
                raise Stale
        if self.alike():
            return
        for name, value in mine.items():
            if its.get(name, Absent) is not value and name not in _TABLES and name not in own:
                _check_apart(self.elastic, name, value)
                its[name] = value
        for name in [name for name in its if name not in mine and name not in own and name not in _TABLES]:
            del its[name]
        self.shared = [name for name in mine if name not in _TABLES and name not in own]
        self.sizes = len(mine), len(its)

    def take(self) -> None:
        """Let the plain module have what the twin's module reads now: slices, buffers, sizes."""
        if self.elastic is not None:
            vars(self.plain).update({name: getattr(self.twin, name) for name in self.elastic.attributes})
        tables: Any = (self.twin._parameters, self.plain._parameters), (self.twin._buffers, self.plain._buffers)
        for mine, its in tables:
            its.clear()
            for name, tensor in mine.items():
                its[name] = tensor if tensor is None or self.elastic is None else self.read(name, tensor)

    def read(self, name: str, tensor: Tensor) -> Any:
        """A slice. Torch updates the statistics of a norm uncounted, but compiled code counts: it gets an alias."""
        assert self.elastic is not None
        value = self.elastic.read(self.twin, name, tensor)
        return value.data if isinstance(self.twin, _NormBase) and name in self.twin._buffers else value

    def give(self, before: dict[str, Tensor | None]) -> None:
        """Do to the twin's module what a forward did to the plain one: attributes that it set, buffers it assigned."""
        mine, its = vars(self.twin), vars(self.plain)
        for name, value in [] if self.alike() else list(its.items()):
            if mine.get(name, Absent) is not value and name not in _TABLES and name not in self.own:
                setattr(self.twin, name, value)
        for name in [name for name in self.shared if name in mine and name not in its]:
            delattr(self.twin, name)
        for name, tensor in self.plain._buffers.items():
            if name not in before:
                self.twin.register_buffer(name, tensor, name not in self.plain._non_persistent_buffers_set)
            elif tensor is not before[name]:
                setattr(self.twin, name, tensor)

    def let_go(self) -> None:
        for table in (self.plain._parameters, self.plain._buffers):
            table.update(dict.fromkeys(table))


class Unfit(Exception):
    """What a twin does that no skeleton can do in its place."""


class Skeleton:
    """A plain model over a twin's tensors, called in place of the twin's forward.

    Args:
        compile: makes a fast function of one that runs the model.
    """

    def __init__(
        self, twin: nn.Module, state: State, widths: Widths, compile: Callable[[Callable[..., Any]], Callable[..., Any]]
    ) -> None:
        assert state.plan is not None
        plain = plain_at(twin, state.plan, lambda _, tensor: tensor, widths).model
        modules = dict(named_modules(plain))
        there = ((state.plan.units.name(path, widths), module) for path, module in named_modules(twin))
        self.pairs = [_pair(module, modules[path]) for path, module in there if path is not None]
        self.follow()
        self.run = compile(_with_code_of_its_own(plain))

    def follow(self) -> None:
        """Take over what has changed on the twin: modes, attributes. Raises Stale, Unfit."""
        for pair in self.pairs:
            pair.follow()
        for pair in self.pairs[1:]:  # those of the root run around its forward
            if any(getattr(pair.twin, table) for table in _HOOKS):
                raise Unfit(f"{_name(pair.elastic, pair.twin)} has hooks, which would be given another module")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for pair in self.pairs:
            pair.take()
        before = [dict(pair.plain._buffers) for pair in self.pairs]
        output = self.run(*args, **kwargs)
        for pair, buffers in zip(self.pairs, before, strict=True):
            pair.give(buffers)
        return output

    def let_go(self) -> None:
        """Hold no tensor. Until then, a checkpoint in it that runs again in a backward pass finds its slices."""
        for pair in self.pairs:
            pair.let_go()


def _pair(twin: nn.Module, plain: nn.Module) -> Pair:
    elastic = elastic_of(twin)
    own: dict[str, Any] = {name: value for name, value in vars(twin).items() if _is_of_module(value)}
    if elastic is not None:
        plain.__class__ = type(twin).surgery_base  # type: ignore[attr-defined]
        vars(plain).update(elastic.constants)
        names = {"forward", *elastic.attributes, *elastic.constants, *elastic.methods}
        own |= {name: vars(twin).get(name, Absent) for name in names}
    return Pair(twin, plain, elastic, own, dict(_children(twin)), type(twin))


def _children(module: nn.Module) -> dict[str, nn.Module | None]:
    """All modules inside of one, whichever are there at the present widths."""
    found: dict[str, nn.Module | None] = vars(module)["_modules"]
    return found


def _is_of_module(value: Any) -> bool:
    """Whether a value is a method of a module, which the skeleton's module has one of its own for."""
    return isinstance(value, MethodType) and isinstance(value.__self__, nn.Module)


_NUMBER = itertools.count()


def _with_code_of_its_own(model: nn.Module) -> Callable[..., Any]:
    """A function that runs a model: dynamo counts what it compiles by code, and by its name it guesses what changes."""

    def run(*args: Any, **kwargs: Any) -> Any:
        return model.forward(*args, **kwargs)

    name = f"surgery_skeleton_{next(_NUMBER)}"
    code: CodeType = run.__code__.replace(co_name=name)
    return FunctionType(code, run.__globals__, name, None, run.__closure__)


def unfit(twin: nn.Module, state: State) -> str | None:
    """Why no skeleton can run in place of a twin; None where one can."""
    shared: dict[int, str] = {}
    for path, module in named_modules(twin):
        elastic, name = elastic_of(module), path or "the model"
        if is_changed(module):
            return f"{name} is spread over ranks (FSDP2, tensor parallelism)"
        if elastic is None:
            continue
        if elastic.stored and module in state.writes.storing:
            return f"{name}: its forward sets {min(elastic.stored)}"
        if elastic.unregistered or getattr(type(module), "surgery_names", _NO_NAMES)[2]:
            return f"{name} holds tensors that follow the widths in plain attributes"
        if elastic.tensors and (elastic.writes_data or getattr(module, "max_norm", None) is not None):
            return f"{name} may change its weights in its forward (by `data`, or `max_norm`)"
        for key in elastic.tensors.keys() & module._buffers.keys():
            first = shared.setdefault(id(module._buffers[key]), elastic.full(key))
            if first != elastic.full(key):
                return f"{first} and {elastic.full(key)} are one buffer"
    return None


def _check_apart(elastic: Elastic | None, name: str, value: Any) -> None:
    """Raises Unfit for an attribute that holds modules, since the skeleton has others."""
    if _holds_modules(value):
        raise Unfit(f"{name} of {_name(elastic, None)} holds modules outside of the module tree")


def _holds_modules(value: Any) -> bool:
    seen: dict[int, Any] = {}
    todo = [value]
    while todo:
        value = todo.pop()
        if isinstance(value, nn.Module) or len(seen) > _MANY:
            return True
        if id(value) not in seen:
            seen[id(value)] = value
            todo += _inside(value)
    return False


def _inside(value: Any) -> Iterator[Any]:
    """What a value holds: items, attributes of an object, and whose method it is."""
    if isinstance(value, Tensor | type | FunctionType | ModuleType):
        return
    if isinstance(value, dict):
        yield from value.keys()
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    elif isinstance(value, functools.partial):
        yield from (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        yield value.__self__
    yield from getattr(value, "__dict__", {}).values()


def _name(elastic: Elastic | None, module: nn.Module | None) -> str:
    if elastic is None:
        return "a module" if module is None else f"a {type(module).__name__}"
    return elastic.path or "the model"
