"""The model as boxes: a card for each layer with its tensors, boxes around them, one box for blocks that are alike."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from surgery.axes import layout
from surgery.html.numbers import COST_WORDS
from surgery.html.tags import breakable, tag
from surgery.plan.page.kinds import style_of, told
from surgery.plan.page.picture import picture
from surgery.plan.page.profile import profiles
from surgery.plan.page.tree import Folding, Node, counted, tree
from surgery.plan.page.view import View

DRAWN = 700  # tensors up to which blocks that are alike are drawn one by one as well


class Blocks:
    """Makes the boxes of one page, and counts what they are told apart by."""

    def __init__(self, view: View):
        self.view, self.folding, self.numbers = view, Folding(view.plan), itertools.count()
        self.every = len(view.plan.parameters) <= DRAWN

    def model(self) -> Iterator[Element]:
        """The whole model."""
        root = tree(self.view.plan)
        if root.tensors:
            yield self.layer(root, "parameters of its own" if root.inside else root.name)
        yield from self.inside(root)

    def inside(self, node: Node) -> Iterator[Element]:
        """What is in a module."""
        for run in self.folding.runs(node.inside.values()):
            yield self.box(run[0]) if len(run) == 1 else self.fold(run)

    def box(self, node: Node) -> Element:
        """A module: a card, or a box with what is in it."""
        if not node.inside:
            return self.layer(node, node.name)
        runs = list(self.folding.runs(node.inside.values()))
        if len(runs) == 1 and len(runs[0]) > 1 and not node.tensors:
            return self.fold(runs[0], f"{node.name}.")
        own = self.layer(node, "its own") if node.tensors else None
        body = tag("div", own, *self.inside(node), class_="flow")
        return tag("section", self._head(node.name, [node]), body, class_="box", aria_label=node.path)

    def fold(self, run: Sequence[Node], before: str = "") -> Element:
        """Blocks that are alike: the first one, how widths go along the blocks, and the others one by one."""
        first, *others = run
        own = self.layer(first, first.name) if first.tensors else None
        alike = self.view.asked is None or len({self._at(node) for node in run}) == 1
        many = f"{len(run)} blocks that are alike" if alike else f"{len(run)} blocks, alike but for their widths"
        if self.every:
            rest = tag("div", *map(self.box, others), class_="flow")
        else:
            rest = tag("p", ", ".join(node.path for node in others), class_="remark")
        return tag(
            "section",
            self._head(before + counted(run), run, many if alike else f"{many}; below is {first.path}"),
            tag("div", own, *self.inside(first), class_="flow"),
            *profiles(self.view, run, [self.folding.own(node) for node in run]),
            tag("details", tag("summary", f"The other {len(others)}, one by one"), rest),
            class_="box fold",
            aria_label=f"{first.path} to {others[-1].path}",
        )

    def _at(self, node: Node) -> tuple[int, ...]:
        """What is kept of each tensor of a block."""
        return tuple(map(self.view.kept, node.all_tensors()))

    def _head(self, name: str, nodes: Sequence[Node], more: str = "") -> Element:
        names = [tensor for node in nodes for tensor in node.all_tensors()]
        whole, kept = self.view.elements(names)
        count = COST_WORDS["params"].words
        size = count(whole) if self.view.asked is None else f"{count(kept)} of {count(whole)}"
        note = f"{more}, {size} parameters" if more else f"{size} parameters"
        return tag("h3", *breakable(name), " ", tag("small", note))

    def layer(self, node: Node, name: str) -> Element:
        """A card with the tensors of a layer, and what is to be said of them when it has the focus."""
        key = f"l{next(self.numbers)}"
        kinds = dict.fromkeys(kind for tensor in node.tensors for kind in self.view.kinds(tensor))
        tall = any(len(self._sides(tensor)) > 1 for tensor in node.tensors)
        return tag(
            "div",
            tag("p", *breakable(name), class_="what"),
            tag("div", *(self._figure(tensor, tall) for tensor in node.tensors), class_="tensors"),
            tag("div", tag("b", node.path or name), *map(self._words, node.tensors), class_="tip", id=key),
            class_=f"layer {style_of([*kinds])}",
            tabindex=0,
            role="group",
            aria_label=node.path or name,
            aria_describedby=key,
        )

    def _sides(self, tensor: str) -> list[layout.Layout]:
        return [dim for dim in self.view.dims(tensor) if layout.width(dim, {}) > 1]

    def _figure(self, tensor: str, tall: bool) -> Element:
        view, dims = self.view, self.view.dims(tensor)
        real = view.real(tensor)
        full, kept = view.plan.parameters[real], view.kept(tensor)
        stuck = sum(item.elements for item in view.fixed.get(real, ()))
        return tag(
            "figure",
            picture(dims, view.plan.groups, view.largest, view.widths, tall, gone=not view.there(tensor)),
            tag(
                "figcaption",
                tag("b", tensor.rpartition(".")[2]),
                tag("span", _shape(view, tensor, full=True)),
                tag("span", "→ ", _shape(view, tensor, full=False), class_="to") if kept < full else None,
                tag("span", "tied") if real != tensor else None,
                tag("span", "fixed" if stuck == full else f"{stuck:,} fixed", class_="stuck") if stuck else None,
            ),
        )

    def _words(self, tensor: str) -> Element:
        """A tensor in words: its dimensions, its groups, what is kept, what is fixed and why."""
        view, real = self.view, self.view.real(tensor)
        full, kept = view.plan.parameters[real], view.kept(tensor)
        shown = [dim for dim in view.dims(tensor) if layout.width(dim, {}) > 1] or list(view.dims(tensor))
        said = [", by ".join(told(dim, view.plan.groups) for dim in shown), f" ({full:,} elements"]
        said.append(")" if kept == full else f", {kept:,} kept)" if kept else ", left out)")
        if names := view.group_names(tensor):
            said += [f"; {'groups' if len(names) > 1 else 'group'} ", ", ".join(names)]
        if real != tensor:
            said.append(f"; it is {real}")
        fixed = [tag("span", f"{item.elements:,} fixed: {item.reason}", class_="stuck")
                 for item in view.fixed.get(real, ())]  # fmt: skip
        return tag("p", tag("b", tensor.rpartition(".")[2]), " ", "".join(said), ". " if fixed else ".", *fixed)


def _shape(view: View, tensor: str, full: bool) -> str:
    """`64 × 3 × 7 × 7`, of the whole tensor or of what is kept."""
    if not full and not view.there(tensor):
        return "left out"
    sizes = (layout.width(dim, {} if full else view.widths) for dim in view.dims(tensor))
    return " × ".join(f"{size:,}" for size in sizes) or "1"
