"""One training of an image model on Fashion-MNIST: alone at a width, nested, or pruned and fine-tuned."""

from __future__ import annotations

import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.demo.data import Part
from tests.benchmarks.data import fashion_mnist
from tests.benchmarks.fitting import BATCH, Step, accuracy, fit
from tests.benchmarks.images import FRACTIONS, SETUPS

Value = dict[str, Any]
QUICK = 5_120  # training images of a quick look
# What `train_step` draws by default, but for `lower`: nothing below the smallest fraction of the tables.
DRAW = surgery.mixed(surgery.shared(p=1.0, lower=1 / 16, smallest=0.3), independent=0.25)
EXAMPLE = torch.zeros(2, 1, 28, 28)


def parts(quick: bool) -> tuple[Part, Part, Part]:
    train, validation, test = fashion_mnist()
    return (train.first(QUICK) if quick else train), validation, test


def measured(model: nn.Module, epochs: float, rate: float, seed: int, quick: bool, step: Step | None = None) -> float:
    """Train `model`; the seconds of one core that it took."""
    train, _, _ = parts(quick)
    start = time.process_time()
    fit(model, train, epochs, rate, seed, **({} if step is None else {"step": step}))
    return round(time.process_time() - start, 2)


def scores(model: nn.Module, quick: bool) -> Value:
    _, validation, test = parts(quick)
    return {"validation": accuracy(model, validation), "test": accuracy(model, test)}


def alone(model: str, fraction: float, rate: float, seed: int, epochs: float, quick: bool) -> Value:
    """A plain model of this width, trained alone."""
    torch.manual_seed(seed)
    built = SETUPS[model].build(fraction)
    seconds = measured(built, epochs, rate, seed, quick)
    return {"seconds": seconds, **scores(built, quick), **({"weights": built.state_dict()} if fraction == 1 else {})}


def recipe(model: str) -> Value:
    """How narrow widths are trained, as a part of the key of a cell."""
    return {"draw": repr(DRAW), "narrow": SETUPS[model].narrow, "weight": SETUPS[model].weight}


def nested_step(name: str) -> Step:
    """Gradients of one batch: of full width, and of drawn widths."""
    setup = SETUPS[name]

    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        narrow = [DRAW] * setup.narrow
        surgery.train_step(model, x, lambda output: F.cross_entropy(output, y), narrow=narrow, weight=setup.weight)

    return step


def at_each_width(wrapped: nn.Module, quick: bool) -> list[Value]:
    """Scores at every fraction; BatchNorm gets the statistics of ten batches of training images."""
    batches = parts(quick)[0].images[: 10 * BATCH].split(BATCH)
    found = []
    for fraction in FRACTIONS:
        with surgery.at_widths(wrapped, fraction):
            surgery.recalibrate(wrapped, batches)
            found.append(scores(wrapped, quick))
    return found


def nested(model: str, rate: float, seed: int, epochs: float, quick: bool, recipe: Value) -> Value:
    """One model trained for all widths; `recipe` is a part of the key."""
    torch.manual_seed(seed)
    built = SETUPS[model].build(1.0)
    generator = torch.Generator().manual_seed(seed)
    wrapped = surgery.wrap(built, EXAMPLE, generator=generator)
    seconds = measured(wrapped, epochs, rate, seed, quick, nested_step(model))
    widths = at_each_width(wrapped, quick)
    validation = sum(width["validation"] for width in widths) / len(widths)
    return {"seconds": seconds, "validation": validation, "widths": widths, "weights": built.state_dict()}


def pruned(model: str, fraction: float, rate: float, seed: int, epochs: float, quick: bool, start: Value) -> Value:
    """The plain model, cut by Torch-Pruning to the same widths (group L2 magnitude) and fine-tuned."""
    try:
        import torch_pruning
    except ImportError as error:
        raise SystemExit("the comparison needs Torch-Pruning: pip install 'model-surgery[benchmarks]'") from error
    torch.manual_seed(seed)
    built = SETUPS[model].build(1.0)
    built.load_state_dict(start)
    if fraction < 1:
        importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        torch_pruning.pruner.BasePruner(
            built, EXAMPLE, importance, pruning_ratio=1 - fraction, ignored_layers=[built[-1]]
        ).step()
    if shapes(built) != shapes(SETUPS[model].build(fraction)):
        raise RuntimeError(f"Torch-Pruning gave other widths than {fraction}:\n{built}")
    seconds = measured(built, epochs, rate, seed, quick)
    return {"seconds": seconds, **scores(built, quick)}


def shapes(model: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in model.parameters()]
