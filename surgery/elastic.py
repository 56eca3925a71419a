"""Modules that run at any width: they read their parameters cut, and their size attributes set to match.

A twin's modules are instances of subclasses made here. Every tensor that a group cuts and every attribute that follows
a width is a property that reads the value in `_parameters`, `_buffers` or `__dict__` at the current widths, so
`state_dict`, `parameters()` and optimizers see the whole parameters while a forward sees the slice.
"""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from surgery import cutting
from surgery.draws import DEFAULT, Draw
from surgery.errors import InputError
from surgery.inputs import Batches, tensors
from surgery.layout import Layout
from surgery.plan import Plan
from surgery.routine import Rewritten
from surgery.sizes import Origin

KEY = "_surgery"


@dataclass
class State:
    """What all modules of one twin share: the plan, the widths that are set, and how widths are drawn."""

    plan: Plan | None
    examples: Batches | None
    draw: Draw = DEFAULT
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    minimum: Mapping[str, int] = field(default_factory=dict)
    pending: Any = None  # what a twin without example inputs does at its first forward
    chosen: dict[str, int] = field(default_factory=dict)
    current: dict[str, int] = field(default_factory=dict)
    full: bool = True
    version: int = 0
    held: int = 0
    running: int = 0
    recompute: dict[str, int] | None = None
    blind: int = 0  # forwards without gradients since the last one with them
    storing: list[nn.Module] = field(default_factory=list)

    def use(self, widths: dict[str, int]) -> None:
        """Make `widths` the current ones."""
        if widths != self.current:
            self.current, self.version = widths, self.version + 1
        self.full = self.plan is None or all(widths[name] == group.size for name, group in self.plan.groups.items())

    def settle(self) -> None:
        """Outside a forward: the widths that are set, or in a backward pass those of the forward that is recomputed."""
        if not self.running:
            self.use(self.recompute if self.recompute is not None and _in_backward() else self.chosen)

    @contextlib.contextmanager
    def using(self, widths: dict[str, int]) -> Iterator[None]:
        before = self.current
        self.use(widths)
        try:
            yield
        finally:
            self.use(before)

    def drawn(self) -> dict[str, int]:
        """Widths for one training forward."""
        assert self.plan is not None
        widths = self.plan.widths(self.draw(self.plan, self.generator))
        return {name: max(width, self.minimum.get(name, 1)) for name, width in widths.items()}

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        memo[id(self)] = new = State.__new__(State)
        shared = ("plan", "draw", "pending")
        new.__setstate__({k: v if k in shared else copy.deepcopy(v, memo) for k, v in self.__getstate__().items()})
        return new

    def __getstate__(self) -> dict[str, Any]:
        state = dict(vars(self))
        state["generator"] = (str(self.generator.device), self.generator.get_state())
        state.update(running=0, held=0, recompute=None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        device, generator = state["generator"]
        vars(self).update(state, generator=torch.Generator(device))
        self.generator.set_state(generator)


@dataclass
class Elastic:
    """What one module of a twin reads at the current widths."""

    state: State
    path: str
    base: type[nn.Module]
    tensors: dict[str, tuple[Layout, ...]] = field(default_factory=dict)
    scales: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    attributes: dict[str, list[tuple[tuple[Any, ...], Origin]]] = field(default_factory=dict)
    stored: dict[str, Any] = field(default_factory=dict)
    forward: Rewritten | None = None
    own_forward: Callable[..., Any] | None = None  # a forward that the instance itself had
    cache: dict[str, tuple[int, Any]] = field(default_factory=dict)
    gathered: dict[str, tuple[Tensor, int]] = field(default_factory=dict)

    def cached(self, name: str, make: Callable[[], Any]) -> Any:
        version, value = self.cache.get(name, (-1, None))
        if version != self.state.version:
            value = make()
            self.cache[name] = (self.state.version, value)
        return value

    def kept(self, name: str) -> Any:
        return self.cached(name, lambda: cutting.kept(self.tensors[name], self.state.current))

    def read(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """A parameter or buffer at the current widths."""
        if name in self.gathered:
            return self.gathered[name][0]
        parts = self.kept(name)
        value = cutting.read(tensor, parts)
        if self.state.running and name in module._buffers and not cutting.is_view(parts):
            self.gathered[name] = value, value._version
        if name in self.scales:
            dim, groups = self.scales[name]
            value = cutting.rescale(value, dim, self.tensors[name], groups, self.state.current)
        return value

    def flush(self, module: nn.Module) -> None:
        """Write back gathered buffers that the forward has changed."""
        for name, (value, version) in self.gathered.items():
            buffer = module._buffers[name]
            if buffer is not None and value._version != version:
                cutting.write(buffer, value, self.kept(name))
            elif buffer is not None and module.training:  # batch_norm changes its statistics without counting it
                cutting.write(buffer.data, value, self.kept(name))
        self.gathered.clear()

    def attribute(self, name: str, value: Any) -> Any:
        """An attribute at the current widths."""
        plan = self.state.plan
        assert plan is not None

        def make() -> Any:
            result = value
            for keys, formula in self.attributes[name]:
                result = replaced(result, keys, plan.value(formula, self.state.current))
            return result

        return self.cached(name, make)


def replaced(value: Any, keys: tuple[Any, ...], item: int) -> Any:
    """A nested container with one item replaced; the container itself is left alone."""
    if not keys:
        return item
    if isinstance(value, dict):
        return {**value, keys[0]: replaced(value[keys[0]], keys[1:], item)}
    items = list(value)
    items[keys[0]] = replaced(items[keys[0]], keys[1:], item)
    return type(value)(items)


def state_of(model: nn.Module) -> State:
    """The state of a wrapped model. Raises InputError for any other model."""
    if not is_wrapped(model):
        raise InputError(f"{type(model).__name__} is not wrapped: call surgery.wrap(model, example_inputs) first")
    return vars(model)[KEY].state


def is_wrapped(model: nn.Module) -> bool:
    return isinstance(model, nn.Module) and KEY in vars(model)


def _settled(module: nn.Module) -> Elastic | None:
    """What a module reads through; None while it is being unpickled."""
    elastic: Elastic | None = module.__dict__.get(KEY)
    if elastic is not None:
        elastic.state.settle()
    return elastic


def _tensor_property(name: str) -> property:
    def get(self: nn.Module) -> Any:
        tensor: Tensor | None = self._parameters.get(name)
        if tensor is None:
            tensor = self._buffers.get(name)
        elastic = _settled(self)
        if tensor is None or elastic is None or elastic.state.full:
            return tensor
        return elastic.read(self, name, tensor)

    return property(get)


def _attribute_property(name: str) -> property:
    def get(self: nn.Module) -> Any:
        elastic = _settled(self)
        value = self.__dict__.get(name)
        if elastic is None or (elastic.state.full and value is not None):
            return value
        return elastic.attribute(name, value)

    def put(self: nn.Module, value: Any) -> None:
        self.__dict__[name] = value

    return property(get, put)


def _list_property(name: str) -> property:
    """A list of the module's own parameters, such as the flat weights of recurrent layers."""

    def get(self: nn.Module) -> Any:
        elastic = _settled(self)
        value = self.__dict__[name]
        if elastic is None or elastic.state.full:
            return value
        own = {id(tensor): key for key, tensor in self._parameters.items() if key in elastic.tensors}
        return type(value)(elastic.read(self, own[id(t)], t) if id(t) in own else t for t in value)

    def put(self: nn.Module, value: Any) -> None:
        elastic = _settled(self)
        if elastic is None or elastic.state.full:  # a list made of cut parameters is not kept
            self.__dict__[name] = value

    return property(get, put)


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _run(elastic: Elastic, module: Any, args: Any, kwargs: Any) -> Any:
    forward = elastic.forward or elastic.own_forward
    try:
        if forward is not None:
            return forward(*args, **kwargs)
        return type(module).surgery_base.forward(module, *args, **kwargs)
    finally:
        elastic.flush(module)


def _forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run at the current widths; the root of a twin draws them in training mode."""
    elastic: Elastic = self.__dict__[KEY]
    state = elastic.state
    state.settle()
    if _in_backward() and not state.running and not elastic.path:
        _check_recomputation(state)
    if state.running or elastic.path or _in_backward():  # in a backward pass: recomputation (gradient checkpointing)
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
    for module in vars(root)[KEY].state.storing:
        vars(module).update({name: copy.copy(value) for name, value in vars(module)[KEY].stored.items()})


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
    base: Any, tensors_: tuple[str, ...], attributes: tuple[str, ...], lists: tuple[str, ...]
) -> type[nn.Module]:
    """The subclass of `base` in which these tensors, attributes and lists of parameters follow the widths."""
    forward = functools.wraps(base.forward)(lambda self, *args, **kwargs: _forward(self, *args, **kwargs))
    members: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__reduce_ex__": _reduce,
        "__setstate__": _set_state,
        "surgery_base": base,
        "surgery_names": (tensors_, attributes, lists),
        "forward": forward,
    }
    members |= {name: _tensor_property(name) for name in tensors_}
    members |= {name: _attribute_property(name) for name in attributes}
    members |= {name: _list_property(name) for name in lists}
    cls = type(base.__name__, (base,), members)
    if tensors_:
        cls.__setattr__ = _buffer_setter(cls)  # type: ignore[method-assign, assignment]
    return cls


def _buffer_setter(cls: Any) -> Callable[[Any, str, Any], None]:
    def set_(self: nn.Module, name: str, value: Any) -> None:
        elastic: Elastic | None = self.__dict__.get(KEY)
        buffer = self.__dict__.get("_buffers", {}).get(name)
        if elastic is not None and buffer is not None and name in elastic.tensors and isinstance(value, Tensor):
            parts = elastic.kept(name)
            if parts is not None and value.shape != buffer.shape:
                cutting.write(buffer, value, parts)
                return
        super(cls, self).__setattr__(name, value)

    return set_
