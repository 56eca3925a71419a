"""torchvision: every model of the listed modules, built with random weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from surgery.modules.inputs import Inputs

from .entry import Built, Entry, image, integers, listed
from .runs import first_that_runs

# The smallest side is tried first. After five halvings that round up, 33 leaves two positions a side. Some stems shrink
# the image so much that a small one leaves nothing.
SIDES = (33, 64, 96, 128, 224)
VIDEO = ((8, 33), (13, 209))  # frames, side; s3d takes nothing but the larger


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
        side = {"14": 28, "16": 32, "32": 64}[name[-2:]]  # two patches a side
        return Built(_make(name, image_size=side), partial(_images, side))
    model = _make(name)
    sides = (299,) if name == "inception_v3" else SIDES
    return first_that_runs(model, [partial(_images, side) for side in sides])


def segmentation(name: str) -> Built:
    return Built(_make(name, weights_backbone=None), partial(_images, 33))


FEW = 16  # boxes that a second stage looks at: by default a thousand, which is nearly all of its work
RCNN = {"box_score_thresh": 0.0, "box_detections_per_img": 2, "box_batch_size_per_image": FEW}
RCNN |= {f"rpn_post_nms_top_n_{mode}": FEW for mode in ("train", "test")}
ONE_STAGE = {"score_thresh": 0.0, "detections_per_img": 6, "topk_candidates": 2 * FEW}


def detection(name: str) -> Built:
    """Every box is kept, whatever its score: with random weights none would be good enough."""
    few = RCNN if "rcnn" in name else ONE_STAGE
    sizes = SIZES.get(name, {"min_size": SCENE[0], "max_size": SCENE[1]})
    model = _make(name, weights_backbone=None, num_classes=5, **few, **sizes)
    return Built(model, partial(_scenes, "mask" in name, "keypoint" in name))


SCENE = (64, 96)  # height, width
SIZES: dict[str, dict[str, Any]] = {"ssd300_vgg16": {}, "ssdlite320_mobilenet_v3_large": {}}  # they resize to their own


def video(name: str) -> Built:
    if name.startswith("mvit_"):
        return Built(_small_mvit(name), partial(_clips, 4, 64))
    return first_that_runs(_make(name), [partial(_clips, frames, side) for frames, side in VIDEO])


def _small_mvit(name: str) -> torch.nn.Module:
    """The class takes any size of clips. Its builders take none: they ask for 16 frames of 224."""
    from torchvision.models.video import mvit

    made = mvit.MViT
    with patch.object(mvit, "MViT", lambda **named: made(**{**named, "spatial_size": (64, 64), "temporal_size": 4})):
        return _make(name)


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
    target: dict[str, Any] = {"boxes": torch.tensor([[10.0, 12.0, 60.0, 55.0]]), "labels": integers(seed, 4, 1) + 1}
    if masks:
        target["masks"] = torch.ones(1, *SCENE, dtype=torch.uint8)
    if keypoints:
        target["keypoints"] = torch.tensor([[[20.0 + i, 30.0 + i, 1.0] for i in range(17)]], dtype=torch.float32)
    return Inputs(([image(seed, 3, *SCENE), image(seed + 100, 3, *SCENE)], [target, dict(target)]))


BUILDERS: dict[str, Callable[[str], Built]] = {
    "segmentation": segmentation,
    "detection": detection,
    "video": video,
    "optical_flow": optical_flow,
}
