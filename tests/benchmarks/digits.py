"""One training against a training for every width, on scikit-learn's digits: `python -m tests.benchmarks digits`.

The model is an MLP 64-256-256-10; every run has 100 epochs, batches of 64, AdamW without decay and label smoothing 0.1,
alone and nested alike. For each width, the models trained alone take the best of `SETTINGS` by mean validation
accuracy; so does the nested training, by its mean over widths. Test accuracies are of what was chosen.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from tqdm import tqdm

import surgery
from tests.benchmarks.data import shuffled
from tests.benchmarks.run import Run

# S seeds, B batch

WIDTHS = (8, 16, 24, 32, 64, 128, 256)
EPOCHS, BATCH, SMOOTHING = 100, 64, 0.1
SETTINGS = (("one-cycle", 3e-3), ("one-cycle", 1e-2), ("one-cycle", 3e-2), ("constant", 3e-3))
PAPER_RATE = 8e-4
# test accuracy %, measured with the paper's own code: H/c, independent cuts, 5 seeds
PAPER_CODE = {0.5: (37.2, 73.0, 86.4, 93.9, 96.3, 97.7, 98.0), 0.9: (48.0, 79.2, 88.7, 94.2, 96.8, 97.4, 98.0)}

Loss = Callable[[Tensor], Tensor]
Step = Callable[[nn.Module, Tensor, Loss], object]
Parts = dict[str, tuple[Tensor, Tensor]]


def data(seed: int) -> Parts:
    """Images (pixels in [0, 1]) and labels: 60 % to train on, 20 % to choose with, 20 % to report on."""
    x, y = load_digits(return_X_y=True)
    rest_x, test_x, rest_y, test_y = train_test_split(x / 16, y, test_size=0.2, random_state=seed, stratify=y)
    split = train_test_split(rest_x, rest_y, test_size=0.25, random_state=seed, stratify=rest_y)
    train_x, validation_x, train_y, validation_y = split
    parts = {
        "train": (train_x, train_y),
        "validation": (validation_x, validation_y),
        "test": (test_x, test_y),
    }
    return {name: (torch.as_tensor(x).float(), torch.as_tensor(y)) for name, (x, y) in parts.items()}


def mlp(width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    return nn.Sequential(*layers)


ONE = (surgery.mixed(surgery.shared(p=1.0, smallest=0.3)),)  # a narrow width of all, down to 1/32


def smoothed(output: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(output, labels, label_smoothing=SMOOTHING)


def rates(schedule: str, rate: float, steps: int) -> Callable[[int], float]:
    """The learning rate of each step: constant, or risen and fallen along cosines (Smith 2018, arXiv:1708.07120)."""
    if schedule == "constant":
        return lambda step: rate
    top = 0.3 * steps

    def at(step: int) -> float:
        start, end, part = (rate / 25, rate, step / top) if step < top else (rate, 0.0, (step - top) / (steps - top))
        return end + (start - end) * (1 + math.cos(math.pi * part)) / 2

    return at


def batches(count: int, epochs: int, seed: int) -> Iterator[Tensor]:
    """Rows of each step."""
    yield from itertools.islice(shuffled(count, BATCH, torch.Generator().manual_seed(seed)), epochs * (count // BATCH))


def optimize(parameters: list[Tensor], gradients: Callable[[Tensor], None], rows: list[Tensor], rate: Callable) -> None:
    """Steps of AdamW; `gradients` makes those of one batch."""
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.0)
    for step, batch in enumerate(rows):
        optimizer.param_groups[0]["lr"] = rate(step)
        optimizer.zero_grad()
        gradients(batch)
        optimizer.step()


def alone(width: int, schedule: str, rate: float, seeds: int, epochs: int) -> dict[str, list[float]]:
    """Accuracy (%) of plain models of one width, one for each seed. They are trained at once: Adam is element-wise."""
    parts, models = [data(seed) for seed in range(seeds)], [mlp(width, seed) for seed in range(seeds)]
    state, _ = stack_module_state(models)  # type: ignore[arg-type]
    forward = vmap(lambda tensors, x: functional_call(models[0], tensors, (x,)))
    x, y = (torch.stack([part["train"][i] for part in parts]) for i in (0, 1))  # S N 64, S N
    orders = [list(batches(x.shape[1], epochs, seed)) for seed in range(seeds)]
    rows = [torch.stack(batch) for batch in zip(*orders, strict=True)]  # S B
    seed = torch.arange(seeds)[:, None]

    def gradients(batch: Tensor) -> None:
        (seeds * smoothed(forward(state, x[seed, batch]).flatten(0, 1), y[seed, batch].flatten())).backward()

    optimize(list(state.values()), gradients, rows, rates(schedule, rate, len(rows)))
    found = {}
    for name in ("validation", "test"):
        x_, y_ = (torch.stack([part[name][i] for part in parts]) for i in (0, 1))
        found[name] = (100 * (forward(state, x_).argmax(-1) == y_).double().mean(1)).tolist()
    return found


def nested(seed: int, schedule: str, rate: float, epochs: int) -> dict[str, list[float]]:
    """Accuracy (%) at every width after one training with one narrow width of all in each step."""
    return accuracies(*train(seed, rates(schedule, rate, steps(epochs)), epochs, one_narrow))


def one_narrow(wrapped: nn.Module, x: Tensor, loss: Loss) -> None:
    """A step at full width and one that is drawn from all, down to 1/32: each is learnt alike, and none best."""
    surgery.train_step(wrapped, x, loss, narrow=ONE)


def train(
    seed: int,
    rate: Callable[[int], float],
    epochs: int,
    step: Step,
    loss: Callable[[Tensor, Tensor], Tensor] = smoothed,
    build: Callable[[int], nn.Module] = lambda seed: mlp(256, seed),
    **options: object,
) -> tuple[nn.Module, Parts]:
    """A wrapped model after one training, and its data; `options` are for `surgery.wrap`."""
    parts = data(seed)
    x, y = parts["train"]
    generator = torch.Generator().manual_seed(seed)
    wrapped = surgery.wrap(build(seed), x[:2], generator=generator, **options).train()

    def gradients(batch: Tensor) -> None:
        step(wrapped, x[batch], lambda output: loss(output, y[batch]))

    optimize(list(wrapped.parameters()), gradients, list(batches(len(x), epochs, seed)), rate)
    return wrapped.eval(), parts


def steps(epochs: int) -> int:
    return epochs * (len(data(0)["train"][0]) // BATCH)


@torch.no_grad()
def accuracy(wrapped: nn.Module, widths: object, x: Tensor, y: Tensor) -> float:
    """Accuracy (%) of a wrapped model in eval mode."""
    with surgery.at_widths(wrapped, widths):
        return 100 * (wrapped(x).argmax(1) == y).double().mean().item()


def accuracies(wrapped: nn.Module, parts: Parts) -> dict[str, list[float]]:
    """Accuracies (%) at every width."""
    return {
        name: [accuracy(wrapped, {"*": width}, *parts[name]) for width in WIDTHS] for name in ("validation", "test")
    }


def drawn(wrapped: nn.Module, x: Tensor, loss: Loss) -> None:
    """A step of an ordinary loop: one forward, at the widths that it draws."""
    loss(wrapped(x)).backward()


def paper(seed: int, p: float, epochs: int) -> dict[str, list[float]]:
    """The paper's training: independent uniform cuts, H/c, Adam at a constant rate, plain cross-entropy."""
    draw = surgery.paper(p=p, rescale=True)
    return accuracies(*train(seed, lambda step: PAPER_RATE, epochs, drawn, F.cross_entropy, draw=draw))


def ratio(rounds: int) -> dict[str, float]:
    """The median time of a nested step over that of a plain one, both with their optimizer, run in turn."""
    x, y = data(0)["train"]
    plain, wrapped = mlp(256, 0), surgery.wrap(mlp(256, 0), x[:2]).train()
    runs = {
        "plain": (plain, lambda x, y: smoothed(plain(x), y).backward()),
        "nested": (wrapped, lambda x, y: one_narrow(wrapped, x, lambda output: smoothed(output, y))),
    }
    optimizers = {name: torch.optim.AdamW(model.parameters()) for name, (model, _) in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for batch in list(batches(len(x), rounds // 16 + 1, 0))[:rounds]:
        for name, (_, gradients) in runs.items():
            start = time.process_time()
            optimizers[name].zero_grad()
            gradients(x[batch], y[batch])
            optimizers[name].step()
            times[name].append(time.process_time() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"nested / plain": round(medians["nested"] / medians["plain"], 2)}


def main(run: Run) -> list[dict[str, object]]:
    """Print and return one row per training: mean test accuracy (%) and standard deviation over seeds at each width."""
    seeds, epochs = run.seeds(5), 5 if run.quick else EPOCHS
    settings = SETTINGS[1:2] if run.quick else SETTINGS
    ran = {
        (width, setting): run.cell(
            alone, width=width, schedule=setting[0], rate=setting[1], seeds=len(seeds), epochs=epochs
        )
        for width in tqdm(WIDTHS, "alone")
        for setting in settings
    }
    best = [max(settings, key=lambda s, w=width: statistics.mean(ran[w, s]["validation"])) for width in WIDTHS]  # type: ignore[misc]
    single = [ran[width, setting]["test"] for width, setting in zip(WIDTHS, best, strict=True)]
    tried = {
        setting: [
            run.cell(nested, seed=seed, schedule=setting[0], rate=setting[1], epochs=epochs)
            for seed in tqdm(seeds, f"nested {setting}")
        ]
        for setting in settings
    }
    chosen = max(settings, key=lambda s: statistics.mean(v for one in tried[s] for v in one["validation"]))
    rows = [row("each width alone", single, settings=[" ".join(map(str, setting)) for setting in best])]
    rows.append(row("nested, default recipe", by_width(tried[chosen]), settings=[" ".join(map(str, chosen))]))
    for p, code in PAPER_CODE.items():
        found = [run.cell(paper, seed=seed, p=p, epochs=epochs) for seed in tqdm(seeds, f"paper {p}")]
        rows.append(row(f"paper(p={p})", by_width(found)))
        rows.append({"training": f"the paper's own code, p={p}", "test %": list(code)})
    rows.append({"training": "time of a step", **run.cell(ratio, rounds=60 if run.quick else 600)})
    for line in rows:
        print(line)
    return rows


def by_width(found: list[dict[str, list[float]]]) -> list[list[float]]:
    """Test accuracies by width, then seed."""
    return [list(values) for values in zip(*(one["test"] for one in found), strict=True)]


def row(name: str, by_width: list[list[float]], **more: object) -> dict[str, object]:
    means = [statistics.mean(values) for values in by_width]
    spread = [statistics.stdev(values) if len(values) > 1 else 0.0 for values in by_width]
    return {"training": name, "test %": [round(m, 1) for m in means], "stdev": [round(s, 1) for s in spread],
            "mean over widths": round(statistics.mean(means), 2), **more}  # fmt: skip
