"""The paper's third experiment: an image MLP, asked for colours anywhere; `python -m tests.benchmarks paper.liif`.

After LIIF (Chen et al. 2021, arXiv:2012.09161): an encoder gives features to each pixel of a small image, and an MLP of
four layers of 256 features, with a skip connection, says the colour at a place from the features of the nearest pixel.
The colour is said relative to the bilinear enlargement, as Lee and Jin 2022 (arXiv:2111.08918) do, so that little
training is enough; LIIF's average over four neighbours and its patches of features are left out. First the MLP alone is
elastic, as in the paper (p = 0.5, at least 32 features), then every axis.
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.paper import compared, photographs
from tests.benchmarks.paper.experiment import Experiment, Mode, Task

WIDTH, CHANNELS, BLOCKS = 256, 32, 2
BATCH, STEPS, QUICK = 16, 1_000, 60
TIMES = (2, 4)
RATES = (1e-3, 3e-3)


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.one, self.two = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(F.relu(self.one(x)))


class ImageMLP(nn.Module):
    """Colours from features and a place; the third layer reads the first one's features beside the second's."""

    def __init__(self, inputs: int, width: int = WIDTH):
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.second = nn.Linear(width, width)
        self.third = nn.Linear(2 * width, width)
        self.fourth = nn.Linear(width, width)
        self.colour = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.first(x))
        second = F.relu(self.second(first))
        third = F.relu(self.third(torch.cat([second, first], -1)))
        return self.colour(F.relu(self.fourth(third)))


class Liif(nn.Module):
    """Colours (B, Q, 3), black 0 and white 1, of images (B, 3, h, w) at places (B, Q, 2), each of a size (B, Q, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, padding=1), *(Block(CHANNELS) for _ in range(BLOCKS)),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
        )  # fmt: skip
        self.mlp = ImageMLP(CHANNELS + 4)

    def forward(self, image: Tensor, where: Tensor, cell: Tensor) -> Tensor:
        features = self.encoder(image - 0.5)
        size = torch.tensor(image.shape[2:], device=image.device)
        nearest = (((where + 1) / 2 * size).floor() + 0.5) / size * 2 - 1  # the middle of the pixel that holds a place
        x = torch.cat([at(features, nearest, "nearest"), (where - nearest) * size, cell * size], -1)
        return at(image, where, "bilinear") + self.mlp(x)


def at(image: Tensor, where: Tensor, mode: str) -> Tensor:
    """Values (B, Q, C) of an image (B, C, h, w) at places (B, Q, 2), y before x; beyond its border as at it."""
    found = F.grid_sample(image, where.flip(-1)[:, None], mode, "border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


@torch.no_grad()
def enlarged(model: nn.Module, image: Tensor, times: int) -> Tensor:
    """An image (3, H, W), made smaller and large again."""
    small, where, cell = photographs.asked(image[None], times)
    colours = [model(small, *row) for row in zip(where.split(9_216, 1), cell.split(9_216, 1), strict=True)]
    return torch.cat(colours, 1)[0].T.view_as(image).clamp(0, 1)


def decibels(image: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio."""
    return -10 * torch.log10((image - truth).square().mean()).item()


def scores(model: nn.Module, part: str) -> list[float]:
    """Of each enlargement, the mean over photographs."""
    images = photographs.photographs(part)
    return [sum(decibels(enlarged(model, one, times), one) for one in images) / len(images) for times in TIMES]


def example() -> tuple[Tensor, Tensor, Tensor]:
    return next(photographs.batches(0, 2))[0]


MLP, EVERY = "MLP", "every axis"
TASK = Task(
    build=Liif,
    inputs=example,
    batches=lambda seed: photographs.batches(seed, BATCH),
    loss=F.l1_loss,
    scores=scores,
    measures=tuple(f"PSNR at x{times}" for times in TIMES),
    unit="PSNR, dB",
    margin=0.1,
    calibration=lambda: [x for x, _ in itertools.islice(photographs.batches(0, BATCH), 8)],
)
EXPERIMENT = Experiment(
    TASK,
    steps=(STEPS, QUICK),
    rates=RATES,
    first=RATES,
    trial=1.0,  # of a fifth of the steps, the paper's mode learns nothing
    p=0.5,
    lower=32,
    scopes={MLP: ("mlp.*",), EVERY: ()},
    modes={
        "plain": Mode("plain", MLP),
        "paper, MLP": Mode("paper", MLP),
        "default, MLP": Mode("default", MLP),
        "default, every axis": Mode("default", EVERY),
    },
    widths=(1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625),
    few=(1.0, 0.75, 0.5, 0.25, 0.125, 0.0625),
)

main = partial(compared.main, name="liif", experiment=EXPERIMENT)
plot = partial(compared.plot, experiment=EXPERIMENT, title="An image MLP on photographs", depth=4.0)
