"""The paper's second experiment: the classifier of a PointNet, `python -m tests.benchmarks paper.pointnet`.

A network after Qi et al. 2017 (arXiv:1612.00593): three layers that all points share, where theirs has five, both
T-nets with smaller last layers, and no penalty on the maps that these make. First only the fully connected layers of
512 and 256 features are elastic, as in the paper (p = 0.5), then every axis.
"""

from __future__ import annotations

import itertools
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.benchmarks.paper import compared, furniture
from tests.benchmarks.paper.experiment import Experiment, Mode, Task

BATCH, EPOCHS, QUICK = 32, 10, 1


def shared(inputs: int, outputs: int) -> nn.Sequential:
    """A layer that all points share."""
    return nn.Sequential(nn.Conv1d(inputs, outputs, 1), nn.BatchNorm1d(outputs), nn.ReLU())


def dense(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


class TNet(nn.Module):
    """A linear map (B, k, k) for all points of a cloud (B, k, N), near the identity."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k
        self.points = nn.Sequential(shared(k, 64), shared(64, 128), shared(128, 256))
        self.cloud = nn.Sequential(dense(256, 128), dense(128, 64), nn.Linear(64, k * k))
        nn.init.zeros_(self.cloud[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.cloud[-1].bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        found = self.cloud(self.points(x).amax(2)).view(-1, self.k, self.k)
        return found + torch.eye(self.k, device=x.device)


class PointNet(nn.Module):
    """Logits (B, classes) of clouds (B, 3, N)."""

    def __init__(self, classes: int = len(furniture.CLASSES)):
        super().__init__()
        self.turn = TNet(3)
        self.first = shared(3, 64)
        self.transform = TNet(64)
        self.second = shared(64, 128)
        self.third = nn.Sequential(nn.Conv1d(128, 1024, 1), nn.BatchNorm1d(1024))
        self.fc1 = dense(1024, 512)
        self.fc2 = dense(512, 256)
        self.dropout = nn.Dropout(0.3)
        self.fc3 = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.turn(x) @ x)
        x = self.third(self.second(self.transform(x) @ x)).amax(2)
        return self.fc3(self.dropout(self.fc2(self.fc1(x))))


@torch.no_grad()
def accuracy(model: nn.Module, part: str) -> list[float]:
    clouds, kinds = furniture.clouds(part)
    found = [model(some.transpose(1, 2)).argmax(1) for some in clouds.split(500)]
    return [100 * (torch.cat(found) == kinds).double().mean().item()]


def calibration() -> list[Tensor]:
    """Training clouds, moved as in training."""
    return [x for x, _ in itertools.islice(furniture.batches(0, 64), 8)]


FC, EVERY = "classifier", "every axis"
EPOCH = furniture.COUNTS["train"] // BATCH
TASK = Task(
    build=PointNet,
    inputs=lambda: furniture.clouds("validation")[0][:4].transpose(1, 2),
    batches=lambda seed: furniture.batches(seed, BATCH),
    loss=F.cross_entropy,
    scores=accuracy,
    measures=("accuracy",),
    unit="accuracy, %",
    margin=1.0,
    calibration=calibration,
    normed=True,
)
EXPERIMENT = Experiment(
    TASK,
    steps=(EPOCHS * EPOCH, QUICK * EPOCH),
    p=0.5,
    lower=1,
    scopes={FC: ("fc1.0.o", "fc2.0.o"), EVERY: ()},
    modes={
        "plain": Mode("plain", FC),
        "paper, classifier": Mode("paper", FC),
        "default, classifier": Mode("default", FC),
        "paper, every axis": Mode("paper", EVERY),
        "default, every axis": Mode("default", EVERY),
    },
    widths=(1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625, 0.03125),
    few=(1.0, 0.75, 0.5, 0.25, 0.125, 0.0625),
)

main = partial(compared.main, name="pointnet", experiment=EXPERIMENT)
plot = partial(compared.plot, experiment=EXPERIMENT, title="PointNet on made furniture", depth=16.0)
