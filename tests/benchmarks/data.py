"""The data sets of the benchmarks, from a folder: `SURGERY_DATA`, or `../shared/data` beside this repository."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from surgery.demo.data import KINDS, Part, download, read_idx
from surgery.errors import InputError

HERE = Path(__file__).resolve().parents[2]
VALIDATION = 5_000  # images kept from training, to choose on
CACHE = Path(torch.hub.get_dir()).parent / "surgery"  # what is downloaded
PLAYS = 0.05  # of the training text, its end, to choose on


def folder() -> Path:
    return Path(os.environ.get("SURGERY_DATA", HERE.parent / "shared" / "data"))


@functools.cache
def fashion_mnist() -> tuple[Part, Part, Part]:
    """55,000 images to train on, 5,000 to validate, 10,000 to test; mean 0 and deviation 1 over the training part.

    Without a copy in the folder, torchvision downloads them into the user's cache.
    """
    root = folder() / "fashion-mnist"
    try:
        return _split(root if root.exists() else download(CACHE))
    except InputError as error:
        raise SystemExit(f"no Fashion-MNIST: {error}. Name a folder of data with SURGERY_DATA") from error


@functools.cache
def mnist() -> tuple[Part, Part, Part]:
    """The same of MNIST, from the folder, or as torchvision downloads it."""
    root = folder() / "mnist"
    try:
        if not root.exists():
            from torchvision.datasets import MNIST

            root = Path(MNIST(str(CACHE), download=True).raw_folder)
        return _split(root)
    except (InputError, ImportError, RuntimeError, OSError) as error:
        raise SystemExit(
            f"no MNIST: {error}. Name a folder of data, with its files in mnist/, with SURGERY_DATA"
        ) from error


def shuffled(count: int, size: int, order: torch.Generator) -> Iterator[Tensor]:
    """Rows of batches for ever, each epoch in an order of its own; what is left over at its end is left out."""
    while True:
        yield from torch.randperm(count, generator=order)[: count // size * size].split(size)


def _split(root: Path) -> tuple[Part, Part, Part]:
    known, test = (Part(*(read_idx(root, f"{part}-{kind}") for kind in KINDS)) for part in ("train", "t10k"))
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
    pixels = known.images[order[VALIDATION:]]
    mean, deviation = pixels.mean(), pixels.std()
    chosen = ((known, order[VALIDATION:]), (known, order[:VALIDATION]), (test, slice(None)))
    train, validation, test = (Part((part.images[rows] - mean) / deviation, part.labels[rows]) for part, rows in chosen)
    return train, validation, test


@functools.cache
def shakespeare() -> tuple[Tensor, Tensor, Tensor]:
    """The plays as bytes (N), uint8: to train on, to validate (the end of the training text), to test (other plays)."""
    paths = [folder() / "shakespeare" / f"{part}.txt" for part in ("train", "test")]
    for path in paths:
        if not path.is_file():
            raise SystemExit(f"{path} is missing: put two texts there, or name their folder with SURGERY_DATA")
    known, test = (torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8) for path in paths)
    end = round(len(known) * (1 - PLAYS))
    return known[:end], known[end:], test
