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
from tests.benchmarks.fitting import Step, accuracy, fit, plain
from tests.benchmarks.images import FRACTIONS, SETUPS

Value = dict[str, Any]
QUICK = 5_120  # training images of a quick look
# In each step a small, a middle and a large width of the tables. Each counts as much as the full one.
NARROW = tuple(
    surgery.mixed(surgery.grid(fractions), independent=0.25)
    for fractions in ((1 / 16, 1 / 8), (1 / 8, 3 / 16, 1 / 4), (1 / 4, 3 / 8, 1 / 2, 3 / 4))
)
CALIBRATION = 2_560  # images that BatchNorm is recalibrated on
EXAMPLE = torch.zeros(2, 1, 28, 28)


def parts(quick: bool) -> tuple[Part, Part, Part]:
    train, validation, test = fashion_mnist()
    return (train.first(QUICK) if quick else train), validation, test


def measured(name: str, model: nn.Module, epochs: float, rate: float, seed: int, quick: bool, step: Step) -> float:
    """Train `model` as the setup of this name says; the seconds of one core that it took."""
    train, _, _ = parts(quick)
    start = time.process_time()
    fit(model, train, epochs, rate, seed, SETUPS[name].batch, step)
    return round(time.process_time() - start, 2)


def scores(model: nn.Module, quick: bool) -> Value:
    _, validation, test = parts(quick)
    return {"validation": accuracy(model, validation), "test": accuracy(model, test)}


def alone(model: str, fraction: float, rate: float, seed: int, epochs: float, quick: bool) -> Value:
    """A plain model of this width, trained alone."""
    torch.manual_seed(seed)
    built = SETUPS[model].build(fraction)
    seconds = measured(model, built, epochs, rate, seed, quick, plain)
    return {"seconds": seconds, **scores(built, quick), **({"weights": built.state_dict()} if fraction == 1 else {})}


def recipe() -> Value:
    """How narrow widths are trained, as a part of the key of a cell."""
    return {"narrow": repr(NARROW), "weight": len(NARROW)}


def nested_step(model: nn.Module, x: Tensor, y: Tensor) -> None:
    """Gradients of one batch: of full width, and of drawn widths."""
    surgery.train_step(model, x, lambda output: F.cross_entropy(output, y), narrow=NARROW, weight=len(NARROW))


def batches(quick: bool) -> list[Tensor]:
    """Training images for `surgery.recalibrate`."""
    return list(parts(quick)[0].images[:CALIBRATION].split(256))


def at_each_width(wrapped: nn.Module, quick: bool) -> list[Value]:
    """Scores at every fraction, BatchNorm recalibrated."""
    found, images = [], batches(quick)
    for fraction in FRACTIONS:
        with surgery.at_widths(wrapped, fraction):
            surgery.recalibrate(wrapped, images)
            found.append(scores(wrapped, quick))
    return found


def nested(model: str, rate: float, seed: int, epochs: float, quick: bool, recipe: Value) -> Value:
    """One model trained for all widths; `recipe` is a part of the key."""
    torch.manual_seed(seed)
    built = SETUPS[model].build(1.0)
    generator = torch.Generator().manual_seed(seed)
    wrapped = surgery.wrap(built, EXAMPLE, generator=generator)
    seconds = measured(model, wrapped, epochs, rate, seed, quick, nested_step)
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
    seconds = measured(model, built, epochs, rate, seed, quick, plain)
    return {"seconds": seconds, **scores(built, quick)}


def shapes(model: nn.Module) -> list[torch.Size]:
    return [parameter.shape for parameter in model.parameters()]
