"""The paper's first experiment: an MLP on images of 28 x 28 pixels, `python -m tests.benchmarks paper.mlp`.

784-256-256-10 with ReLU, batches of 500, 100 epochs, p = 1, widths from 1 to 256; Adam at 8e-4 in the paper's mode.
Fashion-MNIST, of which 5,000 training images are kept to choose on; `paper.mnist` is the same on MNIST.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.demo.data import Part
from tests.benchmarks.data import fashion_mnist, shuffled
from tests.benchmarks.fitting import accuracy
from tests.benchmarks.paper import compared
from tests.benchmarks.paper.experiment import Experiment, Mode, Task

WIDTH, BATCH, EPOCHS = 256, 500, 100
QUICK = 2  # epochs
EPOCH = 55_000 // BATCH  # steps
RATE = 8e-4  # the paper's
FEW = (256, 192, 128, 64, 32, 16, 8, 4)
# The default draws no widths below 1/16; these do.
LOWER = tuple(surgery.mixed(surgery.grid(some)) for some in ((1 / 64, 1 / 32), (1 / 16, 1 / 8), (1 / 4, 1 / 2, 3 / 4)))


def mlp(fraction: float = 1.0) -> nn.Module:
    width = round(WIDTH * fraction)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def experiment(load: Callable[[], tuple[Part, Part, Part]]) -> Experiment:
    """Of images to train on, to validate and to test, which are loaded when they are needed."""

    def parts() -> dict[str, Part]:
        return dict(zip(("train", "validation", "test"), load(), strict=True))

    task = Task(
        build=mlp,
        inputs=lambda: torch.zeros(2, 1, 28, 28),
        batches=lambda seed: batches(load()[0], seed),
        loss=F.cross_entropy,
        scores=lambda model, part: [accuracy(model, parts()[part])],
        measures=("accuracy",),
        unit="accuracy, %",
        margin=1.0,
        calibration=lambda: list(parts()["train"].images[:5_000].split(500)),
    )
    return Experiment(
        task,
        steps=(EPOCHS * EPOCH, QUICK * EPOCH),
        p=1.0,
        lower=1,
        scopes={"hidden": ()},
        modes={
            "plain": Mode("plain", "hidden"),
            "paper": Mode("paper", "hidden", RATE),
            "paper, one-cycle": Mode("paper", "hidden"),
            "default": Mode("default", "hidden"),
            "default, drawn from 1/64 up": Mode("default", "hidden", narrow=LOWER),
        },
        widths=tuple(range(WIDTH, 0, -1)),
        few=FEW,
        alone=mlp,
    )


def batches(train: Part, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    for rows in shuffled(len(train), BATCH, torch.Generator().manual_seed(seed)):
        yield train.images[rows], train.labels[rows]


EXPERIMENT = experiment(fashion_mnist)
main = partial(compared.main, name="mlp", experiment=EXPERIMENT)
plot = partial(compared.plot, experiment=EXPERIMENT, title="MLP 784-256-256-10 on Fashion-MNIST", depth=12.0)
