"""Modules that run at any width: they read their parameters cut, and their size attributes set to match.

A twin's modules are instances of subclasses made here. Every tensor that a group cuts and every attribute that follows
a width is a property that reads the value in `_parameters`, `_buffers` or `__dict__` at the current widths. So a
forward sees slices, also through `parameters()` and through containers that hold tensors, while the outside sees whole
parameters in `parameters()`, and `state_dict` is whole everywhere.
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
from torch.utils.weak import WeakTensorKeyDictionary

from surgery import cutting, layout
from surgery.draws import DEFAULT, Draw
from surgery.errors import InputError
from surgery.held import swapped
from surgery.inputs import Batches, tensors
from surgery.layout import Layout
from surgery.plan import Plan
from surgery.rewrite import Rewritten
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
    running: int = 0  # forwards of the root under way
    depth: int = 0  # forwards of any module under way
    outside: int = 0  # calls that mean whole parameters wherever they are made
    recompute: dict[str, int] | None = None
    blind: int = 0  # forwards without gradients since the last one with them
    storing: list[nn.Module] = field(default_factory=list)
    owing: list[nn.Module] = field(default_factory=list)  # modules with tensors that are to be written back
    lent: Any = None  # the whole tensor of each slice that was read; only where a module holds tensors in a container

    @property
    def inside(self) -> bool:
        """Whether a forward is under way, or recomputed: a backward pass has gradients switched on only for that."""
        if self.outside:
            return False
        recomputing = self.recompute is not None and _in_backward() and torch.is_grad_enabled()
        return bool(self.running or self.depth) or recomputing

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        self.outside += 1
        try:
            yield
        finally:
            self.outside -= 1

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
        state.update(running=0, depth=0, outside=0, held=0, recompute=None, owing=[], lent=self.lent is not None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        device, generator = state["generator"]
        vars(self).update(state, generator=torch.Generator(device))
        self.generator.set_state(generator)
        self.lent = WeakTensorKeyDictionary() if state["lent"] else None


@dataclass
class Elastic:
    """What one module of a twin reads at the current widths."""

    state: State
    path: str
    base: type[nn.Module]
    tensors: dict[str, tuple[Layout, ...]] = field(default_factory=dict)
    scales: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    attributes: dict[str, list[tuple[tuple[Any, ...], Origin]]] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)  # attributes that are different in any twin
    stored: dict[str, Any] = field(default_factory=dict)
    rebound: frozenset[str] = frozenset()  # buffers that code of the model assigns
    lenders: list[nn.Module] = field(default_factory=list)  # modules whose tensors this one holds in containers
    forward: Rewritten | None = None
    own_forward: Callable[..., Any] | None = None  # a forward that the instance itself had
    cache: dict[str, tuple[int, Any]] = field(default_factory=dict)
    gathered: dict[str, tuple[Tensor, int]] = field(default_factory=dict)
    assigned: dict[str, Tensor] = field(default_factory=dict)
    shown: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to one forward."""
        return {**vars(self), "cache": {}, "gathered": {}, "assigned": {}, "shown": {}}

    def cached(self, name: str, make: Callable[[], Any]) -> Any:
        version, value = self.cache.get(name, (-1, None))
        if version != self.state.version:
            value = make()
            self.cache[name] = (self.state.version, value)
        return value

    def kept(self, name: str) -> Any:
        return self.cached(name, lambda: cutting.kept(self.tensors[name], self.state.current))

    def shape(self, name: str, widths: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(layout.width(dim, widths) for dim in self.tensors[name])

    def _is_cut(self, name: str, tensor: Tensor) -> bool:
        """Whether a tensor was cut before it came here, as `functional_call` with a forward's parameters brings it."""
        whole, cut = self.cached(
            f"{name}: shapes", lambda: (self.shape(name, {}), self.shape(name, self.state.current))
        )
        if tensor.shape not in (whole, cut):
            raise InputError(
                f"{self.path}.{name} is {list(tensor.shape)}, but the plan needs {list(whole)} (or {list(cut)} at the "
                "present widths): it was replaced after wrapping. Wrap the model again"
            )
        return whole != tensor.shape

    def read(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """A parameter or buffer at the current widths."""
        buffer = name in module._buffers
        if name in self.assigned:
            return self.assigned[name]
        if self.state.full or name not in self.tensors:
            # a forward that assigns a buffer may still need its old value for gradients: that must not be overwritten
            return tensor.detach() if name in self.rebound and self.state.inside else tensor
        if name in self.gathered:
            if buffer or not torch.is_grad_enabled():
                return self.gathered[name][0]
            self._return(module, name)  # a parameter that was read without gradients, and may have been changed
        parts = self.kept(name)
        if parts is None or self._is_cut(name, tensor):
            return tensor
        value = cutting.read(tensor, parts)
        writable = buffer or not (torch.is_grad_enabled() or value.is_inference())
        if writable and self.state.depth and not cutting.is_view(parts):
            self.gathered[name] = value, -1 if value.is_inference() else value._version
            self.state.owing.append(module)
        if name in self.scales:
            dim, groups = self.scales[name]
            value = cutting.rescale(value, dim, self.tensors[name], groups, self.state.current)
        if self.state.lent is not None:
            self.state.lent[value] = tensor
        return value

    def assign(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Give a buffer a new value: at once, or while a forward is under way, at its end (gradients may flow on)."""
        if self.state.depth:
            self.assigned[name] = value
            self.state.owing.append(module)
        else:
            self._commit(module, name, value)

    def _commit(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Put a new value into the tensor that the model and its twin share, where one tensor can hold both.

        Where code is known to assign the buffer, the tensor gets new memory, so that gradients find the old values.
        """
        buffer = module._buffers[name]
        assert buffer is not None
        parts = None if self.state.full or name not in self.tensors else self.kept(name)
        value = value.detach()
        if parts is None and value.shape != buffer.shape:
            module._buffers[name] = value  # another shape is another tensor, as in any module
            return
        if parts is not None and value.shape != self.shape(name, self.state.current):
            raise InputError(
                f"{self.path}.{name} is assigned a tensor {list(value.shape)} at widths where the plan gives it "
                f"{list(self.shape(name, self.state.current))}. Keep its groups fixed with "
                f"wrap(model, x, fixed=[{self.path!r}])"
            )
        if value.is_set_to(buffer if parts is None else cutting.read(buffer, parts)):
            return  # it was changed in place
        if parts is not None:
            whole = buffer.detach().to(value.device, value.dtype, copy=True)
            cutting.write(whole, value, parts)
        else:
            whole = value.clone()
        if (whole.dtype, whole.device) != (buffer.dtype, buffer.device):
            module._buffers[name] = whole
        elif name in self.rebound and not whole.is_inference():
            buffer.data = whole
        else:
            with torch.no_grad():
                buffer.copy_(whole)

    def flush(self, module: nn.Module) -> None:
        """Write back what the forward has changed in gathered tensors, and what it has assigned to buffers."""
        for name in list(self.gathered):
            self._return(module, name)
        assigned, self.assigned = self.assigned, {}
        for name, value in assigned.items():
            if module._buffers.get(name) is not None:
                self._commit(module, name, value)

    def _return(self, module: nn.Module, name: str) -> None:
        value, version = self.gathered.pop(name)
        buffer = name in module._buffers
        tensor = module._buffers[name] if buffer else module._parameters[name]
        if tensor is None or name in self.assigned:
            return
        if value.is_inference() or value._version != version:
            cutting.write(tensor, value, self.kept(name))
        elif buffer and module.training:  # batch_norm changes its statistics without counting it
            cutting.write(tensor.data, value, self.kept(name))

    def show(self, module: nn.Module, name: str, value: Any) -> Any:
        """A container that holds tensors of the twin, with their slices in it. One forward sees one container."""
        moment = self.state.version, torch.is_grad_enabled()
        if self.state.depth and name in self.shown:
            before, source, result = self.shown[name]
            if before == moment and source is value:
                return result
        owners = {
            id(tensor): (lender, key)
            for lender in (module, *self.lenders)
            for table in (lender._parameters, lender._buffers)
            for key, tensor in table.items()
            if tensor is not None and key in vars(lender)[KEY].tensors
        }

        def cut(tensor: Tensor) -> Tensor:
            lender, key = owners.get(id(tensor), (None, ""))
            return tensor if lender is None else vars(lender)[KEY].read(lender, key, tensor)

        result = swapped(value, cut)
        if self.state.depth:
            self.shown[name] = moment, value, result
            self.state.owing.append(module)
        return result

    def hold(self, value: Any) -> Any:
        """A container that is put on a module, with whole tensors in place of slices that were read from the twin."""
        lent = self.state.lent
        return value if lent is None else swapped(value, lambda tensor: lent.get(tensor, tensor))

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
        self.__dict__[name] = value if elastic is None else elastic.hold(value)

    def drop(self: nn.Module) -> None:
        del self.__dict__[name]

    return property(get, put, drop)


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1


def _run(elastic: Elastic, module: Any, args: Any, kwargs: Any) -> Any:
    forward, state = elastic.forward or elastic.own_forward, elastic.state
    state.depth += 1
    try:
        if forward is not None:
            return forward(*args, **kwargs)
        return type(module).surgery_base.forward(module, *args, **kwargs)
    finally:
        state.depth -= 1
        elastic.flush(module)
        if not state.depth:  # what forwards have read from, or put on, other modules
            owing, state.owing = state.owing, []
            for other in owing:
                vars(other)[KEY].flush(other)
                vars(other)[KEY].shown.clear()


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
    }
    if base.forward is not nn.Module.forward:
        members["forward"] = functools.wraps(base.forward)(lambda self, *a, **k: _forward(self, *a, **k))
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
        if elastic is not None and buffer is not None and isinstance(value, Tensor):
            elastic.state.settle()
            elastic.assign(self, name, value)
        else:
            getattr(super(cls, self), method)(name, value, *args, **kwargs)

    return set_
