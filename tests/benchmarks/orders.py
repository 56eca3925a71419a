"""Orders and refits without training, on ten models that were trained here: `python -m tests.benchmarks orders`.

Image models of timm (`pip install timm`), of this folder, and recurrences over the rows of an image, each trained for
a few epochs on a part of Fashion-MNIST. Every group is cut to one fraction.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import surgery
from tests.benchmarks.fitting import accuracy, fit, plain
from tests.benchmarks.image_cells import parts
from tests.benchmarks.images import cnn, mlp
from tests.benchmarks.run import Run
from tests.benchmarks.start import order, took

Value = dict[str, Any]
FRACTIONS = (0.75, 0.5, 0.25)
ORDERS = ("none", "magnitude", "activation", "absorbed")
IMAGES, EPOCHS, BATCH, RATE = 8_192, 4, 128, 2e-3
CALIBRATION, TEST = 1_024, 2_000


class Rows(nn.Module):
    """Reads an image row by row."""

    def __init__(self, kind: type[nn.RNNBase]):
        super().__init__()
        self.embed = nn.Linear(28, 64)
        self.rnn = kind(64, 96, num_layers=2, batch_first=True)
        self.head = nn.Linear(96, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x[:, 0]).relu())[0].mean(1))


def of_timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    """A model of timm for images of one channel; they are padded to 32 x 32."""

    def build() -> nn.Module:
        try:
            import timm
        except ImportError as error:
            raise SystemExit("the models of this benchmark need timm: pip install timm") from error
        return nn.Sequential(nn.ZeroPad2d(2), timm.create_model(name, in_chans=1, num_classes=10, **options))

    return build


VIT = {"img_size": 32, "patch_size": 4, "embed_dim": 96, "depth": 4}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "lstm": lambda: Rows(nn.LSTM),
    "gru": lambda: Rows(nn.GRU),
    "resnet10t": of_timm("resnet10t"),
    "regnetx_002": of_timm("regnetx_002"),
    "mobilenetv3_small_075": of_timm("mobilenetv3_small_075"),
    "convnext_atto": of_timm("convnext_atto"),
    "vit, 4 blocks of 96": of_timm("vit_tiny_patch16_224", num_heads=4, **VIT),
    "edgenext_xx_small": of_timm("edgenext_xx_small"),
}


def trained(name: str, seed: int, quick: bool) -> nn.Module:
    train, _, _ = parts(False)
    torch.manual_seed(seed)
    model = MODELS[name]()
    fit(model, train.first(1_280 if quick else IMAGES), 1 if quick else EPOCHS, RATE, seed, BATCH, plain)
    return model


def cut(name: str, seed: int, quick: bool) -> Value:
    """Test accuracy of one trained model, whole and cut, by each order, with a refit and without. With seconds."""
    train, _, test = parts(False)
    began = time.process_time()
    model = trained(name, seed, quick)
    found: Value = {"full": accuracy(model, test.first(TEST)), "epoch s": round(took(began) / EPOCHS, 1)}
    calibration, example = list(train.images[:CALIBRATION].split(128)), train.images[:2]
    found["elastic"] = surgery.inspect(model, example).elastic_share
    for by in ORDERS:
        began = time.process_time()
        criterion = order(by, calibration)
        ordered = model if criterion is None else surgery.sort(model, example, by=criterion)
        wrapped, seconds = surgery.wrap(ordered, example, calibration=calibration).eval(), took(began)
        row: Value = {"sort s": seconds, "sliced": [], "refitted": []}
        for fraction in FRACTIONS:
            row["sliced"].append(accuracy(surgery.shrink(wrapped, fraction), test.first(TEST)))
            began = time.process_time()
            small = surgery.shrink(wrapped, fraction, refit=calibration)
            row["refit s"] = took(began)
            row["refitted"].append(accuracy(small, test.first(TEST)))
        found[by] = row
    return found


def main(run: Run) -> list[Value]:
    """Print and return a row for each model: test accuracy at every fraction, by order, sliced and refitted."""
    rows: list[Value] = []
    for name in MODELS:
        found = run.cell(cut, name=name, seed=0, quick=run.quick)
        rows.append({"model": name, **found})
        print(name, found, flush=True)
    return rows
