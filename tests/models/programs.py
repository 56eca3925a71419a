"""Tricky programs: what a tracer has trouble with. Unused parts, in-place writes, values that steer the code."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal


class Unused(nn.Module):
    """`auxiliary` and `temperature` are never used, and of `norms` only the first."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(10, 24)
        self.auxiliary = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
        self.norms = nn.ModuleList([nn.LayerNorm(24), nn.LayerNorm(24)])
        self.temperature = nn.Parameter(torch.ones(24))
        self.fc2 = nn.Linear(24, 5)

    def forward(self, x):
        return self.fc2(F.relu(self.norms[0](self.fc1(x))))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1)
        self.part = nn.Conv2d(3, 6, 1)
        self.scale = nn.Parameter(torch.ones(16, 1, 1))
        self.out = nn.Conv2d(16, 5, 1)

    def forward(self, x):
        y = self.conv1(x).relu_()
        z = self.conv2(y)
        z += y
        z.mul_(self.scale).add_(0.1)
        z[:, :6] += self.part(x)
        z[:, 10:].clamp_(min=-1.0)
        return self.out(z)


class FilledBuffer(nn.Module):
    """Parts written into an empty tensor, instead of a concatenation."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(10, 8)
        self.b = nn.Linear(10, 14)
        self.out = nn.Linear(22, 5)

    def forward(self, x):
        y = x.new_zeros(x.shape[0], 22)
        y[:, :8] = self.a(x)
        y[:, 8:] = torch.tanh(self.b(x))
        return self.out(y)


class OutArgument(nn.Module):
    """A stem without gradients, because `out=` has none, and a trained head."""

    def __init__(self):
        super().__init__()
        self.stem1 = nn.Conv2d(3, 14, 3, padding=1)
        self.stem2 = nn.Conv2d(3, 14, 1)
        self.head = nn.Sequential(nn.Conv2d(14, 18, 3), nn.BatchNorm2d(18), nn.ReLU(), nn.Conv2d(18, 4, 1))

    def forward(self, x):
        with torch.no_grad():
            a, b = self.stem1(x), self.stem2(x)
            y = torch.empty_like(a)
            torch.add(a, b, alpha=0.5, out=y)
            torch.sigmoid(y, out=y)
        return self.head(y)


class Branch(nn.Module):
    """Untraceable: which layers run depends on the values."""

    def __init__(self, width):
        super().__init__()
        self.calm = nn.Linear(width, width)
        self.loud = nn.Sequential(nn.Linear(width, 13), nn.ReLU(), nn.Linear(13, width))

    def forward(self, x):
        if x.abs().mean() > 1e-3:
            return self.calm(x) + self.loud(x)
        return self.calm(x)


class ItemScale(nn.Module):
    """Untraceable: a Python number taken from the tensor."""

    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        norm = x.detach().norm(dim=-1).max().item()
        steps = 1 + int(norm > 0)
        for _ in range(steps):
            x = torch.tanh(self.fc(x / (1.0 + norm)))
        return x


class NumpyRoundTrip(nn.Module):
    """Untraceable: ranks computed in numpy, so the dispatcher sees nothing."""

    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)

    def forward(self, x):
        values = x.detach().cpu().numpy()
        ranks = values.argsort(axis=0).argsort(axis=0) / len(values)
        return self.fc(x * torch.from_numpy(ranks).to(x))


class Stage(nn.Module):
    """It projects where its widths differ, and nothing else reads how wide its input is."""

    def __init__(self, inside, outside):
        super().__init__()
        self.inside, self.outside = inside, outside
        self.norm = nn.LayerNorm(inside)
        self.proj = nn.Linear(inside, outside)

    def forward(self, x):
        x = self.norm(x)
        if self.inside != self.outside:
            x = self.proj(x).view(len(x), self.outside)
        return F.gelu(x)


class Pyramid(nn.Module):
    """Each stage is twice as wide as the one before: half the width of one is what the other was."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(10, 12)
        self.stages = nn.Sequential(Stage(12, 24), Stage(24, 48))
        self.head = nn.Linear(48, 5)

    def forward(self, x):
        return self.head(self.stages(self.stem(x)))


class Around(nn.Module):
    """A traceable model around an untraceable submodule; all but its inside and its width can be sliced."""

    def __init__(self, inner, width=18):
        super().__init__()
        self.fc1 = nn.Linear(10, 30)
        self.fc2 = nn.Linear(30, width)
        self.inner = inner(width)
        self.fc3 = nn.Linear(width, 22)
        self.fc4 = nn.Linear(22, 5)

    def forward(self, x):
        x = self.fc2(F.relu(self.fc1(x)))
        x = self.inner(x)
        return self.fc4(F.relu(self.fc3(x)))


TRICKY = (
    case("widths_that_differ", Pyramid, normal(4, 10)),
    case("unused_parameters", Unused, normal(4, 10)),
    case("in_place", InPlace, normal(2, 3, 9, 8)),
    case("filled_buffer", FilledBuffer, normal(4, 10)),
    case("out_argument", OutArgument, normal(2, 3, 9, 8)),
    case("data_dependent_branch", Around, normal(4, 10), inner=Branch),
    case("item_scale", Around, normal(4, 10), inner=ItemScale),
    case("numpy_round_trip", Around, normal(6, 10), inner=NumpyRoundTrip),
)
