"""Operations of torchvision, by name: it need not be installed."""

from __future__ import annotations

from surgery.rules.base import Dims, Result, each_result, ordered, positions, result_shape
from surgery.rules.registry import rule


@rule("torchvision::nms")
def nms(boxes: Dims, scores: Dims, *_: object) -> Dims:
    for dim in (*boxes, *scores):
        ordered(dim, "boxes are selected")
    return Dims(map(positions, result_shape()))


@rule("torchvision::roi_align", "torchvision::roi_pool")
def roi_align(x: Dims, boxes: Dims, *_: object) -> Result:
    """Channels carry over; boxes say which image, and where in it."""
    for dim in (x[0], *x[2:], boxes[1]):
        ordered(dim, "coordinates")
    return each_result(lambda shape: Dims((boxes[0], x[1], *map(positions, shape[2:]))))
