"""What recording replaces in the process, for as long as some thread records.

Python and torch have one `nn.Module._call_impl` and one `range` for all threads. So each replacement asks who calls: in
a thread that records nothing, it does what stood there before. All are put back when the last recording ends. Another
thread could tell by `type(x) is range`; `isinstance`, pickles and imports do not notice.
"""

from __future__ import annotations

import builtins
import contextlib
import copyreg
import inspect
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from typing import Any, Protocol

import einops.einops
import torch
from torch import nn

from surgery.axes.sizes import observing
from surgery.capture.decisions import PLAIN_RANGE, Range
from surgery.errors import CaptureError
from surgery.modules.code.rewritten import STANDS_FOR

PATIENCE = 60.0  # seconds that a recording waits for the imports of other threads


class Records(Protocol):
    """Who records: it is told what the calling thread does."""

    muted: int
    disturbed: bool  # another thread has imported something meanwhile, so that loops were not all seen

    def decide(self, decision: Any) -> None: ...
    def module(self, call: Callable[..., Any], module: nn.Module, args: Any, kwargs: Any) -> Any: ...
    def apply(self, run: Callable[..., Any], cls: Any, args: Any, kwargs: Any) -> Any: ...


CURRENT: ContextVar[Records | None] = ContextVar("recorder of this thread", default=None)


def _listening() -> Records | None:
    """The recorder that is to hear of a call here."""
    recorder = CURRENT.get()
    return None if recorder is None or recorder.muted else recorder


@dataclass
class Replacement:
    """An attribute of the process, what stands for it meanwhile, and what stood there before."""

    owner: Any
    name: str
    stand_in: Any
    before: Any = None
    inherited: bool = False

    def install(self) -> None:
        found = inspect.getattr_static(self.owner, self.name)
        if found is not self.stand_in:  # another tool may have put it back after we had taken it away
            self.before, self.inherited = found, self.name not in vars(self.owner)
            setattr(self.owner, self.name, self.stand_in)

    def remove(self) -> None:
        if vars(self.owner).get(self.name) is not self.stand_in:
            return  # another tool has replaced it meanwhile, and may call ours: that passes through
        if self.inherited:
            delattr(self.owner, self.name)
        else:
            setattr(self.owner, self.name, self.before)


def _call_impl(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    recorder, call = _listening(), _REPLACED["call"].before
    return call(module, *args, **kwargs) if recorder is None else recorder.module(call, module, args, kwargs)


def _apply(cls: Any, *args: Any, **kwargs: Any) -> Any:
    recorder, run = _listening(), _REPLACED["apply"].before.__get__(None, cls)
    return run(*args, **kwargs) if recorder is None else recorder.apply(run, cls, args, kwargs)


def _compiled(module: nn.Module) -> Any:
    """While it is recorded, a compiled module runs as it is written: what torch compiles calls no `_call_impl`."""
    return None if CURRENT.get() is not None else vars(module).get("_compiled_call_impl")


def _shape(*args: Any) -> Any:
    """einops caches the shapes that it computes: a cached shape has forgotten where its integers came from."""
    if CURRENT.get() is not None:
        return einops.einops._reconstruct_from_shape_uncached(*args)
    return _REPLACED["shape"].before(*args)


setattr(_shape, STANDS_FOR, einops.einops._reconstruct_from_shape_uncached)


def _exec_module(loader: SourceFileLoader, module: Any) -> None:
    with _PROCESS.importing():
        _REPLACED["import"].before(loader, module)


# setting `__call__` itself would make Python go through every subclass that there is
_REPLACED = {
    "call": Replacement(nn.Module, "_call_impl", _call_impl),
    "compiled": Replacement(
        nn.Module,
        "_compiled_call_impl",
        property(_compiled, lambda module, value: vars(module).__setitem__("_compiled_call_impl", value)),
    ),
    "apply": Replacement(torch.autograd.Function, "apply", classmethod(_apply)),
    "shape": Replacement(einops.einops, "_reconstruct_from_shape", _shape),
    "range": Replacement(builtins, "range", Range),
    "import": Replacement(SourceFileLoader, "exec_module", _exec_module),
}


class Process:
    """Who records now, and which modules are imported meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.recorders: list[Records] = []
        self.imports = 0

    @contextlib.contextmanager
    def recording(self, recorder: Records) -> Iterator[None]:
        """Tell `recorder` of what this thread does inside. Raises CaptureError where this thread records already."""
        if CURRENT.get() is not None:
            raise CaptureError(
                "a model is analysed in the middle of another one's analysis: a forward calls surgery.wrap, inspect, "
                "shrink or their like. Call them outside of forwards"
            )
        with self.lock:
            if not self.recorders:
                self._install()
            self.recorders.append(recorder)
            recorder.disturbed = bool(self.imports)
        token = CURRENT.set(recorder)
        try:
            with observing(recorder.decide):
                yield
        finally:
            CURRENT.reset(token)
            with self.lock:
                self.recorders.remove(recorder)
                if not self.recorders:
                    self._remove()

    def wait_for_imports(self) -> None:
        """Until no thread is importing anything, or `PATIENCE` is at an end."""
        with self.lock:
            self.lock.wait_for(lambda: not self.imports, PATIENCE)

    @contextlib.contextmanager
    def importing(self) -> Iterator[None]:
        """Inside, code of a module is run with Python's own `range`: it may keep that, as torch.compile's does."""
        own = CURRENT.get()
        with self.lock:
            self.imports += 1
            for recorder in self.recorders:
                recorder.disturbed = recorder.disturbed or recorder is not own
            builtins.range = PLAIN_RANGE  # type: ignore[misc]
        try:
            yield
        finally:
            with self.lock:
                self.imports -= 1
                if self.recorders and not self.imports:
                    builtins.range = Range  # type: ignore[misc]
                self.lock.notify_all()

    def _install(self) -> None:
        for replacement in _REPLACED.values():
            replacement.install()
        if self.imports:
            builtins.range = PLAIN_RANGE  # type: ignore[misc]
        copyreg.pickle(PLAIN_RANGE, _pickled)

    def _remove(self) -> None:
        for replacement in _REPLACED.values():
            replacement.remove()
        copyreg.dispatch_table.pop(PLAIN_RANGE, None)


def _pickled(value: range) -> tuple[Any, ...]:
    """A range is pickled as `builtins.range` of its bounds, whatever has that name at the moment."""
    return builtins.range, (value.start, value.stop, value.step)


_PROCESS = Process()
recording, wait_for_imports = _PROCESS.recording, _PROCESS.wait_for_imports
