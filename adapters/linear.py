"""Layers that are linear in their input."""

from torch import nn

from surgery.adapters.base import Adapter, adapter


@adapter(nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
class LinearAdapter(Adapter):
    """y = x Wᵀ + b."""

    axes = "... i -> ... o"
    params = {"weight": "o i", "bias": "o"}
    sizes = {"i": "in_features", "o": "out_features"}
    macs = ("output", "weight")
    scale = ("weight", "bias")


@adapter(nn.Bilinear)
class BilinearAdapter(Adapter):
    """y = x₁ᵀ W x₂ + b."""

    axes = "... i, ... j -> ... o"
    params = {"weight": "o i j", "bias": "o"}
    sizes = {"i": "in1_features", "j": "in2_features", "o": "out_features"}
    macs = ("output", "weight")
    scale = ("weight", "bias")
