"""Recurrent layers: one hidden width over all layers and directions."""

from collections.abc import Sequence

from torch import nn

from surgery.adapters.base import Adapter, LayerCall, Made, adapter
from surgery.adapters.stack import Stack
from surgery.axes.algebra import Dim, Dims, concat, fresh, pin, unify
from surgery.nested import fold

GATES = {nn.LSTM: 4, nn.GRU: 3, nn.RNN: 1}
CELL_GATES = {nn.LSTMCell: 4, nn.GRUCell: 3, nn.RNNCell: 1}


@adapter(*GATES)
class RecurrentAdapter(Adapter):
    """Gates are stacked in the rows of each weight, `(gate h)`; directions side by side in the output, `(dir h)`.

    A packed sequence is the tuple of its data and its bookkeeping. With `proj_size` the hidden width is pinned.
    """

    axes = "... i -> ... h"
    sizes = {"i": "input_size", "h": "hidden_size"}

    @property
    def directions(self) -> int:
        return 2 if self.module.bidirectional else 1

    @property
    def params(self) -> dict[str, str]:  # type: ignore[override]
        lstm = self.module
        rows = f"({_gates(lstm)} h)"
        fed_back = "p" if lstm.proj_size else "h"
        patterns = {}
        for layer in range(lstm.num_layers):
            for suffix in ("", "_reverse")[: self.directions]:
                name = f"l{layer}{suffix}"
                patterns[f"weight_ih_{name}"] = f"{rows} {f'({self.directions} {fed_back})' if layer else 'i'}"
                patterns[f"weight_hh_{name}"] = f"{rows} {fed_back}"
                if lstm.bias:
                    patterns[f"bias_ih_{name}"] = patterns[f"bias_hh_{name}"] = rows
                if lstm.proj_size:
                    patterns[f"weight_hr_{name}"] = "p h"
        return patterns

    @property
    def stack(self) -> Stack | None:
        """The layers; the first reads the input, all others what the one before has made."""
        held, layers = vars(self.module), range(self.module.num_layers)
        tensors = tuple(tuple(name for name in self.params if _layer(name) == layer) for layer in layers)
        entries = tuple(name for name in ("_flat_weights", "_flat_weight_refs") if held.get(name))
        return Stack("num_layers", tensors, entries, ("_flat_weights_names", "_all_weights"))

    def known_sizes(self) -> dict[str, int]:
        return super().known_sizes() | {"p": self.module.proj_size}

    def call(self, call: LayerCall) -> Made:
        x, *states = [*call.inputs, *call.keywords.values()]
        data: Dims = x if isinstance(x, Dims) else x[0]
        i, h, where = call.binding.dims["i"], call.binding.dims["h"], call.binding.where
        out = call.binding.dims["p"] if self.module.proj_size else h
        if self.module.proj_size:
            pin(h, f"proj_size at {where}")
            pin(out, f"proj_size at {where}")
        unify(i, data[-1], where)
        for dim in data[:-1]:
            pin(dim, f"batch and time steps at {where}")
        for given, width in zip(fold(states, Dims), (out, h), strict=False):
            unify(given[-1], width, where)
            for dim in given[:-1]:
                pin(dim, f"layers, directions and batch of a state at {where}")
        self._count(call, data, i, h, out)
        made = Dims((*data[:-1], concat([out] * self.directions)))
        result = made if isinstance(x, Dims) else [made, *x[1:]]
        shapes = call.shapes[1]
        if isinstance(self.module, nn.LSTM):
            return [result, [_state(shape, width) for shape, width in zip(shapes, (out, h), strict=True)]]
        return [result, _state(shapes, h)]

    def _count(self, call: LayerCall, data: Dims, i: Dim, h: Dim, out: Dim) -> None:
        gates, both = fresh(_gates(self.module), "gates"), fresh(self.directions, "directions")
        for layer in range(self.module.num_layers):
            call.multiply(*data[:-1], both, gates, h, (both + out) if layer else i, layer=layer)
            call.multiply(*data[:-1], both, gates, h, out, layer=layer)
            if self.module.proj_size:
                call.multiply(*data[:-1], both, h, out, layer=layer)


def _layer(name: str) -> int:
    """The layer that a weight is of: `weight_ih_l1_reverse`."""
    return int(name.removesuffix("_reverse").rpartition("_l")[2])


def _gates(module: nn.Module) -> int:
    return next(gates for layer, gates in (GATES | CELL_GATES).items() if isinstance(module, layer))


def _state(shape: Sequence[int], width: Dim) -> Dims:
    return Dims((*(fresh(n, "layers and batch") for n in shape[:-1]), width))


@adapter(*CELL_GATES)
class CellAdapter(Adapter):
    """One time step: the gates are stacked in the rows of each weight."""

    axes = "b i -> b h"
    sizes = {"i": "input_size", "h": "hidden_size"}

    @property
    def params(self) -> dict[str, str]:  # type: ignore[override]
        rows = f"({_gates(self.module)} h)"
        return {"weight_ih": f"{rows} i", "weight_hh": f"{rows} h", "bias_ih": rows, "bias_hh": rows}

    def call(self, call: LayerCall) -> Made:
        x, *states = fold((call.inputs, call.keywords), Dims)
        i, h = call.binding.dims["i"], call.binding.dims["h"]
        unify(i, x[-1], call.binding.where)
        for given in states:
            unify(given[-1], h, call.binding.where)
            for a, b in zip(x[:-1], given[:-1], strict=True):
                unify(a, b, call.binding.where)
        gates = fresh(_gates(self.module), "gates")
        call.multiply(*x[:-1], gates, h, i)
        call.multiply(*x[:-1], gates, h, h)
        made = Dims((*x[:-1], h))
        return [made, made] if isinstance(call.shapes, list) else made
