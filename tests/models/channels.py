"""Tricky graphs: operations that move, mix or order the channels. Each is a stem, the operation and a head."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import Case, case, normal


class Between(nn.Module):
    """conv -> ReLU -> `between` -> conv. `between` turns `width` channels into `after`."""

    def __init__(self, between, width, after=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(width)
        self.between = between()
        self.conv2 = nn.Conv2d(after or width, 7, 3, padding=1)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.between(x)
        return self.conv2(x)


class Shuffle(nn.Module):
    def forward(self, x):
        n, c, h, w = x.shape
        return x.reshape(n, 4, c // 4, h, w).transpose(1, 2).reshape(n, c, h, w)


class First8(nn.Module):
    def forward(self, x):
        return x[:, :8]


class SliceAndRest(nn.Module):
    """FasterNet's partial convolution: only the first channels are convolved."""

    def __init__(self):
        super().__init__()
        self.partial = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        return torch.cat([self.partial(x[:, :6]), x[:, 6:, :, :]], dim=1)


class Roll(nn.Module):
    def forward(self, x):
        return x + torch.roll(x, shifts=5, dims=1)


class Flip(nn.Module):
    def forward(self, x):
        return torch.cat([x, torch.flip(x, dims=[1])], dim=1)


class IndexSelect(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("index", torch.tensor([17, 3, 3, 22, 0, 9, 14, 8, 5, 23, 11, 2]))

    def forward(self, x):
        return torch.index_select(x, 1, self.index) * x[:, self.index.flip(0)] + x[:, 1::2]


class Permuted(nn.Module):
    """A fixed permutation of all channels, written as a list."""

    def forward(self, x):
        return x[:, [5, 2, 8, 0, 11, 4, 1, 10, 7, 3, 9, 6]] - x


class SoftmaxChannels(nn.Module):
    def forward(self, x):
        return x * torch.softmax(x, dim=1)


class Cumsum(nn.Module):
    def forward(self, x):
        return torch.cumsum(x, dim=1)


class ChannelsDifference(nn.Module):
    def forward(self, x):
        return x[:, 1:] - x[:, :-1]


class Maxout(nn.Module):
    """The larger of each neighbouring pair of channels."""

    def forward(self, x):
        n, c, h, w = x.shape
        return x.view(n, c // 2, 2, h, w).amax(dim=2)


class GroupedAcrossCat(nn.Module):
    """10 + 14 channels concatenated and read in 4 groups of 6: the second group straddles the seam."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 10, 3, padding=1)
        self.b = nn.Conv2d(3, 14, 1)
        self.grouped = nn.Conv2d(24, 32, 3, padding=1, groups=4)
        self.out = nn.Conv2d(32, 5, 1)

    def forward(self, x):
        return self.out(F.relu(self.grouped(F.relu(torch.cat([self.a(x), self.b(x)], 1)))))


class GroupedWithSkip(nn.Module):
    """ResNeXt's block: the same channels are grouped for one reader and ungrouped for the other."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 30, 3, padding=1)
        self.grouped = nn.Conv2d(30, 30, 3, padding=1, groups=5, bias=False)
        self.bn = nn.BatchNorm2d(30)
        self.reduce = nn.Conv2d(30, 30, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        return self.reduce(x + F.relu(self.bn(self.grouped(x)))).mean((2, 3))


class NHWCFlatten(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 14, 3, padding=1)
        self.fc = nn.Linear(5 * 4 * 14, 20)
        self.bn = nn.BatchNorm1d(20)
        self.out = nn.Linear(20, 6)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        x = x.permute(0, 2, 3, 1).flatten(1)
        return self.out(F.relu(self.bn(self.fc(x))))


class FlattenNorm(nn.Module):
    """BatchNorm1d over the flattened map, whose blocks of 20 belong to one channel each."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 14, 3, padding=1)
        self.bn = nn.BatchNorm1d(14 * 20)
        self.fc = nn.Linear(14 * 20, 6)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv(x)), 2)
        return self.fc(self.bn(x.reshape(x.size(0), 14 * 5 * 4)))


class SuperResolution(nn.Module):
    def __init__(self, width=14, scale=2):
        super().__init__()
        self.down = nn.PixelUnshuffle(scale)
        self.conv1 = nn.Conv2d(3 * scale**2, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, 10 * scale**2, 3, padding=1)
        self.up = nn.PixelShuffle(scale)
        self.conv3 = nn.Conv2d(10, 3 * 9, 3, padding=1)

    def forward(self, x):
        y = self.up(self.conv2(F.relu(self.conv1(self.down(x)))))
        return F.pixel_shuffle(self.conv3(y), 3)


def between(name: str, make, *, width: int = 24, after: int | None = None) -> Case:
    return case(name, Between, normal(2, 3, 9, 8), between=make, width=width, after=after)


TRICKY = (
    between("channel_shuffle", Shuffle, width=20),
    between("slice_first_8", First8, width=18, after=8),
    between("partial_conv", SliceAndRest, width=17),
    between("roll_channels", Roll, width=15),
    between("flip_channels", Flip, width=14, after=28),
    between("index_select", IndexSelect, width=24, after=12),
    between("index_list", Permuted, width=12),
    between("softmax_channels", SoftmaxChannels, width=13),
    between("channel_cumsum", Cumsum, width=11),
    between("channel_difference", ChannelsDifference, width=16, after=15),
    between("maxout", Maxout, width=26, after=13),
    between("glu", lambda: nn.GLU(dim=1), width=22, after=11),
    between("prelu", lambda: nn.Sequential(nn.Conv2d(15, 21, 1), nn.PReLU(21)), width=15, after=21),
    between("local_response_norm", lambda: nn.LocalResponseNorm(5, alpha=1.0), width=12),
    between("instance_norm", lambda: nn.InstanceNorm2d(18, affine=True), width=18),
    between("grouped_conv", lambda: nn.Conv2d(24, 36, 3, padding=1, groups=3), width=24, after=36),
    between("grouped_deconv", lambda: nn.ConvTranspose2d(24, 20, 4, 2, 1, groups=4), width=24, after=20),
    between("depthwise", lambda: nn.Conv2d(14, 14, 3, padding=1, groups=14), width=14),
    between("depthwise_multiplier", lambda: nn.Conv2d(14, 28, 3, padding=1, groups=14), width=14, after=28),
    between("depthwise_of_one", lambda: nn.Conv2d(1, 1, 3, padding=1, groups=1), width=1),
    case("grouped_across_cat", GroupedAcrossCat, normal(2, 3, 9, 8)),
    case("grouped_with_skip", GroupedWithSkip, normal(2, 3, 9, 8)),
    case("nhwc_flatten", NHWCFlatten, normal(3, 3, 10, 8)),
    case("flatten_batchnorm", FlattenNorm, normal(3, 3, 10, 8)),
    case("pixel_shuffle", SuperResolution, normal(2, 3, 10, 8)),
)
