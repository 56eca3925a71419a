"""What one module of a twin reads and writes: tensors cut to the current widths, size attributes set to match."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from surgery.axes import layout
from surgery.axes.formulas import Origin
from surgery.axes.layout import Layout
from surgery.errors import InputError
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.containers import located, swapped
from surgery.modules.plain_data import replaced
from surgery.plan import cutting
from surgery.twin.state import State

KEY = "_surgery"


class Absent:
    """Stands for the value of an attribute that a module does not have."""


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
    unregistered: frozenset[str] = frozenset()  # of `tensors`: those in plain attributes and containers
    rebound: frozenset[str] = frozenset()  # buffers that code of the model assigns
    lenders: list[nn.Module] = field(default_factory=list)  # modules whose tensors this one holds in containers
    forward: Rewritten | None = None
    own_forward: Callable[..., Any] | None = None  # a forward that the instance itself had
    cache: dict[str, tuple[int, Any]] = field(default_factory=dict)
    wholes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # full shapes of `tensors`, once they were needed
    gathered: dict[str, tuple[Tensor, int, Tensor]] = field(default_factory=dict)
    assigned: dict[str, Tensor] = field(default_factory=dict)
    shown: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to one forward."""
        return {**vars(self), "cache": {}, "gathered": {}, "assigned": {}, "shown": {}}

    def full(self, name: str) -> str:
        """The name of one of its tensors in the whole model."""
        return f"{self.path}.{name}".lstrip(".")

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
        whole = self.wholes.get(name)
        if whole is None:
            whole = self.wholes[name] = self.shape(name, {})
        if tensor.shape == whole:
            return False
        cut = self.shape(name, self.state.current)
        if name in self.unregistered and tensor.dim() == len(whole):  # a forward may give it other positions
            pairs = [(n, a, b) for n, a, b in zip(tensor.shape, whole, cut, strict=True) if a != b]
            if all(n == a for n, a, _ in pairs) or all(n == b for n, _, b in pairs):
                return any(n != a for n, a, _ in pairs)
        if tensor.shape not in (whole, cut):
            raise InputError(
                f"{self.path}.{name} is {list(tensor.shape)}, but the plan needs {list(whole)} (or {list(cut)} at the "
                "present widths): it was replaced after wrapping. Wrap the model again"
            )
        return True

    def read(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """A parameter or buffer at the current widths."""
        buffer = self._is_buffer(module, name, tensor)
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
            self.gathered[name] = value, -1 if value.is_inference() else value._version, tensor
            self.state.owing.append(module)
        if name in self.scales:
            dim, groups = self.scales[name]
            value = cutting.rescale(value, dim, self.tensors[name], groups, self.state.current)
        if self.state.lent is not None:
            self.state.lent[value] = tensor
        return value

    def _is_buffer(self, module: nn.Module, name: str, tensor: Tensor) -> bool:
        return name in module._buffers or (name in self.unregistered and not tensor.requires_grad)

    def is_own(self, module: nn.Module, name: str, value: Tensor) -> bool:
        """Whether a value is the slice of a parameter that reading it gives."""
        parameter = module.__dict__.get("_parameters", {}).get(name)
        return parameter is not None and name in self.tensors and value.is_set_to(self.read(module, name, parameter))

    def assign(self, module: nn.Module, name: str, value: Tensor) -> None:
        """Give a buffer a new value: at once, or while a forward is under way, at its end (gradients may flow on)."""
        if self.state.depth:
            self.assigned[name] = value
            self.state.owing.append(module)
        else:
            buffer = module._buffers[name]  # a whole one outside of a forward, as `load_state_dict(assign=True)` brings
            self._commit(module, name, value, entire=buffer is not None and value.shape == buffer.shape)

    def _commit(self, module: nn.Module, name: str, value: Tensor, entire: bool = False) -> None:
        """Put a new value into the tensor that the model and its twin share, where one tensor can hold both.

        Where code is known to assign the buffer, the tensor gets new memory, so that gradients find the old values.
        """
        buffer = module._buffers[name]
        assert buffer is not None
        parts = None if entire or self.state.full or name not in self.tensors else self.kept(name)
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

    def forget(self) -> None:
        """Let go of what belongs to one forward."""
        for kept in (self.gathered, self.assigned, self.shown):
            kept.clear()

    def _return(self, module: nn.Module, name: str) -> None:
        value, version, tensor = self.gathered.pop(name)
        buffer = self._is_buffer(module, name, tensor)
        if name in self.assigned:
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
        owners |= {id(tensor): (module, place) for place, tensor in located(name, value) if place in self.unregistered}

        def cut(tensor: Tensor) -> Tensor:
            lender, key = owners.get(id(tensor), (None, ""))
            return tensor if lender is None else vars(lender)[KEY].read(lender, key, tensor)

        result = swapped(value, cut)
        for keys, formula in self.attributes.get(name, ()):
            assert self.state.plan is not None
            result = replaced(result, keys, self.state.plan.value(formula, self.state.current))
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


def put_back(modules: Iterable[tuple[nn.Module, Mapping[str, Any]]]) -> None:
    """Give modules the attributes that they had before forwards set them. What modules share, they share again."""
    copies: dict[int, Any] = {}
    for module, stored in modules:
        for name, value in stored.items():
            if value is Absent:
                vars(module).pop(name, None)
            elif isinstance(value, Tensor):
                vars(module)[name] = value
            else:
                if id(value) not in copies:
                    copies[id(value)] = copy.copy(value)
                vars(module)[name] = copies[id(value)]


def state_of(model: nn.Module) -> State:
    """The state of a wrapped model. Raises InputError for any other model."""
    if not is_wrapped(model):
        raise InputError(f"{type(model).__name__} is not wrapped: call surgery.wrap(model, example_inputs) first")
    return vars(model)[KEY].state


def is_wrapped(model: nn.Module) -> bool:
    return isinstance(model, nn.Module) and KEY in vars(model)
