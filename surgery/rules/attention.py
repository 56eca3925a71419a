"""Attention called as a function."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F

from surgery.axes.algebra import Dims, divide, extent, fresh, pieces, resolve
from surgery.axes.signature import broadcast
from surgery.rules.base import Result, here, kind, multiply, ordered, require, tensors_in, unify
from surgery.rules.registry import rule


@rule("scaled_dot_product_attention")
def attention(
    query: Dims, key: Dims, value: Dims, attn_mask: object = None, dropout_p: float = 0,
    is_causal: bool = False, scale: object = None, enable_gqa: bool = False,
) -> Dims:  # fmt: skip
    """`... h t d, ... h s d, ... h s e -> ... h t e`; grouped queries have heads `(kv rep)`."""
    q, k, v = query, key, value
    heads = list(broadcast([q[:-2], k[:-2], v[:-2]], here())) if not enable_gqa else list(q[:-2])
    if enable_gqa:
        shared = unify(k[-3], v[-3])
        repeats = fresh(extent(q[-3]) // extent(shared))
        heads = [*broadcast([q[:-3], k[:-3], v[:-3]], here()), unify(q[-3], shared + repeats)]
    d, s = unify(q[-1], k[-1]), unify(k[-2], v[-2])
    if isinstance(attn_mask, Dims):
        broadcast([Dims((*heads, q[-2], s)), attn_mask], here())
    if is_causal:
        ordered(q[-2], "a causal mask")
        ordered(s, "a causal mask")
    multiply(*heads, q[-2], s, d)
    multiply(*heads, q[-2], s, v[-1])
    kind("heads", *heads)
    kind("head_width", d, v[-1])
    return Dims((*heads, q[-2], v[-1]))


@rule(F.multi_head_attention_forward)
def multi_head_attention(
    query: Dims, key: Dims, value: Dims, embed_dim_to_check: int, num_heads: int, in_proj_weight: Dims | None,
    in_proj_bias: Dims | None, bias_k: object, bias_v: object, add_zero_attn: bool, dropout_p: float,
    out_proj_weight: Dims, out_proj_bias: Dims | None, training: bool = True, key_padding_mask: Dims | None = None,
    need_weights: bool = True, attn_mask: Dims | None = None, use_separate_proj_weight: bool = False,
    q_proj_weight: Dims | None = None, k_proj_weight: Dims | None = None, v_proj_weight: Dims | None = None,
    static_k: object = None, static_v: object = None, average_attn_weights: bool = True, is_causal: bool = False,
) -> Result:  # fmt: skip
    """Torch asserts that heads times head width is the width of queries, so that the two are one dimension here."""
    if any(x is not None for x in (bias_k, bias_v, static_k, static_v)) or add_zero_attn:
        raise NotImplementedError("biases of keys, and keys that are given")
    if is_causal or len(query) != 3:
        raise NotImplementedError("causal attention, and inputs without a batch")
    parts = divide(query[2], extent(query[2]) // int(num_heads))
    if parts is None:
        raise NotImplementedError("features that do not divide into heads")
    heads, inner = parts[0], resolve(parts[0]) + resolve(parts[1])
    s, n = unify(key[0], value[0]), unify(unify(query[1], key[1]), value[1])
    _masked(attn_mask, Dims((query[0], s)) if len(attn_mask or ()) == 2 else Dims((n + heads, query[0], s)))
    _masked(key_padding_mask, Dims((n, s)))
    packed = None if use_separate_proj_weight else in_proj_weight
    weights = _projections(packed, (q_proj_weight, k_proj_weight, v_proj_weight), extent(inner))
    for weight, x in zip(weights, (query, key, value), strict=True):
        unify(weight[0], inner)
        unify(weight[1], x[2])
        multiply(*x[:2], *weight)
    for part in pieces(in_proj_bias[0], [extent(inner)] * 3, here()) if in_proj_bias else ():
        unify(part, inner)
    unify(out_proj_weight[1], inner)
    if out_proj_bias is not None:
        unify(out_proj_bias[0], out_proj_weight[0])
    require(embed_dim_to_check, inner)
    require(num_heads, heads)
    kind("heads", heads)
    kind("head_width", resolve(parts[1]))
    for dims in ((n, query[0], s, inner), (n, query[0], s, inner), (query[0], n, *out_proj_weight)):
        multiply(*dims)
    seen = Dims((n, query[0], s)) if average_attn_weights else Dims((n, heads, query[0], s))
    return [Dims((query[0], n, out_proj_weight[0])), seen if need_weights else None]


def _masked(mask: Dims | None, scores: Dims) -> None:
    """State that a mask, if there is one, is laid over scores."""
    if mask is not None:
        broadcast([scores, mask], here())


def _projections(packed: Dims | None, separate: Sequence[Dims | None], width: int) -> list[Dims]:
    """The weights of queries, keys and values: the rows of one, or each by itself."""
    if packed is None:
        return tensors_in(separate)
    return [Dims((rows, packed[1])) for rows in pieces(packed[0], [width] * 3, here())]
