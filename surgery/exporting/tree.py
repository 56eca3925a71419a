"""A tree of modules as an expression: layers of torch as calls of their constructors, others by what they hold."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from surgery.errors import InputError
from surgery.exporting.constructors import constructed, parameters
from surgery.exporting.forwards import Forwards, is_size, methods_of
from surgery.exporting.layout import Source, call, sequence
from surgery.exporting.values import Values
from surgery.modules.code.rewritten import Rewritten
from surgery.modules.code.untraced import Untraced
from surgery.modules.tree import OF_ANY
from surgery.shrinking.record import RECORD

_TABLES = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
_OF_A_RUN = {"training", "_compiled_call_impl"}
_CONTAINERS = {nn.Sequential: ("", ""), nn.ModuleList: ("[", "]")}


class Tree:
    """Expressions for modules.

    Attributes:
        shared: modules that stand at several places, by the names that they get.
        late: attributes that need the model: the path of their module, their name, and an expression.
        trained: the paths of modules that are in training mode.
    """

    def __init__(self, values: Values, model: nn.Module):
        self.values, self.forwards = values, Forwards(values)
        self.shared: dict[str, Source] = {}
        self.late: list[tuple[str, str, Source]] = []
        self.trained: list[str] = []
        self._places = Counter(id(child) for module in model.modules() for child in module._modules.values())
        self._known: dict[int, Source] = {}
        self._apart = False
        values.apart = self.apart

    def apart(self, module: nn.Module, where: str) -> Source:
        """The expression for a module that is no part of the model, so that its mode is what it is."""
        before, self._apart = self._apart, True
        source = self.of(module, where)
        self._apart = before
        return source

    def of(self, module: nn.Module, path: str = "") -> Source:
        """The expression for a module and all that is below it. Raises InputError where there is none."""
        if id(module) in self._known:
            return self._known[id(module)]
        _check(module, path or "the model")
        if module.training and not self._apart:
            self.trained.append(path)
        source = self._constructed(module, path) or self._contained(module, path) or self._held(module, path)
        if self._places[id(module)] > 1:
            name = self.values.names.unique(path.rpartition(".")[2])
            self.shared[name] = source
            source = name
        self._known[id(module)] = source
        return source

    def _constructed(self, module: nn.Module, path: str) -> Source | None:
        """A call of the constructor, for a layer of torch's."""
        found = None if methods_of(module) else constructed(module)
        if found is None:
            return None
        arguments, equal = found
        needed = parameters(type(module))
        first = [key for key in arguments if needed[key].default is inspect.Parameter.empty]
        named = [(key, self.values.of(arguments[key], path)) for key in arguments if key not in first]
        cls = self.values.written.reference(type(module), path)
        made = call(cls, [self.values.of(arguments[key], path) for key in first], named)
        return self._with(made, [*self._attributes(module, path, equal)])

    def _contained(self, module: nn.Module, path: str) -> Source | None:
        """A call with the children, for torch's containers as they are."""
        if type(module) not in _CONTAINERS or list(module._modules) != [str(i) for i in range(len(module._modules))]:
            return None
        children = [child for _, child in self._children(module, path)]
        head, tail = _CONTAINERS[type(module)]
        cls = self.values.written.reference(type(module), path)
        return self._with(sequence(children, f"{cls}({head}", f"{tail})"), [*self._attributes(module, path, set())])

    def _held(self, module: nn.Module, path: str) -> Source:
        """All that a module holds."""
        methods = methods_of(module)
        if methods:
            cls = self.forwards.subclass(type(module), methods, path or "the model")
        else:
            cls = self.values.written.reference(type(module), path or "the model")
        members = [*self._attributes(module, path, set()), *self._tensors(module), *self._children(module, path)]
        return self._with(cls, members, always=True)

    def _with(self, made: Source, members: list[tuple[str, Source]], always: bool = False) -> Source:
        return call(self.values.helper("_module"), [made], members) if members or always else made

    def _attributes(self, module: nn.Module, path: str, equal: set[str]) -> Iterator[tuple[str, Source]]:
        """The attributes, apart from those that are `equal` without it. Those that need the model come later."""
        if self._apart and not module.training:
            yield "training", "False"
        for name, value in vars(module).items():
            ours = name == RECORD or is_size(name) or isinstance(value, Rewritten | Untraced)
            if ours or name in equal or name in OF_ANY or name in _OF_A_RUN:
                continue
            self.values.needs_model = False
            source = self.values.of(value, f"{path}.{name}".lstrip("."))
            if self.values.needs_model:
                self.late.append((path, name, source))
            else:
                yield name, source

    def _tensors(self, module: nn.Module) -> Iterator[tuple[str, Source]]:
        for name, parameter in module._parameters.items():
            yield name, call(self.values.helper("_parameter"), _shape(parameter))
        for name, buffer in module._buffers.items():
            saved: list[tuple[str, Source]] = [("saved", "False")] if name in module._non_persistent_buffers_set else []
            yield name, call(self.values.helper("_buffer"), _shape(buffer), saved)

    def _children(self, module: nn.Module, path: str) -> Iterator[tuple[str, Source]]:
        for name, child in module._modules.items():
            if child is None:
                yield name, call(self.values.helper("_child"), ["None"])
            else:
                yield name, self.of(child, f"{path}.{name}".lstrip("."))


def _shape(tensor: Tensor | None) -> list[Source]:
    return ["None"] if tensor is None else [str(size) for size in tensor.shape]


def _check(module: nn.Module, where: str) -> None:
    """Raises InputError for what cannot be written: hooks, parametrizations, tensors of other kinds."""
    if "parametrizations" in module._modules:
        raise InputError(
            f"{where} has parametrizations: make plain parameters of them with "
            "torch.nn.utils.parametrize.remove_parametrizations first"
        )
    tables = [name for name in OF_ANY - _TABLES - _OF_A_RUN if vars(module).get(name)]
    if tables:
        raise InputError(f"{where} has hooks ({', '.join(sorted(tables))}), which cannot be written: remove them first")
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(f"{where} is a scripted module, which is no Python code: export the model it was made of")
    tensors: dict[str, Any] = {**module._parameters, **module._buffers}
    for name, tensor in tensors.items():
        plain = tensor is None or (type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided)
        if not plain or (tensor is not None and tensor.device.type != "cpu"):
            raise InputError(
                f"{where}: {name} is a {type(tensor).__name__} of layout {tensor.layout} on {tensor.device}; what is "
                "written holds plain tensors of the CPU: move the model there with small.cpu()"
            )
