"""Operations of torchvision, by name: it need not be installed."""

from __future__ import annotations

from typing import Any

from surgery.rules.base import Dims, ordered, positions, result_shape
from surgery.rules.registry import rule


@rule("torchvision::nms")
def nms(boxes: Dims, scores: Dims, *_: Any) -> Dims:
    for dim in (*boxes, *scores):
        ordered(dim, "boxes are selected")
    return Dims(map(positions, result_shape()))


@rule("torchvision::roi_align", "torchvision::roi_pool")
def roi_align(x: Dims, boxes: Dims, *_: Any) -> Any:
    """Channels carry over; boxes say which image, and where in it."""
    for dim in (x[0], *x[2:], boxes[1]):
        ordered(dim, "coordinates")
    shape = result_shape()
    results = [Dims((boxes[0], x[1], *map(positions, s[2:]))) for s in (shape if isinstance(shape, list) else [shape])]
    return results if isinstance(shape, list) else results[0]
