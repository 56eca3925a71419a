"""Tricky graphs: widths tied by concatenation, splitting, addition, reuse and literal views."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal


class NestedConcat(nn.Module):
    """Widths w, 2w, 3w and 6w, each the concatenation of those before, and the last one added to."""

    def __init__(self, w=5):
        super().__init__()
        self.a = nn.Linear(7, w)
        self.b = nn.Linear(7, 2 * w)
        self.c = nn.Linear(3 * w, 3 * w)
        self.d = nn.Linear(7, 6 * w)
        self.head = nn.Linear(6 * w, 4)

    def forward(self, x):
        three = torch.cat([self.a(x), self.b(x)], dim=1)
        six = torch.cat([three, F.relu(self.c(three))], dim=1)
        return self.head(F.relu(six + self.d(x)))


class HalfCatHalfAdd(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 20, 3, padding=1)
        self.side = nn.Conv2d(3, 10, 3, padding=1)
        self.mix = nn.Conv2d(10 + 8, 12, 1)
        self.other = nn.Conv2d(3, 8, 1)
        self.tail = nn.Conv2d(10, 12, 1)

    def forward(self, x):
        y = torch.relu(self.stem(x))
        first, second = torch.split(y, 10, dim=1)
        joined = torch.cat([first, self.other(x)], dim=1)
        added = second + self.side(x)
        return self.mix(joined) + self.tail(added)


class ReusedBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 14, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(14, 22, 1), nn.BatchNorm2d(22), nn.ReLU(), nn.Conv2d(22, 14, 3, padding=1))
        self.head = nn.Linear(14, 5)

    def forward(self, x):
        x = self.stem(x)
        for _ in range(3):
            x = x + self.block(x)
        return self.head(x.mean(dim=(2, 3)))


class SharedConvs(nn.Module):
    """One head over two scales, as in a detector: the outputs of two stages are tied by the layer that reads them."""

    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 16, 3, stride=2, padding=1)
        self.c2 = nn.Conv2d(16, 24, 3, stride=2, padding=1)
        self.lateral1 = nn.Conv2d(16, 18, 1)
        self.lateral2 = nn.Conv2d(24, 18, 1)
        self.head = nn.Sequential(nn.Conv2d(18, 18, 3, padding=1), nn.ReLU(), nn.Conv2d(18, 5, 1))

    def forward(self, x):
        c1 = F.relu(self.c1(x))
        c2 = F.relu(self.c2(c1))
        p2 = self.lateral2(c2)
        p1 = self.lateral1(c1) + F.interpolate(p2, scale_factor=2, mode="nearest")
        return [self.head(p) for p in (p1, p2)]


class LinearToDeconv(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(9, 24 * 4 * 4)
        self.deconv1 = nn.ConvTranspose2d(24, 14, 4, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(14)
        self.deconv2 = nn.ConvTranspose2d(14, 6, 3)
        self.out = nn.Linear(6 * 10 * 10, 8)

    def forward(self, z):
        x = self.fc(z).view(z.shape[0], 24, 4, 4)
        x = F.leaky_relu(self.bn(self.deconv1(x)), 0.2)
        x = torch.tanh(self.deconv2(x))
        return self.out(x.flatten(1))


class SpatialCatSplit(nn.Module):
    """Two maps stacked along their height, convolved as one and taken apart again."""

    def __init__(self):
        super().__init__()
        self.left = nn.Conv2d(3, 12, 3, padding=1)
        self.right = nn.Conv2d(3, 12, 1)
        self.both = nn.Conv2d(12, 18, 3, padding=1)
        self.out = nn.Conv2d(18, 4, 1)

    def forward(self, x):
        y = torch.cat([self.left(x), self.right(x[:, :, ::2])], dim=2)
        y = F.relu(self.both(y))
        top, bottom = torch.split(y, [x.shape[2], x.shape[2] // 2], dim=2)
        return self.out(top).mean((2, 3)) + self.out(bottom).amax((2, 3))


class SkipMLP(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(12, 30)
        self.fc2 = nn.Linear(30, 22)
        self.fc3 = nn.Linear(22, 30)
        self.fc4 = nn.Linear(30 + 12, 22)
        self.fc5 = nn.Linear(22, 5)

    def forward(self, x):
        a = F.relu(self.fc1(x))
        b = F.relu(self.fc2(a))
        c = F.relu(self.fc3(b)) + a
        d = self.fc4(torch.cat((c, x), dim=-1)) + b
        return self.fc5(d)


class TwoStreams(nn.Module):
    """Two inputs whose embeddings meet in a product and a bilinear form, and two outputs, one a hidden layer."""

    def __init__(self):
        super().__init__()
        self.f = nn.Linear(10, 26)
        self.g = nn.Linear(8, 26)
        self.h = nn.Linear(52, 3)
        self.sim = nn.Bilinear(26, 26, 2)

    def forward(self, x, y):
        u, v = self.f(x).tanh(), self.g(y).tanh()
        return self.h(torch.cat([(u - v).abs(), u * v], 1)) + F.pad(self.sim(u, v), (0, 1)), u


class Gamma(nn.Module):
    def __init__(self, dim=18):
        super().__init__()
        self.stem = nn.Conv2d(3, dim, 3, padding=1)
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.gamma = nn.Parameter(torch.full((dim, 1, 1), 1e-6))
        self.beta = nn.Parameter(torch.zeros(1, dim, 1, 1))
        self.shift = nn.Parameter(torch.zeros(dim))
        self.out = nn.Linear(dim, 4)

    def forward(self, x):
        x = self.stem(x)
        x = x + self.gamma * self.conv(x) + self.beta
        return self.out(F.gelu(x).mean((2, 3)) + self.shift)


class OneChannel(nn.Module):
    """A map of one channel scales all channels, and the output has one channel too."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 15, 3, padding=1)
        self.attention = nn.Conv2d(15, 1, 1)
        self.conv = nn.Conv2d(15, 10, 3, padding=1)
        self.spatial = nn.Conv2d(2, 1, 5, padding=2)
        self.out = nn.Conv2d(10, 1, 1)

    def forward(self, x):
        x = F.relu(self.stem(x))
        x = x * torch.sigmoid(self.attention(x))
        x = self.conv(x)
        pooled = torch.cat([x.mean(1, keepdim=True), x.max(dim=1, keepdim=True)[0]], dim=1)
        return self.out(x * self.spatial(pooled).sigmoid()).squeeze(1)


class LinkedConcats(nn.Module):
    """Two concatenations cut at different places, added: 8 + 16 against 14 + 10."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 8, 1)
        self.b = nn.Conv2d(3, 16, 3, padding=1)
        self.c = nn.Conv2d(3, 14, 3, padding=1)
        self.d = nn.Conv2d(3, 10, 1)
        self.norm = nn.BatchNorm2d(24)
        self.out = nn.Conv2d(24, 6, 1)

    def forward(self, x):
        y = torch.cat([self.a(x), self.b(x)], dim=1) + torch.cat([self.c(x), self.d(x)], dim=1)
        return self.out(F.relu(self.norm(y)))


TRICKY = (
    case("nested_concat", NestedConcat, normal(4, 7)),
    case("half_cat_half_add", HalfCatHalfAdd, normal(2, 3, 9, 8)),
    case("reused_block", ReusedBlock, normal(2, 3, 10, 8)),
    case("shared_head", SharedConvs, normal(2, 3, 16, 12)),
    case("linear_to_deconv", LinearToDeconv, normal(3, 9)),
    case("spatial_cat_split", SpatialCatSplit, normal(2, 3, 10, 7)),
    case("mlp_skips", SkipMLP, normal(4, 12)),
    case("two_streams", TwoStreams, normal(4, 10), normal(4, 8)),
    case("gamma", Gamma, normal(2, 3, 9, 8)),
    case("one_channel", OneChannel, normal(2, 3, 9, 8)),
    case("linked_concats", LinkedConcats, normal(2, 3, 9, 8)),
)
