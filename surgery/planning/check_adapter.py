"""`check_adapter`: whether a declaration is true of its layer."""

from __future__ import annotations

import copy

from torch import nn

from surgery.adapters.base import Adapter, adapter_for
from surgery.axes import signature
from surgery.errors import AxisError
from surgery.modules.inputs import Examples, runs, widened
from surgery.planning.conformance.bound import bind
from surgery.planning.conformance.trials import check_cut, check_macs, check_order, check_scale


def check_adapter(module: nn.Module, inputs: Examples) -> list[str]:
    """Run the conformance test of a layer's adapter; returns the names of the axes that were tried.

    For every axis that the declaration calls free: permuting it everywhere that `axes` and `params` say must permute
    the output and change nothing else, and cutting it everywhere that `params` and `sizes` say must leave a layer that
    runs and gives the declared shape. Multiply-adds that are declared must be those that torch's counter counts, where
    it sees all of them; multiplying the parameters in `scale` must multiply the output. The test runs in float64 on a
    copy; `module` stays as it is.

    Raises AxisError that says what is wrong.
    """
    if not isinstance(module, nn.Module):
        seen = module.__name__ if isinstance(module, type) else type(module).__name__
        raise AxisError(f"check_adapter takes a layer, then its inputs: check_adapter(Layer(8, 8), x). Got {seen}")
    layer = copy.deepcopy(module)._apply(widened)
    adapter = adapter_for(layer)
    if adapter is None:
        raise AxisError(
            f"{type(module).__name__} has no adapter: decorate one with @surgery.adapter({type(module).__name__})"
        )
    _check_names(adapter)
    tried: list[str] = []
    for run in runs(inputs):
        bound = bind(layer, adapter, run)
        check_macs(bound)
        free = bound.free_axes()
        if not free:
            raise AxisError(f"{bound.who}: every axis of {adapter.axes!r} is fixed; nothing can be cut")
        for name, axis in free.items():
            check_order(bound, name, axis)
            check_cut(bound, name, axis)
        check_scale(bound)
        tried += free
    return list(dict.fromkeys(tried))


def _check_names(adapter: Adapter) -> None:
    """Every parameter has a pattern of its rank, every attribute exists and holds the size it should."""
    who = type(adapter).__name__
    for name, parameter in adapter.module.named_parameters():
        if name not in adapter.params and parameter.numel() > 1:
            raise AxisError(f"{who}: parameter {name!r} {list(parameter.shape)} has no pattern in params")
    for name in adapter.params:
        owner, _, leaf = name.rpartition(".")
        if not hasattr(adapter.module.get_submodule(owner), leaf):
            raise AxisError(f"{who}: params has a pattern for {name!r}, which the layer does not have")
    parsed = signature.parse(adapter.axes)
    patterns = [*parsed.inputs, *parsed.outputs]
    patterns += [pattern for given in adapter.params.values() for pattern in signature.parse_tensors(given)]
    known = {name for pattern in patterns for name in signature.names(pattern)}
    for term, attribute in adapter.attributes():
        unknown = set(signature.names((term,))) - known
        if unknown:
            raise AxisError(f"{who}: sizes says that {attribute} holds {min(unknown)}, which is no axis of the layer")
    for name in adapter.scale:
        if name not in adapter.params:
            raise AxisError(f"{who}: scale names {name!r}, which has no pattern in params")
    for _, attribute in adapter.attributes():
        try:
            adapter.value(attribute)
        except (AttributeError, LookupError, TypeError) as error:
            raise AxisError(f"{who}: sizes names {attribute!r}, which cannot be read: {error}") from error
