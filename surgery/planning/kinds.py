"""What axes are (heads, channels, a residual width, ...), told by what the recorded calls do with them."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from torch import fx

from surgery.axes.algebra import Axis, Dim, Dims, axes_of
from surgery.capture.recorder import call_name
from surgery.plan.groups import KINDS
from surgery.planning.analysis import Analysis
from surgery.rules.base import tensors_in

ADDS = frozenset("add add_ __add__ __radd__ __iadd__ addcmul lerp".split())
PRODUCTS = frozenset("matmul bmm mm einsum baddbmm __matmul__ __rmatmul__ tensordot".split())
LAYERS = PRODUCTS | frozenset(  # where one of the factors is a parameter
    "linear bilinear addmm addbmm addmv mv inner grouped_mm _grouped_mm embedding embedding_bag conv1d conv2d conv3d "
    "conv_transpose1d conv_transpose2d conv_transpose3d multi_head_attention_forward".split()
)
NEAR = 300  # calls that are searched around a place; what belongs to one block is nearer
TRIED = 8  # sums that are looked at for one axis: a recurrence that is written out has thousands


def axis_kinds(analysis: Analysis) -> dict[Axis, str]:
    """The kind of every axis that something is known of; see `KINDS`. All others are "hidden"."""
    return _Kinds(analysis).all()


class _Kinds:
    """The graph of a model's runs, read for what axes are."""

    def __init__(self, analysis: Analysis):
        self.analysis = analysis
        nodes = [node for capture in analysis.captures for node in capture.graph.nodes]
        self.axes = {node: self._axes(analysis.values.get(node)) for node in nodes}
        self.place = {node: i for i, node in enumerate(nodes)}
        self.owned = self._axes([analysis.tensors.get(name) for name in analysis.parameters])
        self.weights = {node: self._weights(node) for node in nodes}
        self.weighted = {node for node, axes in self.weights.items() if axes}
        self.features = frozenset[Axis]().union(*self.weights.values())
        self.found: dict[str, set[Axis]] = {kind: set() for kind in KINDS}

    def all(self) -> dict[Axis, str]:
        self._declared()
        attention = set(self._attention())
        self._add_inner(attention)
        self._add_residual()
        self._split_heads()
        self._add_ffn()
        known: dict[Axis, str] = {}
        for kind, axes in self.found.items():
            for axis in axes:
                known.setdefault(axis, kind)
        return known

    def _axes(self, value: object) -> frozenset[Axis]:
        return frozenset(axis for dims in tensors_in(value) for dim in dims for axis in axes_of(dim))

    def _weights(self, node: fx.Node) -> frozenset[Axis]:
        """The axes of the weights of a call that sums over products with them, as a linear map does; else none."""
        if node.op == "call_module" and str(node.target) in self.analysis.layers:
            layer = self.analysis.layers[str(node.target)]
            matrices = [name for name, tensor in layer.adapter.tensors().items() if tensor.dim() > 1]
            return self._axes([self.analysis.tensor(f"{layer.path}.{name}".lstrip(".")) for name in matrices])
        if node.op == "call_function" and call_name(node.target) in LAYERS:
            return frozenset[Axis]().union(*(self.axes[one] for one in node.all_input_nodes if self._is_weight(one)))
        return frozenset()

    def _is_weight(self, node: fx.Node) -> bool:
        """Whether a value is a parameter, or a view of one, or rows of it that indices choose."""
        while node.op == "call_function" and call_name(node.target) not in LAYERS:
            made_of = [given for given in node.all_input_nodes if self.axes[given] & self.owned]
            if len(made_of) != 1:
                return False
            node = made_of[0]
        return node.op == "get_attr" and self.analysis.canonical.get(str(node.target)) in self.analysis.parameters

    def _declared(self) -> None:
        """What rules have stated, and what adapters do."""
        stated: list[tuple[str, Dim]] = list(self.analysis.kinds)
        for layer in (*self.analysis.layers.values(), *self.analysis.transparent.values()):
            dims = layer.binding.dims
            stated += [(kind, dims[name]) for name, kind in layer.adapter.kinds.items() if name in dims]
        for kind, dim in stated:
            self.found[kind].update(axes_of(dim))

    def _attention(self) -> Iterator[fx.Node]:
        """Products of activations on both sides of a softmax: heads are in both factors and in what comes out."""
        for node in self.axes:
            if "softmax" not in call_name(node.target):
                continue
            scores = self._products_near(node, lambda node: node.all_input_nodes)
            for product in (*scores, *(self._products_near(node, lambda node: node.users) if scores else ())):
                one, other = (self.axes[factor] for factor in self._multiplied(product))
                heads = one & other & self._batch(product)
                self.found["heads"] |= heads
                self.found["head_width"] |= ((one | other) - heads) & self.features  # rows may be latents, or registers
                yield product

    def _batch(self, product: fx.Node) -> frozenset[Axis]:
        """The axes of a product that none of its rows and columns are made of."""
        result = self.analysis.values[product]
        equation = product.args[0]
        if not isinstance(equation, str):
            return self._axes([Dims(result[:-2])])
        inputs, _, output = equation.replace(" ", "").partition("->")
        both = [all(letter in part for part in inputs.split(",")) for letter in output]
        return self._axes([Dims(dim for dim, in_both in zip(result, both, strict=False) if in_both)])

    def _multiplied(self, node: fx.Node) -> list[fx.Node]:
        """The tensors of which a call is a product; with a parameter among them it is a layer, and none."""
        tensors = [given for given in node.all_input_nodes if tensors_in(self.analysis.values.get(given))]
        if call_name(node.target) not in PRODUCTS or node in self.weighted:
            return []
        return tensors[-2:] if len(tensors) > 1 else tensors * 2  # a bias may stand before; or it is times itself

    def _products_near(self, start: fx.Node, beside: Callable[[fx.Node], Iterable[fx.Node]]) -> list[fx.Node]:
        """The products of activations that calls without parameters lie between."""
        found, seen, waiting = [], {start}, [start]
        while waiting and len(seen) < NEAR:
            for node in beside(waiting.pop(0)):
                if node in seen or node in self.weighted:
                    continue
                seen.add(node)
                if self._multiplied(node):
                    found.append(node)
                else:
                    waiting.append(node)
        return found

    def _add_inner(self, attention: set[fx.Node]) -> None:
        """Axes of other products, of two tensors that weights have made."""
        for node in self.axes:
            factors = self._multiplied(node)
            if not factors or node in attention or not all(map(self._made_by_weights, factors)):
                continue
            self.found["inner"] |= self.axes[factors[0]] | self.axes[factors[1]]

    def _made_by_weights(self, node: fx.Node) -> bool:
        return any(other in self.weighted for other in self._back(node))

    def _back(self, node: fx.Node) -> dict[fx.Node, int]:
        """The calls that a value was made from, the nearest ones: how many layers lie on the longest way from each."""
        depth, waiting = {node: 0}, [(-self.place[node], node)]
        done: dict[fx.Node, int] = {}
        while waiting and len(done) < NEAR:
            _, here = heapq.heappop(waiting)
            done[here] = depth[here]
            for given in here.all_input_nodes:
                if given.op == "get_attr":
                    continue
                if given not in depth:
                    heapq.heappush(waiting, (-self.place[given], given))
                depth[given] = max(depth.get(given, 0), depth[here] + (here in self.weighted))
        return done

    def _add_residual(self) -> None:
        """Sums of two values that were made from one, by different numbers of layers: a way around some of them."""
        tried: Counter[Axis] = Counter()
        for node in self.axes:
            if call_name(node.target) not in ADDS:
                continue
            given = [one for one in node.all_input_nodes if self.axes[one] and not self._is_weight(one)]
            if len(given) < 2:
                continue
            one, other = given[0], given[-1]
            shared = self.features & self.axes[one] & self.axes[other] & self.axes[node] - self.found["residual"]
            shared = frozenset(axis for axis in shared if tried[axis] < TRIED)
            tried.update(shared)
            if shared:
                self.found["residual"] |= shared & self._added(one, other)

    def _added(self, one: fx.Node, other: fx.Node) -> frozenset[Axis]:
        """What layers have made for one of two summands, where the other goes around them; nothing where none does."""
        left, right = self._back(one), self._back(other)
        common = [node for node in left.keys() & right.keys() if node.op != "placeholder"]
        nearest = max(common, key=self.place.__getitem__, default=None)
        if nearest is None or left[nearest] == right[nearest]:
            return frozenset()
        return self._made_last(one if left[nearest] > right[nearest] else other)

    def _made_last(self, node: fx.Node) -> frozenset[Axis]:
        """The axes that the last layers before a value have made, where no product of activations comes after them."""
        made, seen, waiting = frozenset[Axis](), {node}, [node]
        while waiting and len(seen) < NEAR:
            here = waiting.pop(0)
            if here in self.weighted:
                made |= self.axes[here] & self.weights[here]
            elif not self._multiplied(here):
                new = [given for given in here.all_input_nodes if given not in seen and given.op != "get_attr"]
                seen.update(new)
                waiting += new
        return made

    def _split_heads(self) -> None:
        """Heads of keys and values: an axis of all layers whose weights another head axis is in, and of more."""
        heads = self.found["heads"]
        where: dict[Axis, set[fx.Node]] = {axis: set() for axis in heads}
        for node, axes in self.weights.items():
            for axis in axes & heads:
                where[axis].add(node)
        shared = {one for one in heads if any(where[other] and where[other] < where[one] for other in heads)}
        self.found["kv_heads"] |= shared
        heads -= shared

    def _add_ffn(self) -> None:
        """Axes that a layer makes from a residual width, and another one leads back to a residual width."""
        residual = self.found["residual"]
        into, out_of = set[Axis](), set[Axis]()
        for node in self.weighted:
            given = [self.axes[one] for one in node.all_input_nodes if not self._is_weight(one)]
            read = frozenset[Axis]().union(*given) & self.weights[node]
            made = self.axes[node] & self.weights[node]
            if read & residual:
                into |= made - read
            if made & residual:
                out_of |= read - made
        self.found["ffn"] |= into & out_of
