"""Names of axes, and those that cannot be a single unit."""

from __future__ import annotations

from surgery.axes.algebra import Axis, Dim, Sum, axes_of, pin, resolve
from surgery.planning.analysis import Analysis


def axis_names(analysis: Analysis) -> dict[Axis, str]:
    """A unique name for every axis of a parameter: `<module path>.<axis>` of the first that makes it."""
    names: dict[Axis, str] = {}
    taken: set[str] = set()

    def name(dim: Dim, label: str) -> None:
        axes = list(dict.fromkeys(axes_of(dim)))
        for i, axis in enumerate(axes):
            if axis not in names:
                wanted = label if len(axes) == 1 else f"{label}.{i}"
                while wanted in taken:
                    wanted += "'"
                taken.add(wanted)
                names[axis] = wanted

    declared = {
        f"{layer.path}.{tensor}".lstrip("."): layer
        for layer in (*analysis.layers.values(), *analysis.transparent.values())
        for tensor in layer.adapter.params
    }
    for making in (True, False):
        for tensor in analysis.shapes:
            layer = declared.get(tensor)
            if layer is None:
                for i, dim in enumerate(analysis.tensors.get(tensor, ()) if making else ()):
                    name(dim, tensor if len(analysis.shapes[tensor]) == 1 else f"{tensor}.{i}")
                continue
            consumed = layer.adapter.consumed()
            for axis, dim in layer.binding.dims.items():
                if (axis not in consumed) == making:
                    name(dim, f"{layer.path}.{axis}".lstrip("."))
    return names


def min_widths(analysis: Analysis) -> dict[Axis, int]:
    """Axes that must keep at least two units, because some call treats a width of 1 differently."""
    coarse: dict[Axis, int] = {}
    for dim, where in analysis.min_units:
        axes = [axis for axis in axes_of(dim) if not axis.pin]
        several = any(isinstance(factor, Sum) for factor in resolve(dim))  # parts side by side are two at least
        if not axes or several or any(axis.pin for axis in axes_of(dim)):
            continue
        even = [axis for axis in axes if axis.size % 2 == 0 and axis.size > 2]
        if even:
            coarse[even[-1]] = 2
        else:
            pin(dim, f"a width of 1 would be another case at {where}")
    return coarse
