"""timm: the listed models, at the smallest image that their architecture accepts."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from surgery.modules.inputs import Inputs

from .entry import Built, Entry, image, listed
from .runs import first_that_runs

SIDES = (64, 96, 128, 160, 192, 224, 240, 256, 299, 331)
CLASSES = 10


def entries() -> Iterator[Entry]:
    for name in listed("timm.txt"):
        yield Entry("timm", name, partial(build, name))


def build(name: str) -> Built:
    """Models that take `img_size` are built for each side in turn; the others are built once."""
    import timm

    error: Exception | None = None
    for side in SIDES:
        try:
            model = _classifier(timm.create_model(name, img_size=side))
        except TypeError:
            model = _classifier(timm.create_model(name))
            return first_that_runs(model, [partial(_images, side) for side in SIDES])
        except Exception as caught:  # this size does not fit the patches or the windows
            error = caught
            continue
        try:
            return first_that_runs(model, [partial(_images, side)])
        except Exception as caught:
            error = caught
    assert error is not None
    raise error


def _classifier(model: nn.Module) -> nn.Module:
    """A model that comes without a head gets one, as its users give it: else its features are what it returns."""
    if getattr(model, "num_classes", None) == 0 and hasattr(model, "reset_classifier"):
        model.reset_classifier(CLASSES)
    return model


def _images(side: int, seed: int) -> Inputs:
    return Inputs((image(seed, 2, 3, side, side),))
