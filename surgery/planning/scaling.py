"""Where a factor on a group's features can be folded: the parameters that make them (the paper's H/c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from surgery.axes import layout, signature
from surgery.axes.algebra import Dim
from surgery.axes.layout import Layout
from surgery.planning.analysis import Analysis, Layer

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def scaling(analysis: Analysis, freeze: Callable[[Dim], Layout], groups: frozenset[str]) -> dict[str, Any]:
    """`scales`: for each parameter that makes features, its dimension and the groups; `unscaled`: groups without one.

    As in the paper, the factor stands before the activation, and behind a normalisation that follows the layer.
    """
    scales: dict[str, tuple[int, frozenset[str]]] = {}
    unscaled: dict[str, str] = {}
    readers = _only_readers(analysis)
    for path, layer in analysis.layers.items():
        made = _made(layer, freeze) & groups
        if not made or not layer.adapter.scale:
            continue
        follower = analysis.layers.get(readers.get(path, ""))
        if follower is not None and isinstance(follower.adapter.module, _NORMS):
            layer = follower
        if not layer.adapter.tensors():
            unscaled |= dict.fromkeys(
                sorted(made), f"{layer.path}, which follows {path}, has no weight to fold it into"
            )
        for tensor in layer.adapter.tensors():
            if tensor in layer.adapter.scale:
                name = analysis.canonical[f"{layer.path}.{tensor}".lstrip(".")]
                scales[name] = (_dimension(layer, tensor, freeze, made), made)
    covered = {name for _, names in scales.values() for name in names} | set(unscaled)
    unscaled |= dict.fromkeys(sorted(groups - covered), "no layer with a weight of its own makes it")
    return {"scales": scales, "unscaled": unscaled}


def _made(layer: Layer, freeze: Callable[[Dim], Layout]) -> frozenset[str]:
    """The groups that a layer's output has and its input has not."""
    consumed = layer.adapter.consumed()
    given = [dim for name, dim in layer.binding.dims.items() if name not in consumed]
    return frozenset(name for dim in given for name in layout.groups(freeze(dim)))


def _only_readers(analysis: Analysis) -> dict[str, str]:
    """For each layer whose output one other layer alone reads, that layer."""
    readers: dict[str, str] = {}
    for capture in analysis.captures:
        for node in capture.graph.nodes:
            users = list(node.users)
            if node.op == "call_module" and len(users) == 1 and users[0].op == "call_module":
                readers[str(node.target)] = str(users[0].target)
    return readers


def _dimension(layer: Layer, tensor: str, freeze: Callable[[Dim], Layout], made: frozenset[str]) -> int:
    """The dimension of a parameter along which its features lie."""
    (pattern,) = signature.parse_tensors(layer.adapter.params[tensor])
    for i, term in enumerate(pattern):
        dims = [layer.binding.dims[name] for name in signature.names(term) if name in layer.binding.dims]
        if any(made & set(layout.groups(freeze(dim))) for dim in dims):
            return i
    return 0
