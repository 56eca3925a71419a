"""Tricky graphs of one operation: what tools for pruning take for element-wise, or slice without a word."""

import torch
import torch.nn as nn

from .case import case, normal
from .channels import Shuffle, between


class Reversed(nn.Module):
    """All channels, the last one first, by their numbers."""

    def forward(self, x):
        return x.index_select(1, torch.arange(x.shape[1] - 1, -1, -1))


class Spectrum(nn.Module):
    def forward(self, x):
        return torch.fft.fft(x, dim=1).real


class Sorted(nn.Module):
    def forward(self, x):
        return torch.sort(x, dim=1)[0]


@torch.library.custom_op("surgery_tests::turned", mutates_args=())
def turned(x: torch.Tensor) -> torch.Tensor:
    """An operation that nobody can know: here it gives the channels in reverse."""
    return x.flip(1).contiguous()


turned.register_autograd(lambda context, gradient: gradient.flip(1).contiguous())


class Unknown(nn.Module):
    def forward(self, x):
        return torch.ops.surgery_tests.turned(x)


class AttentionAlone(nn.Module):
    """`nn.MultiheadAttention` between two linear layers: what it attends to does not go out."""

    def __init__(self, dim=32, heads=4):
        super().__init__()
        self.embed = nn.Linear(9, dim)
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        return self.out(self.attention(x, x, x, need_weights=False)[0])


TRICKY = (
    between("channel_shuffle_square", Shuffle, width=16),
    between("index_select_all", Reversed, width=20),
    between("fft_channels", Spectrum, width=20),
    between("sort_channels", Sorted, width=20),
    between("unknown_operation", Unknown, width=20),
    case("attention_alone", AttentionAlone, normal(2, 7, 9)),
)
