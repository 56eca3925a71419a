"""Convolutions. Grouped ones have channels `(g i)`: the groups, and the channels within one."""

from torch import nn

from surgery.adapters.base import Adapter, LayerCall, Made, adapter


class _Convolution(Adapter):
    """Torch takes inputs without a batch dimension too; they are not described here."""

    @property
    def kinds(self) -> dict[str, str]:  # type: ignore[override]
        """A depthwise convolution treats each feature by itself: it does not tell what they are."""
        depthwise = self.module.in_channels == self.module.out_channels == self.module.groups
        return {} if depthwise else dict.fromkeys("gio", "channels")

    def call(self, call: LayerCall) -> Made:
        for x in call.inputs[:1] or call.keywords.values():
            if len(x) != len(self.module.kernel_size) + 2:
                raise NotImplementedError("an input without a batch dimension")
        return super().call(call)


@adapter(nn.Conv1d, nn.Conv2d, nn.Conv3d)
class ConvAdapter(_Convolution):
    """Runs along positions, unless the kernel is a single point: then positions carry over one by one."""

    params = {"weight": "(g o) i ~...", "bias": "(g o)"}
    sizes = {"g": "groups", "(g i)": "in_channels", "(g o)": "out_channels"}
    macs = ("output", "weight")
    scale = ("weight", "bias")

    @property
    def axes(self) -> str:  # type: ignore[override]
        conv = self.module
        point = all(k == 1 for k in conv.kernel_size) and all(s == 1 for s in conv.stride)
        padded = conv.padding not in ("same", "valid") and any(conv.padding)
        return "b (g i) ... -> b (g o) ..." if point and not padded else "b (g i) ~... -> b (g o) ~..."


@adapter(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
class ConvTransposeAdapter(_Convolution):
    """The weight is stored input-first."""

    axes = "b (g i) ~... -> b (g o) ~..."
    params = {"weight": "(g i) o ~...", "bias": "(g o)"}
    sizes = {"g": "groups", "(g i)": "in_channels", "(g o)": "out_channels"}
    macs = ("input", "weight")
    scale = ("weight", "bias")
