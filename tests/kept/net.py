"""The model that `small.pt` is a small one of. Its source is part of that pickle: it stays as it is."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Fused query, key and value; the width of a head is computed, so its forward is rewritten."""

    def __init__(self, c: int, heads: int):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(c, 3 * c), nn.Linear(c, c)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.proj(y.transpose(1, 2).reshape(b, n, c))


class Net(nn.Module):
    """An attention that is rewritten, and one of torch's that another class takes over from."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.own = nn.Linear(4, 8), Attention(8, heads=2)
        self.torchs, self.head = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.own(self.stem(x)))
        return self.head(x + self.torchs(x, x, x)[0])
