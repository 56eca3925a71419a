"""Does wrapped training order features? The paper's row on scikit-learn digits: `python -m tests.benchmarks digits`."""

from __future__ import annotations

import statistics

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from tests.benchmarks.run import Run

WIDTHS = (4, 8, 16, 24, 32, 64, 128, 256)
# test accuracy %, measured with the paper's own code: p=.9, H/c, independent cuts, 5 seeds
PAPER = (17.4, 48.0, 79.2, 88.7, 94.2, 96.8, 97.4, 98.0)


def data(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and labels, test images and labels; pixels in [0, 1]."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split(x / 16, y, test_size=0.2, random_state=seed, stratify=y)
    train_x, test_x, train_y, test_y = (torch.as_tensor(part) for part in parts)
    return train_x.float(), train_y, test_x.float(), test_y


def train(seed: int, epochs: int) -> dict[str, list[float]]:
    """Test accuracy (%) at every width after one training session."""
    torch.manual_seed(seed)
    train_x, train_y, test_x, test_y = data(seed)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10))
    draw = surgery.paper(p=0.9, rescale=True)
    wrapped = surgery.wrap(model, train_x[:2], draw=draw, generator=torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=8e-4)
    wrapped.train()
    for _ in tqdm(range(epochs), f"seed {seed}"):
        for batch in torch.randperm(len(train_x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(wrapped(train_x[batch]), train_y[batch]).backward()
            optimizer.step()
    wrapped.eval()
    scores = []
    for width in WIDTHS:
        with torch.no_grad(), surgery.at_widths(wrapped, {"*": width}):
            scores.append(100 * (wrapped(test_x).argmax(1) == test_y).double().mean().item())
    return {"scores": scores}


def main(run: Run) -> list[dict[str, object]]:
    """Print and return one row per width: this library's mean and spread over seeds, and the paper's code."""
    epochs = 5 if run.quick else 100
    scores = [run.cell(train, seed=seed, epochs=epochs)["scores"] for seed in run.seeds(5)]
    rows: list[dict[str, object]] = []
    for i, width in enumerate(WIDTHS):
        values = [score[i] for score in scores]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        rows.append(
            {
                "width": width,
                "mean %": round(statistics.mean(values), 1),
                "stdev": round(spread, 1),
                "paper %": PAPER[i],
            }
        )
        print(rows[-1])
    return rows
