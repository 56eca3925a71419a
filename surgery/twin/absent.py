"""Parameters of modules that a pass has left out, where several ranks wait for the gradients of all parameters.

DistributedDataParallel averages gradients as they come, and a step ends when each parameter has had its turn. Modules
that are left out are in no graph: so the outputs are joined with their parameters, which get zeros by it, and their
turn. (Without a gradient they would have that too, but not where the graph is said to be static: what has none in the
first step is never averaged.) All ranks draw alike, so all leave out the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.modules.sharded import is_sharded
from surgery.modules.tree import named_parameters
from surgery.twin.backward import Backward
from surgery.twin.state import Pass, State


def several_ranks() -> bool:
    """Whether this process is one of several that train together."""
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def joined(state: State, module: nn.Module, done: Pass, output: Any) -> Any:
    """The output of a pass of the root, joined with the parameters that it has left out, if ranks wait for them."""
    plan = state.plan
    if plan is None or not plan.units.groups or not torch.is_grad_enabled():
        return output
    if torch.compiler.is_compiling() or not several_ranks():
        return output
    with state.whole():
        own = named_parameters(module)
    absent = [p for name, p in own if not plan.units.there(plan.canonical(name), done.widths) and _waits(p)]
    backward = state.forward.backward

    def join(tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        joined: Any = _Join  # torch's own types say nothing of what `apply` gives, or too little
        result: Tensor = joined.apply(backward, tensor, *absent)
        return result

    return pytree.tree_map_only(Tensor, join, output)


def _waits(parameter: Tensor) -> bool:
    return parameter.requires_grad and parameter.is_leaf and not is_sharded(parameter)


class _Join(torch.autograd.Function):
    """A tensor as it is, which parameters hang on."""

    @staticmethod
    def forward(ctx: Any, backward: Backward, tensor: Tensor, *absent: Tensor) -> Tensor:
        ctx.absent, ctx.backward_pass = absent, backward
        return tensor.clone()  # an output that is the input itself could not be changed in place

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.backward_pass.reached(ctx.absent)
        return None, gradients[0], *map(torch.zeros_like, ctx.absent)
