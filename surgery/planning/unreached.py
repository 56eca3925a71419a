"""Modules and bare parameters that the example inputs did not reach, but that another input might."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils import _pytree as pytree

from surgery.axes.algebra import Dim, Dims, axes_of, extent, pin, resolve, unify
from surgery.capture.frames import info
from surgery.capture.record import Capture, capture
from surgery.errors import CaptureError
from surgery.modules.code.bytecode import mentions
from surgery.modules.inputs import Inputs
from surgery.planning.analysis import Analysis
from surgery.planning.values import fill
from surgery.rules.base import tensors_in


@dataclass
class _Use:
    """How a reached module was called: arguments and result, with nodes where there were tensors."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any
    frame: int | None
    capture: Capture


def reach(analysis: Analysis) -> None:
    """Account for unreached modules.

    A module that nothing mentions is dead code and stays fixed. One that could run is analysed on the inputs of a
    reached sibling of the same class and shapes (experts of a mixture); where there is none, or siblings are given
    different axes, so that nothing tells which one it is like, every axis that it could receive is pinned.
    """
    uses = _uses(analysis)
    for path in list(_unreached(analysis, set(uses))):
        owner, attribute = _owner(analysis, path)
        if not mentions(type(analysis.modules[owner]), {attribute, "children", "modules", "getattr", "_modules"}):
            continue
        siblings = [uses[other] for other in _siblings(analysis, path, uses)]
        alike = siblings and all(_given(analysis, use) == _given(analysis, siblings[0]) for use in siblings)
        if not alike or not _follow(analysis, path, siblings[0]):
            sizes = {size for _, shape in _shapes(analysis.modules[path]) for size in shape}
            reason = (
                f"{path}, which the example inputs do not reach, could receive it "
                "(give inputs that reach it as well: surgery.batches([...]))"
            )
            _pin_around(analysis, owner, sizes, reason)
    _bare(analysis)


def _bare(analysis: Analysis) -> None:
    """Account for tensors of modules that ran without reading them: `if mask is not None: x = x * self.gate`.

    What no code mentions is merely fixed. Else the forward that mentions it could combine it with what fits.
    """
    made = {(frame.path, name) for record in analysis.captures for frame in record.frames for name in frame.stored}
    for name, shape in analysis.shapes.items():
        if name in analysis.tensors or any(name.startswith(f"{layer}.") for layer in analysis.layers):
            continue
        path, attribute = _owner(analysis, name)
        attribute = attribute.partition("[")[0]
        if (path, attribute) in made:
            continue  # a forward puts its own in the place of what was left from an earlier one
        reason = (
            f"{name}, which the example inputs do not read, could be combined with it "
            "(give inputs that read it as well: surgery.batches([...]))"
        )
        names = {attribute, "getattr", "_parameters", "_buffers"}  # the module itself may also look it up by a string
        while True:
            if mentions(type(analysis.modules[path]), names):
                _pin_around(analysis, path, set(shape) - {1}, reason)
            if not path:
                break
            path, names = path.rpartition(".")[0], {attribute}


def _uses(analysis: Analysis) -> dict[str, _Use]:
    """The first call of every reached module; modules of which only a tensor was read count as well."""
    uses: dict[str, _Use] = {}
    for record in analysis.captures:
        for frame in record.frames:
            if frame.path is not None:
                uses.setdefault(frame.path, _Use(frame.args, frame.kwargs, frame.output, frame.index, record))
        for node in record.graph.nodes:
            if node.op == "call_module":
                use = _Use(node.args, dict(node.kwargs), node, info(node).frame, record)
                uses.setdefault(str(node.target), use)
            elif node.op == "get_attr":
                owner = str(node.target).rpartition(".")[0]
                uses.setdefault(owner, _Use((), {}, None, None, record))
    return uses


def _unreached(analysis: Analysis, reached: set[str]) -> Iterator[str]:
    """The outermost modules with parameters of which nothing was reached."""
    inside = {".".join(path.split(".")[:n]) for path in reached for n in range(1, path.count(".") + 2)} | {""}
    for path, module in analysis.modules.items():
        parent = path.rpartition(".")[0]
        if path in inside or parent not in inside or any(True for _ in module.parameters()) is False:
            continue
        above = path.split(".")
        if not any(".".join(above[:n]) in analysis.layers for n in range(1, len(above))):  # else it is inside a layer
            yield path


_CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)


def _owner(analysis: Analysis, path: str) -> tuple[str, str]:
    """The module whose code holds an unreached module or tensor, and the attribute in it."""
    owner, _, attribute = path.rpartition(".")
    while owner not in analysis.modules:  # a key with a dot in it: `table['a.b']`
        owner, _, attribute = owner.rpartition(".")
    while isinstance(analysis.modules[owner], _CONTAINERS) and owner:
        owner, _, attribute = owner.rpartition(".")
    return owner, attribute


def _shapes(module: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, parameter.shape) for name, parameter in module.named_parameters()]


def _siblings(analysis: Analysis, path: str, uses: dict[str, _Use]) -> Iterator[str]:
    """The reached modules beside one that are of its class and shapes."""
    module, parent = analysis.modules[path], path.rpartition(".")[0]
    for name, child in analysis.modules[parent].named_children():
        other = f"{parent}.{name}".lstrip(".")
        alike = type(child) is type(module) and _shapes(child) == _shapes(module)
        if alike and other in uses and uses[other].frame is not None:
            yield other


def _given(analysis: Analysis, use: _Use) -> list[list[Dim | None]]:
    """The dimensions that a module was given, as far as they may be cut."""
    given = tensors_in(fill((use.args, use.kwargs), analysis.values.get))
    return [[resolve(dim) if any(not axis.pin for axis in axes_of(dim)) else None for dim in dims] for dims in given]


def _follow(analysis: Analysis, path: str, use: _Use) -> bool:
    """Analyse an unreached module on what its sibling was given. False where it does not run on that."""

    def example(value: Any) -> Any:
        if not isinstance(value, fx.Node):
            return value
        zeros = torch.zeros(info(value).shape, dtype=info(value).dtype)
        return zeros.normal_(generator=torch.Generator().manual_seed(0)) if zeros.is_floating_point() else zeros

    given = pytree.tree_map(example, (use.args, use.kwargs), is_leaf=lambda value: isinstance(value, fx.Node))
    try:
        record = capture(analysis.modules[path], Inputs(*given), prefix=path)
    except CaptureError:
        return False
    inputs = tensors_in(fill((use.args, use.kwargs), analysis.values.get))
    outputs = tensors_in(fill(use.output, analysis.values.get))
    with analysis.uncounted():  # on the example inputs it does no work
        results = analysis.run(record, inputs)
    for made, known in zip(results, outputs, strict=False):
        for a, b in zip(made, known, strict=False):
            if extent(a) == extent(b):
                unify(a, b, f"{path}, which the example inputs do not reach")
    return True


def _pin_around(analysis: Analysis, owner: str, sizes: set[int], reason: str) -> None:
    """Pin everything of a fitting size in the forwards of one module: what they get, make, pass on and return."""
    for record in analysis.captures:
        around = {frame.index for frame in record.frames if frame.path == owner}
        frames = [frame for frame in record.frames if frame.index in around or frame.parent in around]
        values: list[Any] = [(frame.args, frame.kwargs, frame.output) for frame in frames]
        values += [node for node in record.graph.nodes if info(node).frame in around]
        for dims in tensors_in([fill(value, analysis.values.get) for value in values]):
            _pin_fitting(dims, sizes, reason)


def _pin_fitting(dims: Dims, sizes: set[int], reason: str) -> None:
    for dim in dims:
        if extent(dim) in sizes:
            pin(dim, reason)
