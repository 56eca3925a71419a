"""What torch's engines for many ranks put onto modules: classes above their own, hooks, states.

FSDP2 (`fully_shard`) and tensor parallelism (`parallelize_module`) change a model in place. A copy that is to be plain
leaves out what they have put there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from surgery.modules.sharded import is_sharded

ENGINES = ("torch.distributed.fsdp", "torch.distributed.tensor", "torch.distributed._composable")
MARKS = ("__composable_api_state_key", "_fsdp_", "_is_fsdp_", "_distribute_module_applied")  # attributes that they set


def own_class(module: nn.Module) -> type[nn.Module]:
    """The class of a module, below the one that an engine has put over it."""
    return _below(type(module))  # type: ignore[arg-type]


@functools.cache
def _below(cls: type[nn.Module]) -> type[nn.Module]:
    """What an engine puts over a class is found by its bases, since its own module may be that of `type`."""
    last = max((i for i, base in enumerate(cls.__mro__) if base.__module__.startswith(ENGINES)), default=-1)
    own: type[nn.Module] = cls.__mro__[last + 1]
    return cls if own is nn.Module else own


def own_attributes(module: nn.Module) -> Mapping[str, Any]:
    """The attributes of a module without states and hooks of engines."""
    attributes = vars(module)
    if not any(_is_engines(name, value) for name, value in attributes.items()):
        return attributes
    return {
        name: _own_hooks(value) if _are_hooks(name, value) else value
        for name, value in attributes.items()
        if not name.startswith(MARKS)
    }


def computed_in(model: nn.Module) -> tuple[torch.dtype | None, torch.dtype | None]:
    """The float types that FSDP2 casts parameters and inputs to, and outputs; None where it casts nothing."""
    policy = getattr(getattr(model, "_get_fsdp_state", lambda: None)(), "_mp_policy", None)
    return getattr(policy, "param_dtype", None), getattr(policy, "output_dtype", None)


def is_changed(module: nn.Module) -> bool:
    """Whether an engine has put something onto a module."""
    return own_class(module) is not type(module) or own_attributes(module) is not vars(module)


def is_spread(model: nn.Module) -> bool:
    """Whether parameters lie in parts on several ranks, so that a forward needs all of them.

    After one, those of the outermost module may be whole for a while: the class tells then.
    """
    return any(own_class(m) is not type(m) for m in model.modules()) or any(map(is_sharded, model.parameters()))


def _is_engines(name: str, value: Any) -> bool:
    return name.startswith(MARKS) or (_are_hooks(name, value) and any(map(_is_hook, value.values())))


def _are_hooks(name: str, value: Any) -> bool:
    """Whether an attribute is a table of hooks as torch keeps them; models have lists of such names."""
    return isinstance(value, dict) and name.endswith("_hooks")


def _own_hooks(hooks: Any) -> Any:
    return type(hooks)((key, hook) for key, hook in hooks.items() if not _is_hook(hook))


def _is_hook(hook: Any) -> bool:
    return str(getattr(getattr(hook, "func", hook), "__module__", "")).startswith(ENGINES)
