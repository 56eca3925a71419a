"""`check_adapter`: a true declaration passes, a wrong one is named; and all of the library's own are true."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery import Adapter, AxisError, adapter
from surgery.adapters.base import _REGISTRY, registered
from tests.unchanged import unchanged

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def restored_registry() -> Iterator[None]:
    """Declarations made by a test end with it, so that the next one may declare the same layer."""
    known = dict(_REGISTRY)
    yield
    _REGISTRY.clear()
    _REGISTRY.update(known)


class InputFirst(nn.Module):
    """A linear layer whose weight is stored input-first, as in GPT-2."""

    def __init__(self, nx: int = 6, nf: int = 8):
        super().__init__()
        self.nx, self.nf = nx, nf
        self.weight, self.bias = nn.Parameter(torch.randn(nx, nf)), nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return (x.reshape(-1, self.nx) @ self.weight + self.bias).view(*x.shape[:-1], self.nf)


class Heads(nn.Module):
    """Scales and shifts 2 heads of 3 features, head by head."""

    def __init__(self, heads: int = 2, width: int = 3):
        super().__init__()
        self.heads, self.width = heads, width
        self.weight = nn.Parameter(torch.randn(heads * width))
        self.gain = nn.Parameter(torch.randn(heads))

    def forward(self, x):
        return ((x * self.weight).unflatten(-1, (self.heads, self.width)) * self.gain[:, None]).flatten(-2)


class ChannelsLast(nn.Module):
    """(b, t, c) to (b, o): flattened with the channels as the minor part."""

    def __init__(self, channels: int = 4, time: int = 3, out: int = 5):
        super().__init__()
        self.channels, self.time = channels, time
        self.weight = nn.Parameter(torch.randn(out, time * channels))

    def forward(self, x):
        return x.reshape(x.shape[0], self.time * self.channels) @ self.weight.t()


def declare(layer: type, **members: Any) -> None:
    adapter(layer)(type("Declared", (Adapter,), members))


RIGHT: list[tuple[type, tuple[int, ...], dict, list[str]]] = [
    (
        InputFirst,
        (5, 6),
        dict(axes="... i -> ... o", params={"weight": "i o", "bias": "o"}, sizes={"i": "nx", "o": "nf"}),
        ["i", "o"],
    ),
    (
        Heads,
        (5, 6),
        dict(
            axes="... (h d) -> ... (h d)", params={"weight": "(h d)", "gain": "h"}, sizes={"h": "heads", "d": "width"}
        ),
        ["h", "d"],
    ),
    (
        ChannelsLast,
        (2, 3, 4),
        dict(axes="b ~t c -> b o", params={"weight": "o (~t c)"}, sizes={"c": "channels", "t": "time"}),
        ["o", "c"],
    ),
]


@pytest.mark.parametrize(("layer", "shape", "members", "tried"), RIGHT)
def test_a_true_declaration_passes(layer: type, shape: tuple, members: dict, tried: list[str]) -> None:
    declare(layer, **members)
    module, inputs = layer(), torch.randn(shape)
    with unchanged(module):
        assert set(surgery.check_adapter(module, inputs)) == set(tried)


def test_a_declared_layer_is_elastic_in_a_model() -> None:
    @adapter(InputFirst)
    class InputFirstAdapter(Adapter):
        """y = x W + b, the weight stored input-first."""

        axes = "... i -> ... o"
        params = {"weight": "i o", "bias": "o"}
        sizes = {"i": "nx", "o": "nf"}
        macs = ("output", "weight")
        scale = ("weight", "bias")

    model = nn.Sequential(InputFirst(6, 8), nn.ReLU(), InputFirst(8, 3)).double()
    wrapped = surgery.wrap(model, X.double(), draw=surgery.paper(p=1.0, rescale=True))
    assert surgery.widths(wrapped) == {"0.o": 8}
    small = surgery.shrink(wrapped, 0.5)
    assert (small[0].nf, small[2].nx, small[2].weight.shape) == (4, 4, (4, 3))
    assert surgery.cost(wrapped, 0.5).macs == 5 * (6 * 4 + 4 * 3)
    surgery.reorder(wrapped, {"0.o": [7, 6, 5, 4, 3, 2, 1, 0]})


GOOD = {layer: members for layer, _, members, _ in RIGHT}
WRONG: list[tuple[str, type, tuple[int, ...], dict, str]] = [
    ("swapped pattern", InputFirst, (5, 6), dict(params={"weight": "o i", "bias": "o"}),
     r"Declared: .*weight \[6, 8\] does not fit its pattern 'o i'; sizes says \{'i': 6, 'o': 8\}"),
    ("swapped pattern of a square layer", InputFirst, (5, 8), dict(params={"weight": "o i", "bias": "o"}),
     r"permuting '[io]' .*axes '\.\.\. i -> \.\.\. o' and params .*'weight': 'o i'.* does not permute the output"),
    ("missing size", InputFirst, (5, 6), dict(sizes={"o": "nf"}),
     r"cut to 3 of 6 units of 'i', the layer does not run \(RuntimeError.* is missing in sizes \{'o': 'nf'\}"),
    ("missing size of the output", InputFirst, (5, 6), dict(sizes={"i": "nx"}),
     r"cut to 4 of 8 units of 'o', the layer does not run \(RuntimeError.* is missing in sizes \{'i': 'nx'\}"),
    ("swapped attributes", InputFirst, (5, 6), dict(sizes={"i": "nf", "o": "nx"}),
     r"Declared: .*weight \[6, 8\] does not fit its pattern 'i o'; sizes says \{'i': 8, 'o': 6\}"),
    ("no such attribute", InputFirst, (5, 6), dict(sizes={"i": "nx", "o": "n_out"}),
     "Declared: sizes names 'n_out', which cannot be read: .*has no attribute 'n_out'"),
    ("attribute of another width", InputFirst, (5, 6), dict(sizes={"i": "nx", "o": "nx"}),
     r"Declared: .*weight \[6, 8\] does not fit its pattern 'i o'; sizes says \{'i': 6, 'o': 6\}"),
    ("no pattern for a parameter", InputFirst, (5, 6), dict(params={"weight": "i o"}),
     r"Declared: parameter 'bias' \[8\] has no pattern in params"),
    ("pattern of another rank", InputFirst, (5, 6), dict(params={"weight": "i o", "bias": "i o"}),
     r"Declared: .*bias \[8\] does not fit its pattern 'i o'.*1 dimensions does not fit 2 terms"),
    ("order in a product", Heads, (5, 6), dict(params={"weight": "(d h)", "gain": "h"}, axes="... (d h) -> ... (d h)"),
     r"permuting '[hd]'.*'\.\.\. \(d h\) -> \.\.\. \(d h\)'.* in the wrong order within a product"),
    ("order in one product only", Heads, (5, 6), dict(params={"weight": "(d h)", "gain": "h"}),
     r"permuting 'd' .*'\.\.\. \(h d\) -> \.\.\. \(h d\)'.*'weight': '\(d h\)'.* in the wrong order within a product"),
    ("channels first", ChannelsLast, (2, 3, 4), dict(params={"weight": "o (c ~t)"}),
     r"permuting 'c' .*does not permute the output alike.* in the wrong order within a product"),
    ("positions as features", ChannelsLast, (2, 3, 4), dict(axes="b c ~t -> b o", sizes={"c": "time", "t": "channels"}),
     r"permuting 'c' .*'b c ~t -> b o'.* A pattern has 'c' at the wrong place"),
    ("output that does not fit", InputFirst, (5, 6), dict(axes="... i -> ... i"), r"Declared: .*rule.*\[5, 8\]"),
    ("too many inputs", InputFirst, (5, 6), dict(axes="... i, ... i -> ... o"), "takes 2 tensors, got 1"),
    ("nothing free", InputFirst, (5, 6), dict(axes="... ~i -> ... ~o", params={"weight": "~i ~o", "bias": "~o"}),
     "every axis of '... ~i -> ... ~o' is fixed; nothing can be cut"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "shape", "members", "message"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_a_wrong_declaration_is_named(layer: type, shape: tuple, members: dict, message: str) -> None:
    declare(layer, **{**GOOD[layer], **members})
    module, inputs = layer(8, 8) if shape == (5, 8) else layer(), torch.randn(shape)
    with unchanged(module), pytest.raises(AxisError, match=message):
        surgery.check_adapter(module, inputs)


LINEAR = dict(macs=("output", "weight"), scale=("weight", "bias"))
UNTRUE: list[tuple[str, type, tuple[int, ...], dict, str]] = [
    ("macs of the bias", InputFirst, (5, 6), dict(macs=("output", "bias")),
     r"Declared: at full width, macs \('output', 'bias'\) says 40 multiply-adds, torch counts 240"),
    ("macs that count an axis twice", ChannelsLast, (2, 3, 4), dict(macs=("input", "weight")),
     r"macs \('input', 'weight'\) says \d+ multiply-adds, torch counts \d+\. .*the elements of that tensor"),
    ("scale without the bias", InputFirst, (5, 6), dict(scale=("weight",)),
     r"Declared: scale says that the output is linear in weight, but multiplying them by 3\.0 does not multiply it"),
    ("scale of two factors", Heads, (5, 6), dict(scale=("weight", "gain")),
     r"Declared: scale says that the output is linear in weight, gain, .*none that does not"),
    ("scale of nothing", InputFirst, (5, 6), dict(scale=("weight", "gain")),
     "Declared: scale names 'gain', which has no pattern in params"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layer", "shape", "members", "message"), [row[1:] for row in UNTRUE], ids=[row[0] for row in UNTRUE]
)
def test_untrue_macs_and_scales_are_named(layer: type, shape: tuple, members: dict, message: str) -> None:
    declare(layer, **{**GOOD[layer], **members})
    module, inputs = layer(), torch.randn(shape)
    with unchanged(module), pytest.raises(AxisError, match=message):
        surgery.check_adapter(module, inputs)


@pytest.mark.parametrize("members", [LINEAR, dict(scale=("weight", "bias")), dict(macs=("output", "weight"))])
def test_true_macs_and_scales_pass(members: dict) -> None:
    declare(InputFirst, **GOOD[InputFirst], **members)
    assert surgery.check_adapter(InputFirst(), surgery.batches([X, torch.randn(2, 3, 6)])) == ["i", "o"]


def test_untrue_multiply_adds_of_a_call_are_named() -> None:
    class Twice(Adapter):
        axes, params, sizes = "... i -> ... o", {"weight": "i o", "bias": "o"}, {"i": "nx", "o": "nf"}

        def call(self, call: surgery.LayerCall) -> Any:
            result = super().call(call)
            for _ in range(2):
                call.multiply(*result, call.binding.dims["i"])
            return result

    adapter(InputFirst)(Twice)
    with pytest.raises(AxisError, match=r"Twice: .* call\.multiply says 480 multiply-adds, torch counts 240"):
        surgery.check_adapter(InputFirst(), X)


def test_multiply_adds_that_torch_does_not_see_are_believed() -> None:
    class Matrix(nn.Module):
        """A product of a matrix and a vector, which torch's counter leaves out."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 6))

        def forward(self, x):
            return torch.mv(self.weight, x)

    declare(Matrix, axes="i -> o", params={"weight": "o i"}, macs=("output", "weight"), scale=("weight",))
    assert surgery.check_adapter(Matrix(), torch.randn(6)) == ["o", "i"]


REFUSED: list[tuple[dict, str]] = [
    (dict(), "Declared declares no axes: write for example axes = '... i -> ... o'"),
    (dict(axes="... i"), "a signature has exactly one '->'"),
    (dict(axes="... i -> (o"), r"'\(' is never closed:\n  (... i -> )?\(o|is never closed"),
    (dict(axes="i -> o", params={"weight": "o @ i"}), r"is no part of a pattern:\n  o @ i\n   "),
    (dict(axes="... i ... -> o"), "stands more than once in one tensor"),
]


@pytest.mark.parametrize(("members", "message"), REFUSED)
def test_a_declaration_that_cannot_be_read_is_refused(members: dict, message: str) -> None:
    before = registered()
    with pytest.raises(AxisError, match=message):
        declare(InputFirst, **members)
    assert registered() == before


def test_a_second_declaration_is_refused() -> None:
    with pytest.raises(AxisError, match="Linear has an adapter already: LinearAdapter"):
        declare(nn.Linear, axes="... i -> ... o")
    with pytest.raises(AxisError, match="Linear has an adapter already"):
        adapter(InputFirst, nn.Linear)(type("Declared", (Adapter,), {"axes": "... i -> ... o"}))
    assert InputFirst not in registered(), "all of a declaration is refused, or nothing"


def test_a_layer_without_an_adapter_is_named() -> None:
    with pytest.raises(
        AxisError, match=r"InputFirst has no adapter: decorate one with @surgery\.adapter\(InputFirst\)"
    ):
        surgery.check_adapter(InputFirst(), X)


# --- the library's own ---

# B batch, T time, C channels
B, T, C = 3, 7, 12
IDS = torch.arange(B * T).view(B, T) % 9


def x(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def packed(layer: nn.Module) -> tuple:
    return (nn.utils.rnn.pack_padded_sequence(x(T, B, 6), [7, 5, 2]),)


LAYERS: list[tuple[str, Callable[[], nn.Module], Any, str]] = [
    ("Linear", lambda: nn.Linear(6, 8), x(B, 6), "i o"),
    ("Linear, no bias, 1-D", lambda: nn.Linear(6, 8, bias=False), x(6), "i o"),
    ("Linear, 4-D", lambda: nn.Linear(6, 8), x(B, T, 2, 6), "i o"),
    ("Bilinear", lambda: nn.Bilinear(6, 4, 8), (x(B, T, 6), x(B, T, 4)), "i j o"),
    ("Conv1d", lambda: nn.Conv1d(6, 8, 3, padding=1), x(B, 6, T), "i o"),
    ("Conv2d", lambda: nn.Conv2d(6, 8, (3, 2), stride=2, bias=False), x(B, 6, 9, 8), "i o"),
    ("Conv2d, point", lambda: nn.Conv2d(6, 8, 1), x(B, 6, 4, 5), "i o"),
    ("Conv2d, reflect", lambda: nn.Conv2d(6, 8, 3, padding=1, padding_mode="reflect"), x(B, 6, 4, 5), "i o"),
    ("Conv2d, same", lambda: nn.Conv2d(6, 8, 3, padding="same", dilation=2), x(B, 6, 6, 5), "i o"),
    ("Conv3d", lambda: nn.Conv3d(4, 6, 2), x(B, 4, 3, 4, 3), "i o"),
    ("Conv2d, grouped", lambda: nn.Conv2d(6, 9, 3, groups=3), x(B, 6, 5, 5), "g i o"),
    ("Conv1d, depthwise", lambda: nn.Conv1d(6, 6, 3, groups=6), x(B, 6, T), "g"),
    ("Conv2d, depthwise with a multiplier", lambda: nn.Conv2d(6, 12, 3, groups=6), x(B, 6, 5, 5), "g o"),
    ("ConvTranspose1d", lambda: nn.ConvTranspose1d(6, 8, 3, stride=2), x(B, 6, T), "i o"),
    ("ConvTranspose2d, grouped", lambda: nn.ConvTranspose2d(6, 9, 3, groups=3), x(B, 6, 4, 4), "g i o"),
    ("ConvTranspose3d", lambda: nn.ConvTranspose3d(4, 6, 2), x(B, 4, 3, 2, 3), "i o"),
    ("BatchNorm1d", lambda: nn.BatchNorm1d(C), x(B, C), "c"),
    ("BatchNorm1d, 3-D", lambda: nn.BatchNorm1d(C), x(B, C, T), "c"),
    ("BatchNorm2d, no statistics", lambda: nn.BatchNorm2d(C, track_running_stats=False), x(B, C, 3, 4), "c"),
    ("BatchNorm3d", lambda: nn.BatchNorm3d(C), x(B, C, 2, 3, 2), "c"),
    ("SyncBatchNorm", lambda: nn.SyncBatchNorm(C), x(B, C, 2, 3), "c"),
    ("InstanceNorm1d", lambda: nn.InstanceNorm1d(C, affine=True, track_running_stats=True), x(B, C, T), "c"),
    ("InstanceNorm2d", lambda: nn.InstanceNorm2d(C, affine=True), x(B, C, 3, 4), "c"),
    ("GroupNorm", lambda: nn.GroupNorm(3, C), x(B, C, 4, 5), "g c"),
    ("GroupNorm, groups of one", lambda: nn.GroupNorm(C, C), x(B, C, 4), "g"),
    ("PReLU", lambda: nn.PReLU(C, init=0.1), x(B, C, 4), "c"),
    ("LayerNorm", lambda: nn.LayerNorm(C), x(B, T, C), "c"),
    ("LayerNorm, no bias", lambda: nn.LayerNorm(C, bias=False), x(B, C), "c"),
    ("LayerNorm, 2 dims", lambda: nn.LayerNorm((4, 6)), x(B, 4, 6), "c0 c1"),
    ("RMSNorm", lambda: nn.RMSNorm(C), x(B, T, C), "c"),
    ("RMSNorm, 2 dims", lambda: nn.RMSNorm((4, 6), eps=1e-5), x(B, 4, 6), "c0 c1"),
    ("Embedding", lambda: nn.Embedding(9, C, padding_idx=0), IDS, "d"),
    ("EmbeddingBag", lambda: nn.EmbeddingBag(9, C, mode="sum"), IDS, "d"),
    ("EmbeddingBag, offsets", lambda: nn.EmbeddingBag(9, C), (IDS.flatten(), torch.tensor([0, 4, 9])), "d"),
    ("EmbeddingBag, max", lambda: nn.EmbeddingBag(9, C, mode="max"), IDS, "d"),
    ("EmbeddingBag, weighted", lambda: nn.EmbeddingBag(9, C, mode="sum"),
     surgery.inputs(IDS, per_sample_weights=x(B, T)), "d"),
    ("MHA", lambda: nn.MultiheadAttention(C, 3), (x(T, B, C),) * 3, "e h d"),
    ("MHA, batch_first", lambda: nn.MultiheadAttention(C, 3, batch_first=True), (x(B, T, C),) * 3, "e h d"),
    ("MHA, unbatched", lambda: nn.MultiheadAttention(C, 3), (x(T, C),) * 3, "e h d"),
    ("MHA, no bias", lambda: nn.MultiheadAttention(C, 3, bias=False), (x(T, B, C),) * 3, "e h d"),
    ("MHA, bias_k", lambda: nn.MultiheadAttention(C, 3, add_bias_kv=True), (x(T, B, C),) * 3, "e h d"),
    ("MHA, add_zero_attn", lambda: nn.MultiheadAttention(C, 3, add_zero_attn=True), (x(T, B, C),) * 3, "e h d"),
    ("MHA, kdim and vdim", lambda: nn.MultiheadAttention(C, 3, kdim=8, vdim=10),
     (x(4, B, C), x(T, B, 8), x(T, B, 10)), "e h d k v"),
    ("MHA, cross", lambda: nn.MultiheadAttention(C, 3, batch_first=True), (x(B, 4, C), *[x(B, T, C)] * 2), "e h d"),
    ("MHA, no weights", lambda: nn.MultiheadAttention(C, 3),
     surgery.inputs(*[x(T, B, C)] * 3, need_weights=False), "e h d"),
    ("MHA, weights per head", lambda: nn.MultiheadAttention(C, 3),
     surgery.inputs(*[x(T, B, C)] * 3, average_attn_weights=False), "e h d"),
    ("MHA, masks", lambda: nn.MultiheadAttention(C, 3, batch_first=True),
     surgery.inputs(*[x(B, T, C)] * 3, key_padding_mask=IDS > 7, attn_mask=torch.ones(T, T).triu(1).bool()), "e h d"),
    ("MHA, a mask per head", lambda: nn.MultiheadAttention(C, 3),
     surgery.inputs(*[x(T, B, C)] * 3, attn_mask=x(B * 3, T, T)), "e d"),
    ("LSTM", lambda: nn.LSTM(6, 8), x(T, B, 6), "i h"),
    ("LSTM, 2 layers, both ways", lambda: nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True), x(B, T, 6), "i h"),
    ("LSTM, no bias", lambda: nn.LSTM(6, 8, bias=False), x(T, B, 6), "i h"),
    ("LSTM, states", lambda: nn.LSTM(6, 8), (x(T, B, 6), (x(1, B, 8), x(1, B, 8))), "i h"),
    ("LSTM, unbatched", lambda: nn.LSTM(6, 8), x(T, 6), "i h"),
    ("LSTM, proj_size", lambda: nn.LSTM(6, 8, 2, proj_size=4), x(T, B, 6), "i"),
    ("GRU", lambda: nn.GRU(6, 8, 2), x(T, B, 6), "i h"),
    ("GRU, both ways, state", lambda: nn.GRU(6, 8, bidirectional=True), (x(T, B, 6), x(2, B, 8)), "i h"),
    ("RNN, relu", lambda: nn.RNN(6, 8, nonlinearity="relu"), x(T, B, 6), "i h"),
    ("LSTMCell", lambda: nn.LSTMCell(6, 8), x(B, 6), "i h"),
    ("LSTMCell, states", lambda: nn.LSTMCell(6, 8), (x(B, 6), (x(B, 8), x(B, 8))), "i h"),
    ("GRUCell, state", lambda: nn.GRUCell(6, 8), (x(B, 6), x(B, 8)), "i h"),
    ("RNNCell", lambda: nn.RNNCell(6, 8, bias=False), x(B, 6), "i h"),
]  # fmt: skip


def randomised(layer: nn.Module) -> nn.Module:
    """Every parameter and running statistic drawn anew, so that zeros and ones hide nothing."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*layer.parameters(), *(b for b in layer.buffers() if b.is_floating_point())):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            if tensor.dim() > 1:
                tensor.sub_(1)
    return layer


@pytest.mark.parametrize(("make", "inputs", "axes"), [row[1:] for row in LAYERS], ids=[row[0] for row in LAYERS])
def test_the_declarations_of_the_library_are_true(make: Callable, inputs: Any, axes: str) -> None:
    layer = randomised(make())
    with unchanged(layer):
        assert set(surgery.check_adapter(layer, inputs)) == set(axes.split())


def test_every_adapter_of_the_library_is_tried() -> None:
    # made by torch or by shrink in place of the layers that the table has
    others = {nn.modules.linear.NonDynamicallyQuantizableLinear, surgery.MultiheadAttention, nn.InstanceNorm3d}
    tried = {type(make()) for _, make, *_ in LAYERS}
    assert set(registered()) - others == tried


class ComplexMatrix(nn.Module):
    """y = x Wᵀ in complex numbers; with a bias and a real gain if asked."""

    def __init__(self, bias: bool = False, gain: bool = False, dtype: torch.dtype = torch.cfloat):
        super().__init__()
        self.in_features, self.out_features = 6, 8
        self.weight = nn.Parameter(torch.randn(8, 6, dtype=dtype))
        self.bias = nn.Parameter(torch.randn(8, dtype=dtype)) if bias else None
        self.gain = nn.Parameter(torch.rand(8, dtype=self.weight.real.dtype)) if gain else None

    def forward(self, x):
        y = x @ self.weight.T
        y = y if self.bias is None else y + self.bias
        return y if self.gain is None else y * self.gain


@pytest.mark.parametrize("dtype", [torch.cfloat, torch.cdouble])
@pytest.mark.parametrize("options", [{}, {"bias": True}, {"bias": True, "gain": True}], ids=str)
def test_complex_weights_can_be_declared(options: dict[str, bool], dtype: torch.dtype) -> None:
    @adapter(ComplexMatrix)
    class ComplexMatrixAdapter(Adapter):
        """y = x Wᵀ."""

        axes = "... i -> ... o"
        params = {"weight": "o i"} | {name: "o" for name in options}
        sizes = {"i": "in_features", "o": "out_features"}

    generator = torch.Generator().manual_seed(0)
    surgery.check_adapter(ComplexMatrix(**options, dtype=dtype), torch.randn(4, 6, dtype=dtype, generator=generator))
