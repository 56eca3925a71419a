"""A plain `nn.MultiheadAttention` whose heads need not multiply to the embedding width."""

# B batch, T queries, S keys, H heads, D head width

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MultiheadAttention(nn.MultiheadAttention):
    """`nn.MultiheadAttention` with an explicit head width: the same parameters under the same names, the same results.

    `nn.MultiheadAttention` asserts heads x head width = embedding, and computes the head width by that division. Here
    `head_dim` is an attribute of its own. An instance is made by `shrink`, which changes the class of a shrunk layer
    where the assertion would fail. The fused inference paths of `nn.TransformerEncoderLayer` are off around it: they
    divide in the same way.
    """

    head_dim: int

    @property
    def _qkv_same_embed_dim(self) -> bool:  # read by the fused paths, which must not run
        return False

    @_qkv_same_embed_dim.setter
    def _qkv_same_embed_dim(self, value: bool) -> None:
        pass

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Shapes and meanings as in `nn.MultiheadAttention.forward`."""
        batched = query.dim() == 3
        if not batched:
            query, key, value = (x.unsqueeze(0) for x in (query, key, value))
        elif not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        q, k, v = self._project(query, key, value)
        mask = self._mask(query, key_padding_mask, attn_mask)
        if self.bias_k is not None and self.bias_v is not None:
            k = torch.cat([k, self.bias_k.expand(k.shape[0], 1, -1)], dim=1)
            v = torch.cat([v, self.bias_v.expand(v.shape[0], 1, -1)], dim=1)
        if self.add_zero_attn:
            k, v = F.pad(k, (0, 0, 0, 1)), F.pad(v, (0, 0, 0, 1))
        if mask is not None:
            mask = F.pad(mask, (0, k.shape[1] - mask.shape[-1]))
        q, k, v = (torch.unflatten(x, -1, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v))
        y, weights = self._attend(q, k, v, mask, need_weights)
        y = self.out_proj(y.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(dim=1)
        if not batched:
            return y.squeeze(0), None if weights is None else weights.squeeze(0)
        return y if self.batch_first else y.transpose(0, 1), weights

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values, (B, T, H D) each."""
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None, None, None) if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _mask(self, query: Tensor, padding: Tensor | None, attention: Tensor | None) -> Tensor | None:
        """Both masks as one to be added to the scores, broadcastable to (B, H, T, S)."""
        masks = []
        if attention is not None:
            full = attention if attention.dim() == 2 else torch.unflatten(attention, 0, (-1, self.num_heads))
            masks.append(_additive(full, query))
        if padding is not None:
            masks.append(_additive(padding if padding.dim() == 2 else padding[None], query)[:, None, None])
        return sum(masks[1:], masks[0]) if masks else None

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        dropout = self.dropout if self.training else 0.0
        if not need_weights:
            return F.scaled_dot_product_attention(q, k, v, mask, dropout), None
        scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
        weights = torch.softmax(scores if mask is None else scores + mask, dim=-1)
        weights = F.dropout(weights, dropout)
        return weights @ v, weights


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill_(mask, float("-inf"))
