"""Which models can be analysed; the others are told why not."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel

from surgery.errors import InputError
from surgery.modules.sharded import is_sharded
from surgery.modules.tensors import Parts, parts_of
from surgery.twin.elastic import is_wrapped, not_wrapped


def _is_compiled(module: nn.Module) -> bool:
    """Whether a module is what `torch.compile` gives. Importing what it needs would take seconds."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")
    return dynamo is not None and isinstance(module, dynamo.OptimizedModule)


def check_model(model: Any) -> Parts:
    """The parts of a model. Raises InputError for what cannot be analysed."""
    if not isinstance(model, nn.Module):
        raise InputError(f"a model is an nn.Module, got {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise InputError("the model is a TorchScript module: wrap the plain one, and script or trace what comes out")
    parts = parts_of(model)
    around = isinstance(model, DataParallel | DistributedDataParallel | AveragedModel) or _is_compiled(model)
    if around and any(map(is_wrapped, parts.modules.values())):
        raise InputError(not_wrapped(model))
    for name, tensor in parts.tensors.items():
        if is_sharded(tensor) and not is_wrapped(model):
            raise InputError(
                f"{name} is spread over ranks: wrap the plain model first, then shard what wrap gives (fully_shard, "
                "parallelize_module). A model that fits nowhere whole is wrapped on the meta device"
            )
        if is_lazy(tensor):
            raise InputError(
                f"{name} has no shape yet, since {type(model).__name__} has lazy layers that have not run: run the "
                "model once on example inputs, then inspect or wrap it"
            )
    for path, module in parts.modules.items():
        if _is_compiled(module):
            raise InputError(
                f"{path or 'the model'} is compiled: wrap the plain model (its `_orig_mod`), and compile what comes out"
            )
        if isinstance(module, DataParallel | DistributedDataParallel):
            raise InputError(
                f"{path or 'the model'} is inside {type(module).__name__}: wrap the model itself first, "
                "then parallelise it"
            )
        if is_wrapped(module) and not is_wrapped(model):
            raise InputError(f"{path} is wrapped already: surgery.unwrap it, then wrap the whole model")
    return parts
