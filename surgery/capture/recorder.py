"""Turns the torch calls and module calls of one run into nodes and frames."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import CheckpointFunction

from surgery.adapters.base import adapter_for
from surgery.axes.sizes import Decision
from surgery.capture.attributes import Attributes
from surgery.capture.callsites import chain_of_call, chain_to, location
from surgery.capture.constants import Constants
from surgery.capture.extents import extent, memory_order
from surgery.capture.frames import Branch, Frame, info
from surgery.capture.inlining import inlined
from surgery.capture.process import recording
from surgery.capture.trace import Trace
from surgery.errors import CaptureError
from surgery.modules.restoring import Watch
from surgery.modules.tensors import Parts
from surgery.nested import all_tensors, class_name, is_object
from surgery.rules.registry import RULES

# Calls that only look at a tensor's description: their results are Python values without axes.
DESCRIPTIONS = frozenset(
    "ndim dtype device layout is_cuda is_cpu is_meta is_sparse is_quantized is_nested is_leaf requires_grad grad "
    "grad_fn is_mkldnn is_mps is_xpu names dim ndimension is_floating_point is_complex is_contiguous element_size "
    "is_signed is_inference get_device type_ is_same_size has_names data_ptr storage_offset is_conj is_neg "
    "_has_compatible_shallow_copy_type is_tensor is_grad_enabled _set_grad_enabled requires_grad_ retain_grad "
    "register_hook is_shared is_storage _version output_nr name".split()
)


@functools.lru_cache(maxsize=4096)
def call_name(function: Any) -> str:
    """The name of a torch function; properties go by the name of the property."""
    name = getattr(function, "__name__", str(function))
    return getattr(function.__self__, "__name__", name) if name == "__get__" else name


_FIRST = {  # others know their first argument as `input`
    "searchsorted": ("sorted_sequence", "input"),
    "where": ("condition", "input", "other"),
    "polygamma": ("n", "input"),
}


def _placed(name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
    """Arguments with the first at its place, where a call gives it by the name that torch has for it."""
    names = _FIRST.get(name, ("input",))
    if args or any(key not in kwargs for key in names):
        return args, kwargs
    return tuple(kwargs[key] for key in names), {key: kwargs[key] for key in kwargs if key not in names}


# And those that tell its sizes.
_EXTENTS = ("shape", "size", "numel", "nelement", "__len__", "stride")


class Recorder(TorchFunctionMode):
    """Turns the torch calls and module calls of one run into nodes and frames of a trace."""

    def __init__(self, parts: Parts, prefix: str, watch: Watch, constants: Constants | None = None):
        super().__init__()
        self.trace, self.watch = Trace(parts, prefix, constants), watch
        self.muted = 0
        self.disturbed = False

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Record every torch call and every module call inside."""
        with recording(self), self.trace.constants or contextlib.nullcontext(), self:
            yield

    def decide(self, decision: Decision) -> None:
        if self.trace.stack and not self.muted:
            self.trace.branches.append(Branch(decision, *chain_to(), self.trace.stack[-1].index))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        self.watch.note(func, args, kwargs)
        if self.muted or not self.trace.stack:
            return func(*args, **kwargs)
        name = call_name(func)
        if name in DESCRIPTIONS:
            return func(*args, **kwargs)
        if name in _EXTENTS:
            return extent(self.trace, name, func(*args, **kwargs), *args, **kwargs)
        lifted = _placed(name, self.trace.lift(args), self.trace.lift(kwargs))
        order = memory_order(self.trace, args[0]) if name == "as_strided" else None
        result = self.quietly(func, *args, **kwargs)
        node = self.trace.node("call_function", func, *lifted, result, *chain_to(func))
        info(node).order = order
        self.trace.register(result, node)
        return result

    def module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Run a module: as one node if it has an adapter, else as a frame around what it does."""
        path = self.trace.paths.get(id(module))
        known = path is not None and self.trace.stack and not _hooked(module)
        if known and self.quietly(adapter_for, module) is not None:
            lifted = self.trace.lift(args), self.trace.lift(kwargs)
            where, called = location(sys._getframe(1)), chain_of_call()
            result = self.quietly(call, module, *args, **kwargs)
            node = self.trace.node("call_module", path, *lifted, result, where)
            info(node).called = called
            self.trace.register(result, node)
            return result
        if isinstance(module, torch.jit.ScriptModule):
            return self.opaque(type(module), lambda *a, **k: call(module, *a, **k), args, kwargs)
        if path is None and any(id(p) in self.trace.parameters for p in module._parameters.values()):
            raise CaptureError(
                f"a forward calls a {type(module).__name__} that holds parameters of the model but is no part of it: "
                "it belongs to another copy, to which a function or a lambda of the model is bound"
            )
        return self._frame(call, module, path, args, kwargs)

    def _frame(self, call: Callable[..., Any], module: nn.Module, path: str | None, args: Any, kwargs: Any) -> Any:
        """Run a module whose inside is recorded."""
        trace = self.trace
        parent = trace.stack[-1].index if trace.stack else None
        frame = Frame(len(trace.frames), module, path, parent, chain_of_call() if trace.stack else ())
        trace.frames.append(frame)
        trace.stack.append(frame)
        if parent is not None:
            trace.passed.update({id(v): v for v in (*args, *kwargs.values()) if is_object(v)})
        frame.args, frame.kwargs = trace.lift(args), trace.lift(kwargs)
        held, buffers = Attributes(module), dict(module._buffers)
        try:
            result = call(module, *args, **kwargs)
            frame.output = trace.lift(result)
            if parent is None:
                objects: dict[int, Any] = {}
                frame.returned = [trace.node_of(tensor) for tensor in all_tensors(result, trace.passed, objects)]
                frame.states = sorted({class_name(value) for key, value in objects.items() if key in trace.passed})
        finally:
            trace.stack.pop()
        stored = [name for name in held.changed() if name != "training"]
        frame.stored = {name: trace.left(vars(module).get(name)) for name in stored}
        now = module._buffers.items()
        frame.assigned = {name: trace.left(value) for name, value in now if value is not buffers.get(name)}
        return result

    def apply(self, run: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any:
        """An autograd function, as what its forward does. As one node if it has a rule, or does what nobody can see."""
        if cls is CheckpointFunction:  # it runs its first argument on those after the second
            return args[0](*args[2:])
        if cls in RULES or not self.trace.stack:
            return self.opaque(cls, run, args, kwargs)
        result, seen = inlined(self.trace, self.mute, cls, args, kwargs, location(sys._getframe(1)))
        return result if seen else self.opaque(cls, run, args, kwargs)

    def opaque(self, target: Any, run: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A call whose inside torch does not show: one node, for a rule to explain or to be pinned."""
        lifted = self.trace.lift(args), self.trace.lift(kwargs)
        where = location(sys._getframe(1))
        result = self.quietly(run, *args, **kwargs)
        self.trace.register(result, self.trace.node("call_function", target, *lifted, result, where))
        return result

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """Record nothing inside."""
        self.muted += 1
        try:
            yield
        finally:
            self.muted -= 1

    def quietly(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A call whose inside is not recorded."""
        self.muted += 1
        try:
            return function(*args, **kwargs)
        finally:
            self.muted -= 1


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
