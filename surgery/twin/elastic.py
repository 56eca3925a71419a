"""What one module of a twin reads: tensors cut to the current widths, size attributes set to match."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from surgery.axes import layout
from surgery.axes.formulas import Origin, Picked
from surgery.axes.layout import Layout
from surgery.errors import InputError
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.containers import containers, located, swapped
from surgery.modules.sharded import is_sharded
from surgery.plan import cutting
from surgery.twin.following import following
from surgery.twin.memory import Absent, Gathered, Memory, Shown, Stored, version_of
from surgery.twin.parallel import check_even, check_there, out_of_reach
from surgery.twin.state import State, in_backward

KEY = "_surgery"


@dataclass
class Elastic:
    """What one module of a twin reads at the current widths.

    Attributes:
        path: of the module in the model.
        base: its own class.
        tensors: the layouts of those that are cut; `unregistered` are those in plain attributes and containers, and of
            those that are `viewed` slices are without gaps.
        writes_data: whether code of the module uses `data`, through which it may write into slices.
        checks_class: whether code of the model asks what is a parameter, which slices must be as well.
        scales: of `tensors`, those that are multiplied by size / width: the dimension, and of which groups.
        attributes: for each attribute, the items in it that follow the widths: keys and a formula.
        constants: attributes that are different in any twin.
        stored: attributes that forwards set.
        rebound: buffers that code of the model assigns.
        lenders: modules whose tensors this one holds in containers.
        rewritten: its forward with sizes that follow; `own_forward`: one that the instance itself had.
        methods: the names of its methods that are rewritten with a forward.
        listed: whether some of its children are units of a group.
        passing: of a module that is left out by name, the argument that it hands on then.
    """

    state: State
    path: str
    base: type[nn.Module]
    tensors: dict[str, tuple[Layout, ...]] = field(default_factory=dict)
    unregistered: frozenset[str] = frozenset()
    viewed: frozenset[str] = frozenset()
    writes_data: bool = False
    checks_class: bool = False
    scales: dict[str, tuple[int, frozenset[str]]] = field(default_factory=dict)
    attributes: dict[str, list[tuple[tuple[Any, ...], Origin]]] = field(default_factory=dict)
    constants: dict[str, Any] = field(default_factory=dict)
    stored: dict[str, Stored] = field(default_factory=dict)
    rebound: frozenset[str] = frozenset()
    lenders: list[nn.Module] = field(default_factory=list)
    rewritten: Rewritten | None = None
    methods: list[str] = field(default_factory=list)
    own_forward: Callable[..., Any] | None = None
    listed: bool = False
    passing: int | str | None = None
    memory: Memory = field(default_factory=Memory)

    def __getstate__(self) -> dict[str, Any]:
        """Without what it remembers."""
        return {**vars(self), "memory": Memory()}

    def full(self, name: str) -> str:
        """The name of one of its tensors in the whole model."""
        return f"{self.path}.{name}".lstrip(".")

    def shape(self, name: str, widths: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(layout.width(dim, widths) for dim in self.tensors[name])

    def kept(self, name: str) -> cutting.Kept | None:
        """What remains of a tensor at the current widths."""
        found: cutting.Kept | None = self.cached(
            name, lambda: cutting.kept(self.tensors[name], self.state.setting.current)
        )
        return found

    def read(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """A parameter or buffer at the current widths."""
        memory, setting = self.memory, self.state.setting
        if name in memory.assigned:
            return memory.assigned[name]
        if setting.full or name not in self.tensors:
            return self._apart(module, name, tensor) if name in self.rebound and self.state.inside else tensor
        if name in memory.gathered:
            if self.is_buffer(module, name, tensor) or not torch.is_grad_enabled():
                return memory.gathered[name].value
            self.give_back(module, name)  # a parameter that was read without gradients, and may have been changed
        parts = self.kept(name)
        if parts is None or self._is_cut(name, tensor) or out_of_reach(self.state, tensor):
            return tensor
        pass_ = self.state.forward.pass_() if torch.is_grad_enabled() or in_backward() else None
        known = None if pass_ is None else pass_.slice_of((self.path, name), tensor)
        if known is not None:
            return known
        value = self._slice(module, name, tensor, parts)
        if pass_ is not None and value.requires_grad:
            pass_.slices[self.path, name] = tensor, tensor._version, value
        return value

    def _slice(self, module: nn.Module, name: str, tensor: Tensor, parts: cutting.Kept) -> Tensor:
        """A new slice; where it is no view and code may write into it, it is noted, to be written back."""
        sharded = is_sharded(tensor)
        value, copied = cutting.read(tensor, parts), sharded or not cutting.is_view(parts)
        if sharded:
            check_even(self.full(name), tensor, value.shape)
        if name in self.viewed and not value.is_contiguous():
            value, copied = value.contiguous(), True
        writable = self.is_buffer(module, name, tensor) or not (torch.is_grad_enabled() or value.is_inference())
        if writable and copied and self.state.forward.depth:
            self.memory.gathered[name] = Gathered(value, version_of(value), tensor)
            self.state.writes.dirty.append(module)
        elif copied and self.writes_data and self.state.forward.depth and name not in self.memory.lent:
            self.memory.lent[name] = Gathered(value, 0, tensor)
            self.state.writes.dirty.append(module)
        if self.checks_class and isinstance(tensor, nn.Parameter):
            value._is_param = True  # by which torch tells parameters
        if name in self.scales:
            dim, groups = self.scales[name]
            value = cutting.rescale(value, dim, self.tensors[name], groups, self.state.setting.current)
        if self.state.slice_owners is not None:
            self.state.slice_owners[value] = tensor
        return value

    def _apart(self, module: nn.Module, name: str, tensor: Tensor) -> Tensor:
        """A whole buffer as an object of its own, for code that assigns it: gradients may still need the old value.

        What is put into its `data` goes into the buffer when the forward ends.
        """
        lent = self.memory.lent.get(name)
        if lent is not None and lent.whole is tensor:
            return lent.value
        value = tensor.detach()
        if self.writes_data and self.state.forward.depth:
            self.memory.lent[name] = Gathered(value, 0, tensor)
            self.state.writes.dirty.append(module)
        return value

    def is_buffer(self, module: nn.Module, name: str, tensor: Tensor) -> bool:
        """Whether a tensor is none that an optimizer would change."""
        return name in module._buffers or (name in self.unregistered and not tensor.requires_grad)

    def is_own(self, module: nn.Module, name: str, value: Tensor) -> bool:
        """Whether a value is the slice of a parameter that reading it gives."""
        parameter = module.__dict__.get("_parameters", {}).get(name)
        return parameter is not None and name in self.tensors and value.is_set_to(self.read(module, name, parameter))

    def give_back(self, module: nn.Module, name: str) -> None:
        """Write a gathered slice back, if it was changed."""
        found = self.memory.gathered.pop(name)
        parts = self.kept(name)
        if name in self.memory.assigned or parts is None:
            return
        if version_of(found.value) != found.version or found.value.is_inference():
            cutting.write(found.whole, found.value, parts)
        elif self.is_buffer(module, name, found.whole) and module.training:
            cutting.write(found.whole.data, found.value, parts)  # batch_norm changes its statistics without counting it

    def attribute(self, name: str, value: Any) -> Any:
        """An attribute at the current widths."""
        made = self.memory.made_at(name, self.state.setting.version)
        return made if made is not Absent else self.cached(name, lambda: self._replaced(name, value))

    def _replaced(self, name: str, value: Any) -> Any:
        """A value with the integers in it that follow the widths."""
        plan = self.state.plan
        for keys, formula in self.attributes.get(name, ()):
            assert plan is not None
            value = following(plan, formula, self.state.setting.current, value, keys)
        return value

    def keep(self, name: str, value: Any) -> bool:
        """Whether a value that a forward sets is of the modules that are there: no other forward is to see it."""
        listed = any(isinstance(formula, Picked) for _, formula in self.attributes.get(name, ()))
        if listed and self.state.inside and not self.state.setting.full:
            self.memory.made[name] = self.state.setting.version, value
            return True
        return False

    def show(self, module: nn.Module, name: str, value: Any) -> Any:
        """A container that holds tensors of the twin, with their slices in it. One forward sees one container."""
        made = self.memory.made_at(name, self.state.setting.version)
        if made is not Absent:
            return made
        moment = self.state.setting.version, torch.is_grad_enabled()
        shown = self.memory.shown.get(name)
        if self.state.forward.depth and shown is not None and shown.moment == moment and shown.source is value:
            return shown.value
        result = self._replaced(name, self._with_slices(module, name, value))
        if self.state.forward.depth:
            self.memory.shown[name] = Shown(moment, value, result, containers(result))
            self.state.writes.dirty.append(module)
        return result

    def _with_slices(self, module: nn.Module, name: str, value: Any) -> Any:
        owners = {
            id(tensor): (lender, elastic, key)
            for lender in (module, *self.lenders)
            if (elastic := elastic_of(lender)) is not None
            for table in (lender._parameters, lender._buffers)
            for key, tensor in table.items()
            if tensor is not None and key in elastic.tensors
        }
        places = located(name, value)
        owners |= {id(tensor): (module, self, place) for place, tensor in places if place in self.unregistered}

        def cut(tensor: Tensor) -> Tensor:
            if id(tensor) not in owners:
                return tensor
            lender, elastic, key = owners[id(tensor)]
            return elastic.read(lender, key, tensor)

        return swapped(value, cut)

    def hold(self, value: Any) -> Any:
        """A container that is put on a module, with whole tensors in place of slices that were read from the twin."""
        owners = self.state.slice_owners
        return value if owners is None else swapped(value, lambda tensor: owners.get(tensor, tensor))

    def cached(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gives at the current widths."""
        version, value = self.memory.cache.get(name, (-1, None))
        if version != self.state.setting.version:
            value = make()
            self.memory.cache[name] = (self.state.setting.version, value)
        return value

    def _is_cut(self, name: str, tensor: Tensor) -> bool:
        """Whether a tensor was cut before it came here, as `functional_call` with a forward's parameters brings it."""
        whole = self.memory.wholes.get(name)
        if whole is None:
            whole = self.memory.wholes[name] = self.shape(name, {})
        if tensor.shape == whole:
            return False
        cut = self.shape(name, self.state.setting.current)
        if name in self.unregistered and tensor.dim() == len(whole):  # a forward may give it other positions
            pairs = [(n, a, b) for n, a, b in zip(tensor.shape, whole, cut, strict=True) if a != b]
            if all(n == a for n, a, _ in pairs) or all(n == b for n, _, b in pairs):
                return any(n != a for n, a, _ in pairs)
        if tensor.shape not in (whole, cut):
            check_there(self.full(name), tensor, whole)
            raise InputError(
                f"{self.path}.{name} is {list(tensor.shape)}, but the plan needs {list(whole)} (or {list(cut)} at the "
                "present widths): it was replaced after wrapping. Wrap the model again"
            )
        return True


def elastic_of(module: nn.Module) -> Elastic | None:
    """What a module of a twin reads through; None for any other module, and while it is being unpickled."""
    return module.__dict__.get(KEY)


def state_of(model: nn.Module) -> State:
    """The state of a wrapped model. Raises InputError for any other model."""
    elastic = elastic_of(model) if isinstance(model, nn.Module) else None
    if elastic is None:
        raise InputError(not_wrapped(model))
    return elastic.state


AROUND = ("module", "_orig_mod")  # what torch calls the model inside of its own wrappers


def not_wrapped(model: object) -> str:
    """What is said of a model that is not wrapped: where one is inside, its name."""
    kind = type(model).__name__
    if isinstance(model, nn.Module):
        for path, module in model.named_modules():
            if path and elastic_of(module) is not None:
                inside = f"model.{path}" if path in AROUND else path
                return f"{kind} is not wrapped itself, but holds a wrapped {type(module).__name__}: give that, {inside}"
        return f"{kind} is not wrapped: call surgery.wrap(model, example_inputs) first"
    return f"{kind} is no wrapped model: that stands here, what surgery.wrap(model, example_inputs) gives"


def is_wrapped(model: object) -> bool:
    return isinstance(model, nn.Module) and elastic_of(model) is not None


def synced(module: nn.Module) -> Elastic | None:
    """What a module reads through, at the widths of this moment; None where it is plain, or being unpickled."""
    elastic = elastic_of(module)
    if elastic is not None:
        elastic.state.sync()
    return elastic
