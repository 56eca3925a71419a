"""How few evaluations give the whole curve over 512 widths? `python -m tests.benchmarks adaptive`."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm import tqdm

import surgery
from surgery.demo.data import KINDS, Data, Part, digits, normalised, read_idx, stratified
from tests.benchmarks.digits import one_narrow
from tests.benchmarks.run import Run

ROOT = Path(__file__).parents[3] / "shared" / "data" / "fashion-mnist"
TOLERANCE, MOST = 0.004, 51  # a little less than half a point, a tenth of the widths
EPOCHS = 3
WIDTHS = [width / 512 for width in range(512, 0, -1)]


def data() -> Data:
    """Fashion-MNIST where it is there: 24,000 images to train on, 12,000 to validate; otherwise the digits."""
    if not ROOT.exists():
        return digits()
    images, labels = (read_idx(ROOT, f"train-{kind}") for kind in KINDS)
    parts = [Part(images[rows], labels[rows]) for rows in stratified(labels, (0.4, 0.2))]
    return normalised("fashion-mnist", *parts, parts[1])


def mlp(pixels: int) -> nn.Module:
    return nn.Sequential(nn.Linear(pixels, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def train(seed: int, epochs: int) -> dict[str, object]:
    """An MLP of two hidden layers of 512, trained once at many widths."""
    found = data()
    torch.manual_seed(seed)
    x, labels = found.train.images.flatten(1), found.train.labels
    wrapped = surgery.wrap(mlp(x.shape[1]), x[:2], generator=torch.Generator().manual_seed(seed)).train()
    optimizer = torch.optim.Adam(wrapped.parameters())
    steps = epochs * -(-len(x) // 128)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in tqdm(range(epochs), f"seed {seed}"):
        for batch in torch.randperm(len(x)).split(128):
            optimizer.zero_grad()
            loss = functools.partial(nn.functional.cross_entropy, target=labels[batch])
            one_narrow(wrapped, x[batch], loss)
            optimizer.step()
            schedule.step()
    return {"weights": wrapped.state_dict()}


def compare(seed: int, epochs: int) -> dict[str, object]:
    """The adaptive curve of a trained model beside the exhaustive one."""
    found = data()
    x, labels = found.validation.images.flatten(1), found.validation.labels
    wrapped = surgery.wrap(mlp(x.shape[1]), x[:2])
    wrapped.load_state_dict(train(seed, epochs)["weights"])

    def validate(model: nn.Module) -> Tensor:
        return model(x).argmax(1) == labels

    wanted = surgery.adaptive(TOLERANCE, lower=1 / 512, most=MOST)
    curve = surgery.sweep(wrapped, validate, wanted, measure_latency=False)
    every = surgery.sweep(wrapped, validate, WIDTHS, measure_latency=False)
    scores, errors = curve.belief.at(WIDTHS)
    return {
        "scores": [point.score for point in every],
        "believed": scores.tolist(),
        "errors": errors.tolist(),
        "evaluated": [point.widths["0.o"] for point in curve],
        "precision": curve.precision,
    }


def main(run: Run) -> list[dict[str, object]]:
    """Print and return one row per seed: how many widths were evaluated, and how far the curve is off at worst."""
    rows: list[dict[str, object]] = []
    epochs = 1 if run.quick else EPOCHS
    for seed in run.seeds(4):
        found = run.cell(compare, seed=seed, epochs=epochs)
        off = [abs(a - b) for a, b in zip(found["scores"], found["believed"], strict=True)]
        rows.append(
            {
                "seed": seed,
                "evaluations": len(found["evaluated"]),
                "of widths %": round(100 * len(found["evaluated"]) / 512, 1),
                "believed error, points": round(100 * found["precision"], 2),
                "largest error, points": round(100 * max(off), 2),
                "at width": 512 - off.index(max(off)),
                "mean error, points": round(100 * sum(off) / 512, 3),
                "full %": round(100 * found["scores"][0], 1),
            }
        )
        print(rows[-1])
    rows[0]["curve"] = run.cell(compare, seed=0, epochs=epochs)
    return rows


def plot(rows: list[dict[str, object]], path: Path) -> None:
    """The exhaustive curve of seed 0, the adaptive one with two standard errors, and the widths that it evaluated."""
    found: dict[str, list[float]] = rows[0]["curve"]  # type: ignore[assignment]
    figure = Figure(figsize=(6.4, 3.8), dpi=100, layout="constrained")
    axes = figure.subplots()
    believed, errors = (torch.tensor(found[name]) for name in ("believed", "errors"))
    widths = [round(512 * fraction) for fraction in WIDTHS]
    axes.plot(widths, found["scores"], ".", markersize=3, color="#444444", label="all 512 widths, one by one")
    axes.plot(widths, believed, color="#1f5f99", linewidth=1.2, label="the adaptive curve, ± two standard errors")
    axes.fill_between(widths, believed - 2 * errors, believed + 2 * errors, color="#1f5f99", alpha=0.25, linewidth=0)
    scores = dict(zip(widths, found["scores"], strict=True))
    evaluated = found["evaluated"]
    axes.plot(evaluated, [scores[width] for width in evaluated], "o", fillstyle="none", color="#c8540a",
              label=f"the {len(evaluated)} widths that it evaluated")  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set(xlabel="width of both hidden layers", ylabel="validation accuracy")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
