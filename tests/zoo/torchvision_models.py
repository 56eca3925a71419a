"""torchvision: every model of the listed modules, built with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from surgery.inputs import Inputs

from .entry import Built, Entry, image, integers, listed
from .runs import first_that_runs

# The smallest side is tried first. Some stems shrink the image so much that a small one leaves nothing.
SIDES = (64, 96, 128, 224)
VIDEO = ((8, 64), (16, 224))  # frames, side; mvit takes nothing but the larger


def entries() -> Iterator[Entry]:
    from torchvision import models

    for module in listed("torchvision.txt"):
        kind = module.rpartition(".")[2]
        for name in models.list_models(importlib.import_module(module)):
            build = partial(BUILDERS.get(kind, classification), name)
            yield Entry("torchvision", name, build, data_decides=kind == "detection")


def _make(name: str, **options: Any) -> torch.nn.Module:
    from torchvision import models

    options = {"weights": None, **options}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = True  # else it warns that the default will change
    return models.get_model(name, **options)


def classification(name: str) -> Built:
    if name.startswith("vit_"):  # the only ones that are built for one size
        side = 56 if name == "vit_h_14" else 64
        return Built(_make(name, image_size=side), partial(_images, side))
    model = _make(name)
    sides = (299,) if name == "inception_v3" else SIDES
    return first_that_runs(model, [partial(_images, side) for side in sides])


def segmentation(name: str) -> Built:
    return Built(_make(name, weights_backbone=None), partial(_images, 96))


def detection(name: str) -> Built:
    """Every box is kept, whatever its score: with random weights none would be good enough."""
    keep_all = {"box_score_thresh": 0.0} if "rcnn" in name else {"score_thresh": 0.0}
    keep_all |= {"box_detections_per_img": 6} if "rcnn" in name else {"detections_per_img": 6}
    model = _make(
        name, weights_backbone=None, num_classes=5, **keep_all, **SIZES.get(name, {"min_size": 96, "max_size": 128})
    )
    return Built(model, partial(_scenes, "mask" in name, "keypoint" in name))


SIZES: dict[str, dict[str, Any]] = {"ssd300_vgg16": {}, "ssdlite320_mobilenet_v3_large": {}}  # they resize to their own


def video(name: str) -> Built:
    return first_that_runs(_make(name), [partial(_clips, frames, side) for frames, side in VIDEO])


def optical_flow(name: str) -> Built:
    return Built(_make(name), _pairs)


def _images(side: int, seed: int) -> Inputs:
    return Inputs((image(seed, 2, 3, side, side),))


def _clips(frames: int, side: int, seed: int) -> Inputs:
    return Inputs((image(seed, 2, 3, frames, side, side),))


def _pairs(seed: int) -> Inputs:
    """Two frames, and fewer refinements than by default: they repeat the same layers."""
    return Inputs((image(seed, 2, 3, 128, 128), image(seed + 100, 2, 3, 128, 128), 2))


def _scenes(masks: bool, keypoints: bool, seed: int) -> Inputs:
    """Two images with one labelled box each; in eval mode the targets are not read."""
    target: dict[str, Any] = {"boxes": torch.tensor([[10.0, 12.0, 60.0, 70.0]]), "labels": integers(seed, 4, 1) + 1}
    if masks:
        target["masks"] = torch.ones(1, 96, 128, dtype=torch.uint8)
    if keypoints:
        target["keypoints"] = torch.tensor([[[20.0 + i, 30.0 + i, 1.0] for i in range(17)]], dtype=torch.float32)
    return Inputs(([image(seed, 3, 96, 128), image(seed + 100, 3, 96, 128)], [target, dict(target)]))


BUILDERS: dict[str, Callable[[str], Built]] = {
    "segmentation": segmentation,
    "detection": detection,
    "video": video,
    "optical_flow": optical_flow,
}
