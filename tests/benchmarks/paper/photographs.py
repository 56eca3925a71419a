"""Photographs that packages ship, to learn to enlarge on: scikit-image, scikit-learn and matplotlib."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 192  # pixels of a photograph that is scored
PATCH, QUERIES, MOST = 24, 256, 4.0  # pixels of a small patch, colours asked of each, the largest enlargement
NAMES = {
    "train": ("coffee", "rocket", "hubble_deep_field", "immunohistochemistry", "camera", "brick", "grass", "gravel"),
    "validation": ("flower", "grace_hopper"),
    "test": ("astronaut", "chelsea", "china"),
}


def read(name: str) -> Tensor:
    """Colours (3, height, width) in [0, 1]."""
    if name in ("flower", "china"):
        from sklearn.datasets import load_sample_image

        pixels = load_sample_image(f"{name}.jpg")
    elif name == "grace_hopper":
        from matplotlib import cbook, image

        with cbook.get_sample_data(f"{name}.jpg") as file:
            pixels = image.imread(file, format="jpg")
    else:
        try:
            from skimage import data
        except ImportError as error:
            raise SystemExit("photographs need scikit-image: pip install 'model-surgery[benchmarks]'") from error
        pixels = getattr(data, name)()
    found = torch.from_numpy(numpy.array(pixels)).float() / 255
    found = found[..., None].expand(-1, -1, 3) if found.dim() == 2 else found[..., :3]  # grey, or with an alpha
    return found.permute(2, 0, 1).contiguous()


@functools.cache
def photographs(part: str) -> tuple[Tensor, ...]:
    """To train on whole, to score on a square in the middle."""
    found = [read(name) for name in NAMES[part]]
    return tuple(found if part == "train" else map(middle, found))


def middle(image: Tensor) -> Tensor:
    top, left = ((size - SIDE) // 2 for size in image.shape[1:])
    return image[:, top : top + SIDE, left : left + SIDE]


def smaller(image: Tensor, height: int, width: int) -> Tensor:
    """An image (3, H, W) at another size."""
    sized = F.interpolate(image[None], (height, width), mode="bicubic", antialias=True, align_corners=False)
    return sized[0].clamp(0, 1)


def centres(height: int, width: int) -> Tensor:
    """Where the pixels of an image are (height * width, 2), y before x, in [-1, 1]."""
    axes = [(2 * torch.arange(size) + 1) / size - 1 for size in (height, width)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).view(-1, 2)


def asked(image: Tensor, times: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of an image (1, 3, H, W) made `times` smaller: it, where its pixels were (1, H * W, 2), and their size."""
    _, _, height, width = image.shape
    small = smaller(image[0], round(height / times), round(width / times))[None]
    cell = torch.tensor([2 / height, 2 / width]).expand(1, height * width, 2)
    return small, centres(height, width)[None], cell


def batches(seed: int, size: int) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor], Tensor]]:
    """Small patches (B, 3, PATCH, PATCH), where colours are asked for (B, QUERIES, 2), how large a pixel is there, and
    the colours (B, QUERIES, 3), of patches that were up to four times as large."""
    images, generator = photographs("train"), torch.Generator().manual_seed(seed)

    def draw(high: int) -> int:
        return int(torch.randint(high, (1,), generator=generator))

    while True:
        rows = []
        for _ in range(size):
            image = images[draw(len(images))]
            side = round(PATCH * (1 + (MOST - 1) * torch.rand((), generator=generator).item()))
            top, left = (draw(length - side + 1) for length in image.shape[1:])
            patch = image[:, top : top + side, left : left + side]
            patch = patch.flip(2) if draw(2) else patch
            patch = patch.transpose(1, 2) if draw(2) else patch
            chosen = torch.randperm(side * side, generator=generator)[:QUERIES]
            where, cell = centres(side, side)[chosen], torch.full((QUERIES, 2), 2 / side)
            rows.append((smaller(patch, PATCH, PATCH), where, cell, patch.flatten(1)[:, chosen].T))
        small, where, cell, colours = (torch.stack(column) for column in zip(*rows, strict=True))
        yield (small, where, cell), colours
