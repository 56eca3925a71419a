"""Classes of modules that run at any width: subclasses of their own ones, with properties in place of tensors.

Every buffer, every tensor that a group cuts, every attribute that follows a width and every attribute that holds a cut
tensor is a property, which reads the value in `_parameters`, `_buffers` or `__dict__` at the current widths. So a
forward sees slices, also through `parameters()`, while the outside sees whole parameters in `parameters()`, and
`state_dict` is whole everywhere.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from surgery.errors import InputError
from surgery.twin.children import CHILDREN
from surgery.twin.compiled import Compiled
from surgery.twin.elastic import KEY, Elastic, elastic_of, is_wrapped, state_of, synced
from surgery.twin.foreign import REMEDY
from surgery.twin.forward import around, forward_of, named_members, untraced
from surgery.twin.memory import Stored
from surgery.twin.slices import Slice
from surgery.twin.state import in_backward
from surgery.twin.status import line
from surgery.twin.writing import assign

# Of a class: tensors, attributes and holders of tensors that follow the widths, and whether its children do.
Names: TypeAlias = "tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], bool]"


class Member:
    """What the modules of a twin have in common. It stands before their own class, whose hooks it keeps out."""

    surgery_base: type[nn.Module]
    surgery_names: Names

    def __init_subclass__(cls, **_: Any) -> None:
        """A base that registers its subclasses is not told of classes that are made here."""

    def __reduce_ex__(self, _protocol: Any) -> tuple[Any, ...]:
        """Pickled and copied by the plain class, since classes that are made here have no importable name."""
        own = getattr(type(self).surgery_base, "__getstate__", None)
        state = vars(self) if own is None or own is getattr(object, "__getstate__", None) else own(self)
        return _reduced(self, state)

    def __setstate__(self, state: tuple[Any, Elastic | None]) -> None:
        cls: Any = type(self)
        cls.surgery_base.__setstate__(self, state[0])
        if state[1] is not None:
            vars(self)[KEY] = state[1]

    def __repr__(self: Any) -> str:
        said = line(self)
        text: str = super().__repr__()
        return text if said is None else f"{text}  {said}"

    def get_parameter(self: Any, target: str) -> Any:
        """What the attribute gives, as in any module; below full width that is a slice, and no nn.Parameter."""
        path, _, name = target.rpartition(".")
        owner = self.get_submodule(path)
        if is_wrapped(owner) and owner._parameters.get(name) is not None:
            return getattr(owner, name)
        return nn.Module.get_parameter(self, target)

    def _named_members(self: Any, members: Any, *args: Any, **kwargs: Any) -> Any:
        whole = super()._named_members  # type: ignore[misc]
        return named_members(self, lambda noted: whole(noted(members), *args, **kwargs))

    def requires_grad_(self: Any, *args: Any, **kwargs: Any) -> Any:
        with _whole(self):
            return super().requires_grad_(*args, **kwargs)  # type: ignore[misc]

    def compile(self: Any, **options: Any) -> None:
        """Compile the forward of a wrapped model at each width that comes again: see `Compiled`."""
        elastic = elastic_of(self)
        if elastic is None or elastic.path:
            super().compile(**options)  # type: ignore[misc]
        else:
            elastic.state.compiled = Compiled(options)

    def zero_grad(self: Any, *args: Any, **kwargs: Any) -> None:
        with _whole(self):
            super().zero_grad(*args, **kwargs)  # type: ignore[misc]

    def _replicate_for_data_parallel(self) -> Any:
        raise InputError(
            "DataParallel runs replicas of a wrapped model in threads, which would draw widths against each other: "
            "use DistributedDataParallel, which is exact"
        )

    def __setattr__(self: Any, name: str, value: Any) -> None:
        if _taken(self, name, value):
            return
        if isinstance(value, nn.Parameter) and elastic_of(self) is not None:
            with _whole(self):  # layers may note parameters in lists of theirs, as recurrent ones do
                super().__setattr__(name, value)
        else:
            super().__setattr__(name, around(self, value) if name == "forward" else value)

    def register_parameter(self: Any, name: str, param: Any) -> None:
        """Torch reads the attribute to ask whether the name is taken: whole, since to cut a sharded one gathers it."""
        if elastic_of(self) is None:
            super().register_parameter(name, param)  # type: ignore[misc]
        else:
            with _whole(self):
                super().register_parameter(name, param)  # type: ignore[misc]

    def register_buffer(self: Any, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        if not _taken(self, name, tensor):
            super().register_buffer(name, tensor, persistent)  # type: ignore[misc]


def _whole(module: Any) -> Any:
    return state_of(module).whole()


def _taken(module: Any, name: str, value: Any) -> bool:
    """Whether a value that is set goes where the model finds it as well, so that nothing else is to be done."""
    elastic = elastic_of(module)
    if elastic is None or not isinstance(value, Tensor) or isinstance(value, nn.Parameter):
        return False
    if module.__dict__.get("_buffers", {}).get(name) is not None:
        elastic.state.sync()
        assign(elastic, module, name, value)
        return True
    return elastic.is_own(module, name, value)  # `self.weight += 1`: the slice was changed in place already


def _tensor_property(name: str) -> property:
    def get(self: nn.Module) -> Any:
        table = self._parameters if name in self._parameters else self._buffers
        if name not in table:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        tensor: Tensor | None = table[name]
        elastic = synced(self)
        if tensor is None or elastic is None or elastic.state.forward.whole_views:
            return tensor
        value = elastic.read(self, name, tensor)
        mine = (
            value is tensor or value.requires_grad or type(value) is not Tensor
        )  # flags of others torch refuses to set
        return value if mine or elastic.state.forward.depth or in_backward() else value.as_subclass(Slice)

    def put(self: nn.Module, value: Any) -> None:
        elastic = elastic_of(self)
        if elastic is None:
            self.__dict__[name] = value
            return
        raise InputError(f"{elastic.full(name)} was a tensor of the model, and is computed after wrapping: {REMEDY}")

    return property(get, put)


def _attribute_property(name: str) -> property:
    def get(self: nn.Module) -> Any:
        elastic = synced(self)
        if elastic is not None and name in elastic.constants:
            return elastic.constants[name]
        if name not in self.__dict__:
            if elastic is None or name not in elastic.attributes:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            return elastic.attribute(name, None)
        value = self.__dict__[name]
        return value if elastic is None or elastic.state.setting.full else elastic.attribute(name, value)

    def put(self: nn.Module, value: Any) -> None:
        elastic = synced(self)
        if elastic is None or not elastic.keep(name, value):
            self.__dict__[name] = value

    return property(get, put)


def _holder_property(name: str) -> property:
    """A tensor of the twin, or a container of such, that is held in a plain attribute: tied weights, flat weights."""

    def get(self: nn.Module) -> Any:
        elastic = synced(self)
        if name not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self.__dict__[name]
        whole = elastic is None or elastic.state.setting.full or elastic.state.forward.whole_views
        return value if whole or elastic is None else elastic.show(self, name, value)

    def put(self: nn.Module, value: Any) -> None:
        elastic = synced(self)
        if elastic is not None and elastic.keep(name, value):
            return
        self.__dict__[name] = value = value if elastic is None else elastic.hold(value)
        if elastic is not None and name in elastic.stored and not elastic.state.inside:
            elastic.stored[name] = Stored(value, follows=True)

    def drop(self: nn.Module) -> None:
        del self.__dict__[name]

    return property(get, put, drop)


def _forward(base: Any) -> Callable[..., Any]:
    """The forward of a member. It does not say what it wraps: who unwraps a decorated forward would lose the draws."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_dynamo_compiling() and not torch.compiler.is_exporting():
            return untraced(self, base, args, kwargs)
        return forward_of(self, base, args, kwargs)

    del forward.__wrapped__
    with contextlib.suppress(TypeError, ValueError):
        forward.__signature__ = inspect.signature(base.forward)  # type: ignore[attr-defined]
    return forward


def _reduced(module: Any, state: Any) -> tuple[Any, ...]:
    cls: Any = type(module)
    plain = {key: value for key, value in state.items() if key != KEY} if isinstance(state, dict) else state
    return _rebuild, (cls.surgery_base, cls.surgery_names), (plain, vars(module).get(KEY))


def _rebuild(base: Any, names: Names) -> nn.Module:
    cls = elastic_class(base, *names)
    made: nn.Module = object.__new__(cls)  # past what a class of its own would make
    return made


def _deepcopy(self: Any, memo: dict[int, Any]) -> nn.Module:
    """Copied as any module, where its class has a way of its own, which would make another class.

    What is parametrized refuses to be pickled, not to be copied.
    """
    make, given, state = _reduced(self, vars(self)) if is_parametrized(self) else self.__reduce_ex__(2)
    memo[id(self)] = made = make(*given)
    made.__setstate__(copy.deepcopy(state, memo))
    return cast(nn.Module, made)


@functools.cache
def elastic_class(
    base: Any, tensors: tuple[str, ...], attributes: tuple[str, ...], holders: tuple[str, ...], listed: bool = False
) -> type[nn.Module]:
    """The subclass of `base` in which these tensors, attributes and holders of tensors follow the widths.

    And its children, where it is `listed`.
    """
    members: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "surgery_base": base,
        "surgery_names": (tensors, attributes, holders, listed),
        "forward": _forward(base),
    }
    if hasattr(base, "__deepcopy__"):
        members["__deepcopy__"] = _deepcopy
    members |= {name: _tensor_property(name) for name in tensors}
    members |= {name: _attribute_property(name) for name in attributes}
    members |= {name: _holder_property(name) for name in holders}
    members |= {"_modules": CHILDREN} if listed else {}
    first, own = _first(base)
    made: type[nn.Module] = type.__new__(type(base), base.__name__, (first, base), own | members)  # past its metaclass
    return made


def _first(base: type) -> tuple[type, dict[str, Any]]:
    """What stands before a base, and members: Python lets an object change its class where memory is laid out alike.

    A class that has its attributes from below a base without any (`class A(ABC, nn.Module)`, `Generic[T]`) is laid out
    like others over that one. `Member` comes behind it in their order, so what it defines is given to the class itself.
    """
    root = base
    while root.__base__ is not None and root.__base__.__dictoffset__:
        root = root.__base__
    if root.__base__ in (None, object):
        return Member, {}
    assert root.__base__ is not None
    members = {"__init_subclass__": vars(Member)["__init_subclass__"], "__orig_bases__": ()}  # Generic asks for its own
    before = type.__new__(type(base), Member.__name__, (root.__base__, Member), members)
    return before, {name: value for name, value in vars(Member).items() if isinstance(value, FunctionType)}
