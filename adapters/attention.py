"""`nn.MultiheadAttention`: heads, head width, and the widths of query, key and value are axes of their own.

Also what torch's transformer decides by the attention in it.
"""

from collections.abc import Mapping

from torch import nn

from surgery.adapters.base import Adapter, LayerCall, Made, adapter, decides
from surgery.adapters.plain_attention import MultiheadAttention
from surgery.axes.algebra import Dim, Dims, concat, pin, unify
from surgery.axes.signature import broadcast


@adapter(nn.MultiheadAttention, MultiheadAttention)
class MultiheadAttentionAdapter(Adapter):
    """Packed projections are `(3 h d) e`; separate ones have a width each for key (k) and value (v)."""

    axes = "... e -> ... e"
    kinds = {"h": "heads", "d": "head_width"}

    @property
    def _packed(self) -> bool:
        return self.module.in_proj_weight is not None

    @property
    def params(self) -> dict[str, str]:  # type: ignore[override]
        patterns = {"in_proj_bias": "(3 h d)", "out_proj.weight": "e (h d)", "out_proj.bias": "e"}
        if self._packed:
            patterns["in_proj_weight"] = "(3 h d) e"
        else:
            names = {"q_proj_weight": "e", "k_proj_weight": "k", "v_proj_weight": "v"}
            patterns |= {name: f"(h d) {width}" for name, width in names.items()}
        return patterns | {"bias_k": "1 1 (h d)", "bias_v": "1 1 (h d)"}

    @property
    def sizes(self) -> dict[str, list[str]]:  # type: ignore[override]
        key, value = ("e", "e") if self._packed else ("k", "v")
        sizes: dict[str, list[str]] = {"h": ["num_heads"], "d": ["head_dim"], "(h d)": ["out_proj.in_features"]}
        sizes["e"] = ["embed_dim", "out_proj.out_features"]
        sizes.setdefault(key, []).append("kdim")
        sizes.setdefault(value, []).append("vdim")
        return sizes

    def expresses(self, widths: Mapping[str, int]) -> bool:
        return widths["h"] * widths["d"] == widths["e"]

    @property
    def replacement(self) -> type[nn.Module]:
        return MultiheadAttention

    def call(self, call: LayerCall) -> Made:
        given = dict(
            zip(("query", "key", "value", "key_padding_mask", "need_weights", "attn_mask"), call.inputs, strict=False)
        )
        given |= call.keywords
        query, key, value = given["query"], given["key"], given["value"]
        h, d, e = (call.binding.dims[name] for name in "hde")
        k, v = (e, e) if self._packed else (call.binding.dims["k"], call.binding.dims["v"])
        where = call.binding.where
        for x, width in ((query, e), (key, k), (value, v)):
            unify(x[-1], width, where)
        time = 0 if len(query) == 2 or not self.module.batch_first else 1
        t, s = query[time], unify(key[time], value[time], where)
        batch = list(broadcast([x[1 - time : 2 - time] if len(x) == 3 else [] for x in (query, key, value)], where))
        mask = given.get("attn_mask")
        if isinstance(mask, Dims) and len(mask) == 3:  # one mask for each sample and head
            unify(mask[0], tuple(factor for dim in (*batch, h) for factor in dim), where)
        for each in (mask, given.get("key_padding_mask")):
            for dim in each if isinstance(each, Dims) else ():
                pin(dim, f"a mask of {where}")
        appended = (self.module.bias_k is not None) + bool(self.module.add_zero_attn)
        seen = concat([s, *[()] * appended])
        self._count(call, batch, t, s, seen, h, d, e, k, v)
        output = Dims((*query[:-1], e))
        if call.shapes[1] is None:
            return [output, None]
        heads = [h] if len(call.shapes[1]) == len(batch) + 3 else []
        return [output, Dims((*batch, *heads, t, seen))]

    def _count(
        self, call: LayerCall, batch: list[Dim], t: Dim, s: Dim, seen: Dim, h: Dim, d: Dim, e: Dim, k: Dim, v: Dim
    ) -> None:  # fmt: skip
        for length, width in ((t, e), (s, k), (s, v), (t, e)):
            call.multiply(*batch, length, h, d, width)
        for _ in range(2):  # scores, and their use
            call.multiply(*batch, h, t, seen, d)


@decides(nn.TransformerEncoder, "use_nested_tensor")
def _takes_nested_tensors(encoder: nn.TransformerEncoder) -> bool:
    """As its constructor does: padded input becomes a nested tensor only where every layer's fused path takes it.

    A layer with `surgery.MultiheadAttention`, or with an odd number of heads, has no fused path.
    """
    attentions = [getattr(layer, "self_attn", None) for layer in encoder.layers]
    fused = all(a is not None and a._qkv_same_embed_dim and a.num_heads % 2 == 0 for a in attentions)
    return bool(encoder.use_nested_tensor) and fused
