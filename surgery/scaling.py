"""Where a factor on a group's features can be folded: the parameters that make them (the paper's H/c)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx

from surgery import layout, signature
from surgery.analysis import Analysis, Layer
from surgery.axes import Dim
from surgery.layout import Layout


def scaling(analysis: Analysis, freeze: Callable[[Dim], Layout], groups: frozenset[str]) -> dict[str, Any]:
    """`scales`: for each parameter that makes features, its dimension and the groups; `unscaled`: groups without one.

    The factor stands after a normalisation that follows a layer, as in the paper: before the activation.
    """
    scales: dict[str, tuple[int, frozenset[str]]] = {}
    for path, layer in analysis.layers.items():
        made = _made(layer, freeze) & groups
        if not made or not layer.adapter.scale:
            continue
        last = _followed(analysis, path)
        while last is not None and last.path in _norms(analysis):
            layer, last = last, _followed(analysis, last.path)
        for tensor in layer.adapter.scale:
            name = analysis.canonical.get(f"{layer.path}.{tensor}".lstrip("."))
            if name is not None:
                scales[name] = (_dimension(layer, tensor, freeze, made), made)
    covered = {name for _, names in scales.values() for name in names}
    unscaled = {name: "no layer with a scale of its own makes it" for name in sorted(groups - covered)}
    return {"scales": scales, "unscaled": unscaled}


def _made(layer: Layer, freeze: Callable[[Dim], Layout]) -> frozenset[str]:
    parsed = signature.parse(layer.adapter.axes)
    consumed = {name for pattern in parsed.inputs for name in signature.names(pattern)}
    given = [dim for name, dim in layer.binding.dims.items() if name not in consumed]
    return frozenset(name for dim in given for name in layout.groups(freeze(dim)))


def _norms(analysis: Analysis) -> set[str]:
    """Layers that only scale and shift what they are given, channel by channel."""
    return {
        path
        for path, layer in analysis.layers.items()
        if layer.adapter.scale and layer.adapter.tensors() and layer.adapter.macs is None and layer.adapter.params.get("weight") == "c"
    }


def _followed(analysis: Analysis, path: str) -> Layer | None:
    """The layer that alone reads the output of a layer."""
    for capture in analysis.captures:
        for node in capture.graph.nodes:
            if node.op == "call_module" and node.target == path:
                users: list[fx.Node] = list(node.users)
                if len(users) == 1 and users[0].op == "call_module":
                    return analysis.layers.get(str(users[0].target))
                return None
    return None


def _dimension(layer: Layer, tensor: str, freeze: Callable[[Dim], Layout], made: frozenset[str]) -> int:
    """The dimension of a parameter along which its features lie."""
    (pattern,) = signature.parse_tensors(layer.adapter.params[tensor])
    for i, term in enumerate(pattern):
        dims = [layer.binding.dims[name] for name in signature.names(term) if name in layer.binding.dims]
        if any(made & set(layout.groups(freeze(dim))) for dim in dims):
            return i
    return 0
