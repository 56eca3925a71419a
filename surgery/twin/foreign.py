"""What others have done to a twin after it was wrapped: modules that they replaced, forwards that they put in place."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from types import MethodType
from typing import Any

import torch
from torch import nn

from surgery.errors import InputError, SurgeryError
from surgery.modules.engines import own_class
from surgery.modules.tree import named_modules
from surgery.twin.elastic import Elastic, elastic_of, state_of
from surgery.twin.state import State

REMEDY = (
    "do it before surgery.wrap, or to what surgery.unwrap gives; then wrap the result. (Pruning, parametrizations, "
    "injected adapters, SyncBatchNorm and replaced heads are of this kind.)"
)


def changed_parts(twin: nn.Module) -> Iterator[tuple[str, str]]:
    """The modules of a twin that are not what they were when it was wrapped: their path, and what is the matter."""
    state = state_of(twin)
    for path, module in named_modules(twin):
        elastic, name = elastic_of(module), path or "the model"
        if elastic is None or elastic.state is not state:
            known = path in state.plain or (
                path not in state.members and all(p is None for p in module._parameters.values())
            )
            if not known:
                yield (
                    name,
                    f"{name} ({type(module).__name__}) was put in after wrapping, and does not follow the widths",
                )
        elif "surgery_base" not in vars(own_class(module)):
            yield name, f"{name} is a {type(module).__name__} by now, and does not follow the widths"
        else:
            missing = [key for key in elastic.tensors if not _has(elastic, module, key)]
            if missing:
                yield name, f"{name}.{missing[0]} is no parameter or buffer any more, but computed"


def _has(elastic: Elastic, module: nn.Module, key: str) -> bool:
    return key in elastic.unregistered or key in module._parameters or key in module._buffers


@contextlib.contextmanager
def explained(twin: nn.Module, state: State) -> Iterator[None]:
    """Below full width, an error in code that meets a foreign module says which module that is. Raises InputError."""
    try:
        yield
    except SurgeryError:
        raise
    except Exception as error:
        with state.whole():  # all modules, by the names that they have in the whole model
            found = [] if state.setting.full else list(changed_parts(twin))
        if not found:
            raise
        raise InputError(f"{found[0][1]}: {REMEDY} ({type(error).__name__}: {error})") from error


def check_untouched(twin: nn.Module) -> None:
    """Raise InputError where others have put modules or forwards into a twin that is about to be cut."""
    for _, what in changed_parts(twin):
        raise InputError(f"{what}: {REMEDY}")
    check_forwards(twin)


def check_forwards(twin: nn.Module) -> None:
    """Raise InputError where a forward was put in the place of one of a twin's own, which a copy would not carry along.

    One that declares to be a wrapper of the twin's own (`functools.wraps`, as automatic mixed precision does) is left
    out: the copy runs what it wraps.
    """
    for path, module in named_modules(twin):
        put = vars(module).get("forward")
        if elastic_of(module) is not None and put is not None and not leads_home(put, module):
            raise InputError(
                f"the forward of {path or 'the model'} was replaced after wrapping, by {_told(put)}: a small model "
                "would run the wrapped one's weights through it. Put the old one back (`del module.forward`), and "
                "replace that of the small model; or replace it before surgery.wrap"
            )


def leads_home(put: Any, module: nn.Module) -> bool:
    """Whether a forward is the module's own, or says that it wraps that."""
    own: Any = type(module).forward
    for _ in range(32):
        if put is None or put is own or is_own(put, module):
            return put is not None
        put = getattr(put, "__wrapped__", None)
    return False


def is_forward(value: Any, module: nn.Module) -> bool:
    """Whether a value is bound to a module, and is its own forward or wraps that."""
    return isinstance(value, MethodType) and value.__self__ is module and leads_home(value, module)


def is_own(value: Any, module: nn.Module) -> bool:
    """Whether a value is the forward of a module, bound to it."""
    own: Any = type(module).forward
    return isinstance(value, MethodType) and value.__func__ is own and value.__self__ is module


@contextlib.contextmanager
def without_autocast() -> Iterator[None]:
    """Inside, operations run in the types of their inputs."""
    accelerator = torch.accelerator.current_accelerator()
    with contextlib.ExitStack() as stack:
        for kind in ("cpu",) if accelerator is None else ("cpu", accelerator.type):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        yield


def _told(put: Any) -> str:
    put = inspect.unwrap(getattr(put, "__func__", put))
    code = getattr(put, "__code__", None)
    name = getattr(put, "__qualname__", type(put).__name__)
    return name if code is None else f"{name} ({code.co_filename}:{code.co_firstlineno})"
