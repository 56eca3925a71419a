"""`check_adapter`: whether a declaration is true of its layer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from surgery.adapters.base import Adapter, adapter_for, attribute_path
from surgery.axes import layout
from surgery.axes.algebra import Dim, Dims, Sum, axes_of, extent, fresh, resolve
from surgery.axes.layout import Layout, Unit
from surgery.capture.record import capture
from surgery.errors import AxisError, ProofError
from surgery.modules.containers import holders, open_tensors, swapped
from surgery.modules.inputs import Examples, Inputs, runs, tensors
from surgery.modules.modes import evaluating
from surgery.modules.plain_data import replaced
from surgery.modules.tensors import named_tensors, parts_of
from surgery.modules.verify import verify
from surgery.planning.analysis import Analysis, Layer, fill
from surgery.rules.base import tensors_in

TOLERANCE = 1e-9
FACTOR = 3.0
# Multiply-adds that torch's counter does not see.
UNSEEN = frozenset("custom mv addmv dot vdot addr ger _trilinear _cdist_forward mkldnn_rnn_layer".split())


class _Alone(nn.Module):
    """A model that is nothing but one layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.layer(*args, **kwargs)


def check_adapter(module: nn.Module, inputs: Examples) -> list[str]:
    """Run the conformance test of a layer's adapter; returns the names of the axes that were tried.

    For every axis that the declaration calls free: permuting it everywhere that `axes` and `params` say must permute
    the output and change nothing else, and cutting it everywhere that `params` and `sizes` say must leave a layer that
    runs and gives the declared shape. Multiply-adds that are declared must be those that torch's counter counts, where
    it sees all of them; multiplying the parameters in `scale` must multiply the output. The test runs in float64 on a
    copy; `module` stays as it is.

    Raises AxisError that says what is wrong.
    """
    layer = copy.deepcopy(module).double()
    adapter = adapter_for(layer)
    if adapter is None:
        raise AxisError(
            f"{type(module).__name__} has no adapter: decorate one with @surgery.adapter({type(module).__name__})"
        )
    _check_names(adapter)
    tried: list[str] = []
    for run in runs(inputs):
        trial = _Trial(layer, adapter, run)
        tried += trial.run()
        trial.scale()
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
    for name in adapter.scale:
        if name not in adapter.params:
            raise AxisError(f"{who}: scale names {name!r}, which has no pattern in params")
    for _, attribute in adapter.attributes():
        try:
            adapter.value(attribute)
        except (AttributeError, LookupError, TypeError) as error:
            raise AxisError(f"{who}: sizes names {attribute!r}, which cannot be read: {error}") from error


class _Trial:
    """One layer on one example."""

    def __init__(self, layer: nn.Module, adapter: Adapter, run: Inputs):
        self.layer, self.adapter = layer, adapter
        self.run_ = Inputs(*_mapped((run.args, run.kwargs), lambda t: t.double() if t.is_floating_point() else t))
        model = _Alone(layer)
        parts = parts_of(model)
        analysis = Analysis(parts)
        record = capture(parts, self.run_)
        self.inputs = [Dims(fresh(n) for n in t.shape) for t in tensors((run.args, run.kwargs))]
        self.outputs = analysis.run(record, self.inputs)
        self.macs = analysis.macs
        node = next(node for node in record.graph.nodes if node.op == "call_module")
        self.bound: Layer | None = analysis.layers.get("layer")
        for dims in (*self.inputs, *self.outputs, *tensors_in(fill(node.args, analysis.values.get))):
            for axis in (axis for dim in dims for axis in axes_of(dim)):
                if axis.pin and axis.pin.startswith(("the rule for", "the adapter for")):
                    raise AxisError(f"{type(adapter).__name__}: {axis.pin}")
        assert self.bound is not None
        self.tensors = {name: analysis.tensor(f"layer.{name}") for name in adapter.tensors()}
        self._check_sizes()

    def _check_sizes(self) -> None:
        assert self.bound is not None
        for term, attribute in self.adapter.attributes():
            size = self.bound.binding.size(term)
            if size is not None and size != self.adapter.value(attribute):
                raise AxisError(
                    f"{type(self.adapter).__name__}: sizes says that {attribute} holds a width that is {size} in the "
                    f"parameters, but it is {self.adapter.value(attribute)}"
                )

    def run(self) -> list[str]:
        assert self.bound is not None
        self._count(self.layer, self.run_, None, {}, "at full width")
        tried = []
        for name, dim in self.bound.binding.dims.items():
            axes = [axis for axis in axes_of(dim) if not axis.pin]
            if len(axes) == 1 and extent(resolve(dim)) == axes[0].size:
                self._permute(name, axes[0])
                self._cut(name, axes[0])
                tried.append(name)
        if not tried:
            raise AxisError(
                f"{type(self.adapter).__name__}: every axis of {self.adapter.axes!r} is fixed; nothing can be cut"
            )
        return tried

    def _frozen(self, dims: Dims, axis: Any) -> tuple[Layout, ...]:
        return tuple(_freeze(dim, axis) for dim in dims)

    def _changed(self, axis: Any, chosen: Mapping[str, Tensor]) -> tuple[nn.Module, Inputs]:
        """The layer and its inputs with the chosen units of an axis, in that order."""
        layer = copy.deepcopy(self.layer)
        if self.adapter.replacement is not None:
            layer.__class__ = self.adapter.replacement
        for name, dims in self.tensors.items():
            owner, _, leaf = name.rpartition(".")
            module = layer.get_submodule(owner)
            value = _take(getattr(module, leaf).detach(), self._frozen(dims, axis), chosen)
            if leaf in module._parameters:
                module._parameters[leaf] = nn.Parameter(value)
            else:
                module._buffers[leaf] = value
        _relist(self.layer, layer)
        given = iter(self.inputs)
        changed = _mapped(
            (self.run_.args, self.run_.kwargs), lambda t: _take(t, self._frozen(next(given), axis), chosen)
        )
        return layer, Inputs(*changed)

    def _permute(self, name: str, axis: Any) -> None:
        order = torch.randperm(axis.size, generator=torch.Generator().manual_seed(0))
        layer, run = self._changed(axis, {"axis": order})
        after, before = _outputs(layer, run), _outputs(self.layer, self.run_)
        expected = [_take(t, self._frozen(d, axis), {"axis": order}) for t, d in zip(before, self.outputs, strict=True)]
        try:
            verify(_Constant(expected), _Constant(after), (), tolerance=TOLERANCE)
        except ProofError as error:
            raise AxisError(
                f"{type(self.adapter).__name__}: permuting {name!r} ({axis.size} units) everywhere that axes "
                f"{self.adapter.axes!r} and params {dict(self.adapter.params)} say does not permute the output alike: "
                f"{error}. A pattern has {name!r} at the wrong place, or in the wrong order within a product"
            ) from error

    def _cut(self, name: str, axis: Any) -> None:
        width = (axis.size + 1) // 2
        layer, run = self._changed(axis, {"axis": torch.arange(width)})
        assert self.bound is not None
        for term, attribute in self.adapter.attributes():
            dim = _freeze(self.bound.binding.dim(term), axis)
            _assign(layer, attribute, layout.width(dim, {"axis": width}))
        expected = [[layout.width(d, {"axis": width}) for d in self._frozen(dims, axis)] for dims in self.outputs]
        try:
            shapes = [list(t.shape) for t in _outputs(layer, run)]
        except Exception as error:
            raise AxisError(
                f"{type(self.adapter).__name__}: cut to {width} of {axis.size} units of {name!r}, the layer does not "
                f"run ({type(error).__name__}: {error}). An attribute that holds this width is missing in sizes "
                f"{dict(self.adapter.sizes)}, or a parameter in params"
            ) from error
        if shapes != expected:
            raise AxisError(
                f"{type(self.adapter).__name__}: cut to {width} of {axis.size} units of {name!r}, the layer gives "
                f"shapes {shapes}, where axes {self.adapter.axes!r} says {expected}"
            )
        self._count(layer, run, axis, {"axis": width}, f"cut to {width} of {axis.size} units of {name!r}")

    def _count(self, layer: nn.Module, run: Inputs, axis: Any, widths: Mapping[str, int], where: str) -> None:
        """Compare the multiply-adds that are declared, if any are, with those that torch counts, if it sees them."""
        declared = sum(layout.width(_freeze(dim, axis), widths) for dim in self.macs)
        counted, all_seen = _counted(layer, run)
        wrong = declared != counted if all_seen else declared < counted
        if self.macs and counted and wrong:
            shown = f"macs {self.adapter.macs!r} says" if self.adapter.macs else "call.multiply says"
            raise AxisError(
                f"{type(self.adapter).__name__}: {where}, {shown} {declared} multiply-adds, torch counts {counted}. "
                'macs is ("output" or "input", a parameter): the elements of that tensor, times the axes of the '
                "parameter that the tensor does not have"
            )

    def scale(self) -> None:
        """What `scale` names is what the output is linear in."""
        names = [name for name in self.adapter.scale if name in self.tensors]
        if not names:
            return
        scaled = copy.deepcopy(self.layer)
        for name in names:
            owner, _, leaf = name.rpartition(".")
            getattr(scaled.get_submodule(owner), leaf).data.mul_(FACTOR)
        _relist(self.layer, scaled)
        expected = [t * FACTOR if t.is_floating_point() else t for t in _outputs(self.layer, self.run_)]
        try:
            after = _outputs(scaled, self.run_)
            verify(_Constant(expected), _Constant(after), (), tolerance=TOLERANCE)
        except ProofError as error:
            raise AxisError(
                f"{type(self.adapter).__name__}: scale says that the output is linear in {', '.join(names)}, but "
                f"multiplying them by {FACTOR} does not multiply it: {error}. Name every parameter that adds to the "
                "output (a bias too), and none that does not, or leave scale out"
            ) from error


class _Constant(nn.Module):
    """Returns what it was made with, so that plain tensors can be compared as outputs."""

    def __init__(self, values: list[Tensor]):
        super().__init__()
        self.values = values

    def forward(self) -> list[Tensor]:
        return self.values


def _relist(before: nn.Module, after: nn.Module) -> None:
    """Bring containers of a layer's own parameters, such as the flat weights of recurrent layers, up to date."""
    names = {id(tensor): name for name, tensor in named_tensors(before)}

    def now(tensor: Tensor) -> Tensor:
        owner, _, leaf = names[id(tensor)].rpartition(".") if id(tensor) in names else ("", "", "")
        return getattr(after.get_submodule(owner), leaf) if leaf else tensor

    for attribute, value in holders(before):
        if any(id(tensor) in names for tensor in open_tensors(value)):
            vars(after)[attribute] = swapped(value, now)


def _freeze(dim: Dim, axis: Any) -> Layout:
    return tuple(
        layout.Sum(tuple(_freeze(term, axis) for term in factor.terms))
        if isinstance(factor, Sum)
        else Unit(factor.size, "axis" if factor is axis else None)
        for factor in resolve(dim)
    )


def _take(tensor: Tensor, layouts: tuple[Layout, ...], chosen: Mapping[str, Tensor]) -> Tensor:
    for dim, parts in enumerate(layouts):
        if "axis" in layout.groups(parts):
            tensor = tensor.index_select(dim, layout.positions(parts, chosen))
    return tensor


def _mapped(value: Any, change: Any) -> Any:
    return pytree.tree_map(lambda leaf: change(leaf) if isinstance(leaf, Tensor) else leaf, value)


def _outputs(layer: nn.Module, run: Inputs) -> list[Tensor]:
    with evaluating(layer), torch.no_grad():
        return tensors(layer(*run.args, **run.kwargs))


def _counted(layer: nn.Module, run: Inputs) -> tuple[int, bool]:
    """The multiply-adds of a call as torch counts them, and whether that is all of them."""
    counter = FlopCounterMode(display=False)
    # gradients are on, since the fused inference paths are not counted
    with evaluating(layer), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _Names() as seen, counter:
        layer(*run.args, **run.kwargs)
    return counter.get_total_flops() // 2, seen.names.isdisjoint(UNSEEN)


class _Names(TorchDispatchMode):
    """The names of the operations that run; those that are not torch's own are one, that the counter does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__ if func.namespace == "aten" else "custom")
        return func(*args, **(kwargs or {}))


def _assign(layer: nn.Module, attribute: str, value: int) -> None:
    name, *keys = attribute_path(attribute)
    while keys and isinstance(keys[0], str):
        layer, name = layer.get_submodule(name), keys.pop(0)
    vars(layer)[name] = replaced(vars(layer)[name], tuple(keys), value)
