"""Normalisations and per-channel activations."""

from torch import nn

from surgery.adapters.base import Adapter, LayerCall, Made, adapter


@adapter(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
class BatchNormAdapter(Adapter):
    """Every channel is normalised by itself; running statistics are cut with it."""

    axes = "b c ... -> b c ..."
    params = {"weight": "c", "bias": "c", "running_mean": "c", "running_var": "c"}
    sizes = {"c": "num_features"}
    scale = ("weight", "bias")

    def call(self, call: LayerCall) -> Made:
        x = call.inputs[0]
        call.at_least_two(x[0], *x[2:])  # the batch statistics of one value are an error
        return super().call(call)


@adapter(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
class InstanceNormAdapter(BatchNormAdapter):
    """The same, over the positions of one sample. Inputs without a batch dimension are not described here."""

    def call(self, call: LayerCall) -> Made:
        if len(call.inputs[0]) == self.module._get_no_batch_dim():
            raise NotImplementedError("an input without a batch dimension")
        call.at_least_two(*call.inputs[0][2:])
        return super().call(call)


class _LastDims(Adapter):
    """Normalises over the last dimensions, as many as `normalized_shape` has."""

    @property
    def _names(self) -> str:
        shape = self.module.normalized_shape
        return " ".join(f"c{i}" for i in range(len(shape))) if len(shape) > 1 else "c"

    @property
    def axes(self) -> str:  # type: ignore[override]
        return f"... {self._names} -> ... {self._names}"

    @property
    def params(self) -> dict[str, str]:  # type: ignore[override]
        return {name: self._names for name in ("weight", "bias") if hasattr(self.module, name)}

    @property
    def sizes(self) -> dict[str, str]:  # type: ignore[override]
        return {name: f"normalized_shape[{i}]" for i, name in enumerate(self._names.split())}


@adapter(nn.LayerNorm, nn.RMSNorm)
class LayerNormAdapter(_LastDims):
    """(x - mean) / sd · weight + bias, over the features that are kept."""


@adapter(nn.GroupNorm)
class GroupNormAdapter(Adapter):
    """Channels are `(g c)`: the groups, and the channels within one."""

    axes = "b (g c) ... -> b (g c) ..."
    params = {"weight": "(g c)", "bias": "(g c)"}
    sizes = {"g": "num_groups", "(g c)": "num_channels"}

    def call(self, call: LayerCall) -> Made:
        result, x = super().call(call), call.inputs[0]
        call.at_least_two(x[0], call.binding.dims["c"], *x[2:])
        return result


@adapter(nn.PReLU)
class PReLUAdapter(Adapter):
    """max(0, x) + weight · min(0, x), with one slope or one per channel."""

    @property
    def axes(self) -> str:  # type: ignore[override]
        return "b c ... -> b c ..." if self.module.num_parameters != 1 else "... -> ..."

    @property
    def params(self) -> dict[str, str]:  # type: ignore[override]
        return {"weight": "c" if self.module.num_parameters != 1 else "1"}

    @property
    def sizes(self) -> dict[str, str]:  # type: ignore[override]
        return {"c": "num_parameters"} if self.module.num_parameters != 1 else {}
