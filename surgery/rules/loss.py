"""Losses: element by element, then averaged or summed unless `reduction="none"`."""

from __future__ import annotations

import torch.nn.functional as F

from surgery.axes.algebra import extent
from surgery.axes.signature import broadcast
from surgery.rules.base import Dims, here, ordered, result_shape, tensors_in, unify
from surgery.rules.registry import rule

_ELEMENTWISE = (
    "mse_loss l1_loss smooth_l1_loss huber_loss binary_cross_entropy binary_cross_entropy_with_logits kl_div "
    "poisson_nll_loss soft_margin_loss hinge_embedding_loss"
)


@rule(*(getattr(F, name) for name in _ELEMENTWISE.split()))
def elementwise_loss(*args: object, **kwargs: object) -> Dims:
    dims = broadcast(tensors_in(args, kwargs), here())
    return dims if len(result_shape()) else Dims()


@rule(F.cross_entropy, F.nll_loss)
def classification_loss(x: Dims, target: Dims, weight: Dims | None = None, *_: object, **__: object) -> Dims:
    """Targets are numbers of classes, or have a share for each."""
    i = 0 if len(x) == 1 else 1
    rest = Dims((*x[:i], *x[i + 1 :]))
    if len(target) == len(x) and extent(target[i]) == extent(x[i]):
        broadcast([x, target], here())
    else:
        ordered(x[i], "classes")
        broadcast([rest, target], here())
    if weight is not None:
        unify(x[i], weight[0])
    return rest if len(result_shape()) else Dims()
