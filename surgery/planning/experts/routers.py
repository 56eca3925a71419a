"""Where the best of a dimension are chosen: dimensions whose order seems to be read, and which may be experts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from torch import fx, nn

from surgery.axes.algebra import Axis, axes_of
from surgery.capture.frames import info
from surgery.capture.record import Capture
from surgery.capture.recorder import call_name
from surgery.planning.analysis import Analysis
from surgery.rules.base import Dims

# Calls that choose along a dimension or weigh it, and where that stands among their arguments.
_CHOOSING = {"topk": 2, "argmax": 1, "argmin": 1, "max": 1, "min": 1}
_WEIGHING = {"softmax": 1, "sigmoid": 1}
_LAST = frozenset(("topk", "softmax", "sigmoid"))  # where none is given, they mean the last one
CONTAINERS = (nn.ModuleList, nn.ModuleDict)
LARGEST = 4096  # experts: more are a vocabulary, of which a model chooses tokens


def candidates(modules: Mapping[str, nn.Module], captures: Iterable[Capture]) -> frozenset[int]:
    """The sizes of dimensions along which something is chosen; or weighed, where so many modules stand in a list."""
    found = set()
    counts = {len(module) for module in modules.values() if isinstance(module, CONTAINERS)}
    for node, given, dim in routers(captures):
        size = int(info(given).shape[dim])
        if 1 < size <= LARGEST and (call_name(node.target) in _CHOOSING or size in counts):
            found.add(size)
    return frozenset(found)


def routers(captures: Iterable[Capture]) -> Iterator[tuple[fx.Node, fx.Node, int]]:
    """Calls that choose from values, or weigh them; these values; and along which dimension."""
    for capture in captures:
        for node in capture.graph.nodes:
            name = call_name(node.target).rstrip("_")
            place = (_CHOOSING | _WEIGHING).get(name) if node.args else None
            given = node.args[0] if place is not None else None
            dtype = info(given).dtype if isinstance(given, fx.Node) else None
            if place is None or not isinstance(given, fx.Node) or dtype is None or not dtype.is_floating_point:
                continue
            dim = node.kwargs.get("dim", node.args[place] if len(node.args) > place else -1 if name in _LAST else None)
            rank = len(info(given).shape)
            if isinstance(dim, int) and not isinstance(dim, bool) and -rank <= dim < rank:
                yield node, given, int(dim)


def routed(analysis: Analysis) -> set[Axis]:
    """The axes along which something is chosen or weighed."""
    found: set[Axis] = set()
    for _, given, dim in routers(analysis.captures):
        dims = analysis.values.get(given)
        if isinstance(dims, Dims):
            found.update(axes_of(dims[dim]))
    return found
