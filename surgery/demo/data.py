"""Small sets of real images, split into training, validation and test parts."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from surgery.errors import InputError

KINDS = ("images-idx3", "labels-idx1")  # the files of MNIST's format
SPLIT_SEED = 0  # the split never depends on the seed of a run: results stay comparable


@dataclass(frozen=True)
class Part:
    """Images (N, 1, H, W), with mean 0 and deviation 1 over the training part, and their labels (N)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Part:
        return Part(self.images[:count], self.labels[:count])


@dataclass(frozen=True)
class Data:
    """Training data, validation data to choose on, and test data to report on."""

    name: str
    train: Part
    validation: Part
    test: Part
    classes: int = 10


def digits(root: Path | None = None) -> Data:
    """1,797 images of 8 x 8 pixels from scikit-learn, which holds them: 60 % training, 20 % validation, 20 % test.

    Raises:
        InputError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise InputError("the digits come with scikit-learn: pip install 'model-surgery[demo]'") from error
    found = load_digits()
    images = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1)
    labels = torch.tensor(found.target, dtype=torch.long)
    train, validation, test = (Part(images[rows], labels[rows]) for rows in stratified(labels, (0.6, 0.2, 0.2)))
    return normalised("digits", train, validation, test)


def fashion_mnist(root: Path | None = None) -> Data:
    """28 x 28 pixels, ten kinds of clothes: 12,000 images to train on, 3,000 to validate, and the whole test set.

    Args:
        root: a folder with the four files of the data, packed or not, or with torchvision's `FashionMNIST` folder.
            None downloads them through torchvision into the user's cache.

    Raises:
        InputError: the folder does not hold the data, torchvision is not installed, or the download failed.
    """
    folder = root if root is not None else download(Path(torch.hub.get_dir()).parent / "surgery")
    known, test = (Part(*(read_idx(folder, f"{part}-{kind}") for kind in KINDS)) for part in ("train", "t10k"))
    rows = stratified(known.labels, (0.2, 0.05))
    train, validation = (Part(known.images[chosen], known.labels[chosen]) for chosen in rows)
    return normalised("fashion-mnist", train, validation, test)


def download(folder: Path) -> Path:
    try:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(str(folder), download=True)
    except ImportError as error:
        raise InputError("Fashion-MNIST is loaded by torchvision: pip install 'model-surgery[vision]'") from error
    except (RuntimeError, OSError) as error:
        raise InputError(f"fashion-mnist: the download failed ({error}). Name a copy with --root") from error
    return folder


def read_idx(root: Path, name: str) -> Tensor:
    """The images (N, 1, 28, 28) or labels (N) in one file of MNIST's format: a header, then a byte for each number."""
    folders = (root, root / "FashionMNIST" / "raw")
    paths = [folder / f"{name}-ubyte{packed}" for folder in folders for packed in ("", ".gz")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise InputError(f"fashion-mnist: {name}-ubyte (or .gz) is in none of {', '.join(map(str, folders))}")
    try:
        data = path.read_bytes() if path.suffix != ".gz" else gzip.decompress(path.read_bytes())
        dims = [int.from_bytes(data[4 * i : 4 * i + 4], "big") for i in range(1, data[3] + 1)]
        values = torch.frombuffer(bytearray(data), dtype=torch.uint8, offset=4 * len(dims) + 4).reshape(dims)
    except (OSError, EOFError, ValueError, RuntimeError, IndexError, zlib.error) as error:
        raise InputError(f"{path} is damaged ({error}): load it again") from error
    return values.unsqueeze(1).float() if values.dim() == 3 else values.long()


DATA: dict[str, Callable[[Path | None], Data]] = {"digits": digits, "fashion-mnist": fashion_mnist}


def stratified(labels: Tensor, shares: tuple[float, ...]) -> list[Tensor]:
    """Disjoint sets of rows, one for each share, in random order; every class has its share in each set."""
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    parts: list[list[Tensor]] = [[] for _ in shares]
    for label in labels.unique():
        rows = (labels == label).nonzero().flatten()
        rows = rows[torch.randperm(len(rows), generator=generator)]
        start = 0.0
        for part, share in zip(parts, shares, strict=True):
            part.append(rows[round(start * len(rows)) : round((start + share) * len(rows))])
            start += share
    joined = [torch.cat(part) for part in parts]
    return [rows[torch.randperm(len(rows), generator=generator)] for rows in joined]


def normalised(name: str, *parts: Part) -> Data:
    """The data with the mean and deviation of the training images, the first part, taken out of all parts."""
    mean, deviation = parts[0].images.mean(), parts[0].images.std()
    train, validation, test = (Part((part.images - mean) / deviation, part.labels) for part in parts)
    return Data(name, train, validation, test)
