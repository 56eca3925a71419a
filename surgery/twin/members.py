"""Classes of modules that run at any width: subclasses of their own ones, with properties in place of tensors.

Every buffer, every tensor that a group cuts, every attribute that follows a width and every attribute that holds a cut
tensor is a property, which reads the value in `_parameters`, `_buffers` or `__dict__` at the current widths. So a
forward sees slices, also through `parameters()`, while the outside sees whole parameters in `parameters()`, and
`state_dict` is whole everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.modules.inputs import tensors
from surgery.twin.elastic import KEY, Elastic, is_wrapped, put_back, state_of
from surgery.twin.state import State, in_backward


def _settled(module: nn.Module) -> Elastic | None:
    """What a module reads through; None while it is being unpickled."""
    elastic: Elastic | None = module.__dict__.get(KEY)
    if elastic is not None:
        elastic.state.settle()
    return elastic


def _tensor_property(name: str) -> property:
    def get(self: nn.Module) -> Any:
        table = self._parameters if name in self._parameters else self._buffers
        if name not in table:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        tensor: Tensor | None = table[name]
        elastic = _settled(self)
        return tensor if tensor is None or elastic is None else elastic.read(self, name, tensor)

    return property(get)


def _attribute_property(name: str) -> property:
    def get(self: nn.Module) -> Any:
        elastic = _settled(self)
        value = self.__dict__.get(name)
        if elastic is not None and name in elastic.constants:
            return elastic.constants[name]
        if elastic is None or (elastic.state.full and value is not None):
            return value
        return elastic.attribute(name, value)

    def put(self: nn.Module, value: Any) -> None:
        self.__dict__[name] = value

    return property(get, put)


def _held_property(name: str) -> property:
    """A tensor of the twin, or a container of such, that is held in a plain attribute: tied weights, flat weights."""

    def get(self: nn.Module) -> Any:
        elastic = _settled(self)
        if name not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = self.__dict__[name]
        return value if elastic is None or elastic.state.full else elastic.show(self, name, value)

    def put(self: nn.Module, value: Any) -> None:
        elastic = _settled(self)
        self.__dict__[name] = value = value if elastic is None else elastic.hold(value)
        if elastic is not None and name in elastic.stored and not elastic.state.inside:
            elastic.stored[name] = value

    def drop(self: nn.Module) -> None:
        del self.__dict__[name]

    return property(get, put, drop)


def _run(elastic: Elastic, module: Any, args: Any, kwargs: Any) -> Any:
    forward, state = elastic.forward or elastic.own_forward, elastic.state
    state.depth += 1
    try:
        if forward is not None:
            return forward(*args, **kwargs)
        return type(module).surgery_base.forward(module, *args, **kwargs)
    finally:
        state.depth -= 1
        try:
            elastic.flush(module)
        finally:
            if not state.depth:
                _settle_debts(state)


def _settle_debts(state: State) -> None:
    """At the end of a forward: write back what it has changed in modules other than the one that ran."""
    owing, state.owing = state.owing, []
    try:
        for module in owing:
            vars(module)[KEY].flush(module)
    finally:
        for module in owing:
            vars(module)[KEY].forget()


def _forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run at the current widths; the root of a twin draws them in training mode."""
    elastic: Elastic = self.__dict__[KEY]
    state = elastic.state
    if state.running:  # most calls: a module inside of the root's forward
        return _run(elastic, self, args, kwargs)
    state.settle()
    if in_backward() and not elastic.path:
        _check_recomputation(state)
    if elastic.path or in_backward():  # in a backward pass: recomputation (gradient checkpointing)
        return _run(elastic, self, args, kwargs)
    if state.pending is not None:
        state.pending.first(self, args, kwargs)
        elastic = self.__dict__[KEY]
    widths = state.drawn() if self.training and not state.held else state.current
    state.running += 1
    try:
        with state.using(widths):
            _forget(self)
            output = _run(elastic, self, args, kwargs)
    finally:
        state.running -= 1
        _forget(self)
    state.recompute = widths
    state.blind = 0 if torch.is_grad_enabled() else state.blind + 1
    if torch.is_grad_enabled():
        for tensor in tensors(output):
            if tensor.requires_grad:
                tensor.register_hook(functools.partial(_remember, state, widths))
    return output


def _check_recomputation(state: State) -> None:
    """Forwards inside a reentrant checkpoint leave no trace in the graph: only the last one's widths are known."""
    blind, state.blind = state.blind, 0
    if blind > 1:
        raise InputError(
            f"a checkpoint around the whole model recomputes one of {blind} forwards that ran without gradients, and "
            "their widths cannot be told apart: use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
        )


def _remember(state: State, widths: dict[str, int], _: Tensor) -> None:
    state.recompute = widths


def _forget(root: nn.Module) -> None:
    """Put back what forwards store on modules: it belongs to one forward at one width."""
    storing = vars(root)[KEY].state.storing
    if storing:
        put_back((module, vars(module)[KEY].stored) for module in storing)


def _named_members(cls: Any) -> Callable[..., Any]:
    """What `parameters()`, `buffers()` and their named kin give: inside a forward the slices that attributes give."""

    def named(self: nn.Module, members: Callable[[nn.Module], Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        owners: dict[int, tuple[nn.Module, str]] = {}

        def noted(module: nn.Module) -> Iterator[tuple[str, Any]]:
            for name, value in members(module):
                owners[id(value)] = module, name
                yield name, value

        for name, value in super(cls, self)._named_members(noted, *args, **kwargs):
            owner, key = owners.get(id(value), (self, ""))
            elastic = _settled(owner)
            known = elastic is not None and (key in owner._parameters or key in owner._buffers)
            yield name, elastic.read(owner, key, value) if known and elastic.state.inside else value  # type: ignore[union-attr]

    return named


def _get_parameter(self: nn.Module, target: str) -> Any:
    """What the attribute gives, as in any module; below full width that is a slice, and no nn.Parameter."""
    path, _, name = target.rpartition(".")
    owner = self.get_submodule(path)
    if is_wrapped(owner) and owner._parameters.get(name) is not None:
        return getattr(owner, name)
    return nn.Module.get_parameter(self, target)


def _on_whole(cls: Any, name: str) -> Callable[..., Any]:
    """A method that is about parameters as an optimizer knows them, wherever it is called."""

    def method(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with state_of(self).whole():
            return getattr(super(cls, self), name)(*args, **kwargs)

    return method


def _rebuild(base: type[nn.Module], names: tuple[tuple[str, ...], ...]) -> nn.Module:
    cls = elastic_class(base, *names)  # type: ignore[arg-type]
    return cls.__new__(cls)


def _reduce(self: nn.Module, _protocol: int) -> tuple[Any, ...]:
    """Pickled and copied by the plain class, since classes that are made here have no importable name."""
    cls: Any = type(self)
    own = getattr(cls.surgery_base, "__getstate__", None)
    state = vars(self) if own is None or own is getattr(object, "__getstate__", None) else own(self)
    plain = {key: value for key, value in state.items() if key != KEY} if isinstance(state, dict) else state
    return _rebuild, (cls.surgery_base, cls.surgery_names), (plain, vars(self)[KEY])


def _set_state(self: nn.Module, state: tuple[Any, Elastic]) -> None:
    cls: Any = type(self)
    cls.surgery_base.__setstate__(self, state[0])
    vars(self)[KEY] = state[1]


@functools.cache
def elastic_class(
    base: Any, tensors_: tuple[str, ...], attributes: tuple[str, ...], held: tuple[str, ...]
) -> type[nn.Module]:
    """The subclass of `base` in which these tensors, attributes and held tensors follow the widths."""
    members: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__reduce_ex__": _reduce,
        "__setstate__": _set_state,
        "surgery_base": base,
        "surgery_names": (tensors_, attributes, held),
        "get_parameter": _get_parameter,
        "forward": functools.wraps(base.forward)(lambda self, *a, **k: _forward(self, *a, **k)),
    }
    members |= {name: _tensor_property(name) for name in tensors_}
    members |= {name: _attribute_property(name) for name in attributes}
    members |= {name: _held_property(name) for name in held}
    cls: Any = type(base.__name__, (base,), members)
    cls._named_members = _named_members(cls)
    for name in ("requires_grad_", "zero_grad"):
        setattr(cls, name, _on_whole(cls, name))
    if tensors_:
        cls.__setattr__ = _buffer_setter(cls, "__setattr__")
        cls.register_buffer = _buffer_setter(cls, "register_buffer")
    return cls


def _buffer_setter(cls: Any, method: str) -> Callable[..., None]:
    """A method that sets an attribute, with new values of buffers going where the model finds them as well."""

    def set_(self: nn.Module, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        elastic: Elastic | None = self.__dict__.get(KEY)
        buffer = self.__dict__.get("_buffers", {}).get(name)
        plain = isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
        if elastic is not None and buffer is not None and plain:
            elastic.state.settle()
            elastic.assign(self, name, value)
        elif elastic is not None and plain and elastic.is_own(self, name, value):
            return  # `self.weight += 1`: the slice was changed in place already
        else:
            getattr(super(cls, self), method)(name, value, *args, **kwargs)

    return set_
