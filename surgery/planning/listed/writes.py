"""Calls that write into tensors which others hold."""

from __future__ import annotations

from torch import fx

from surgery.capture.recorder import call_name

# What these give shares memory with their first argument.
_VIEWS = frozenset(
    "getitem __getitem__ view view_as reshape transpose swapaxes permute movedim unsqueeze squeeze narrow select chunk "
    "split tensor_split unbind flatten unflatten expand expand_as T mT H mH t diagonal unfold as_strided detach data "
    "real imag".split()
)


def written(node: fx.Node) -> fx.Node | None:
    """The value that a call writes into, and that is read later under its old name; None where there is none.

    What a method returns that changes its tensor (`x.add_(y)`) is read in the place of that tensor from then on, but
    not in that of another one, which it is a view of.
    """
    name = call_name(node.target)
    held = node.kwargs.get("out") or (node.args[0] if node.args else None)
    if not isinstance(held, fx.Node):
        return None
    if name == "__setitem__" or "out" in node.kwargs:
        return _base(held)
    in_place = (name.endswith("_") and not name.endswith("__")) or name.startswith("__i")
    base = _base(held)
    return base if in_place and base is not held else None


def _base(node: fx.Node) -> fx.Node:
    while call_name(node.target) in _VIEWS and node.args and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return node
