"""What "to say the same" means for losses that compare an output with a target value by value: what they mean by it.

The loss is known by its curvature in the output: a squared error has the same everywhere, a binary cross-entropy that
of the sigmoid, an absolute error none. So it is told without a word of its code, as the classes of a softmax are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# For each kind the values that two outputs are apart by, and what the wide one is a target as.
KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda narrow, full: F.mse_loss(narrow, full, reduction="none"),
    "half squared": lambda narrow, full: F.mse_loss(narrow, full, reduction="none") / 2,
    "absolute": lambda narrow, full: F.l1_loss(narrow, full, reduction="none"),
    "logits": lambda narrow, full: F.binary_cross_entropy_with_logits(narrow, full.sigmoid(), reduction="none"),
    "probabilities": lambda narrow, full: F.binary_cross_entropy(narrow, full, reduction="none"),
}
# For each way to make one number of many, what one of them counts in outputs of a shape.
COUNTS: dict[str, Callable[[Tensor], float]] = {
    "mean": lambda output: 1 / output.numel(),
    "mean of sums": lambda output: 1 / len(output),
    "sum": lambda output: 1.0,
}


@dataclass(frozen=True)
class Alike:
    """How far a narrow output is from a full one, as a loss of this kind would say if that were the target."""

    kind: str
    count: str

    def __call__(self, narrow: Tensor, full: Tensor) -> Tensor:
        values = KINDS[self.kind](narrow, full.detach().to(narrow.dtype))
        return values.sum() * COUNTS[self.count](narrow)


def alike(output: Tensor, loss: Tensor, precision: float) -> Alike | None:
    """The kind of a loss, by its slope and its curvature in the output; None where they are of no kind that is known.

    Of a single value, and of sums in a batch of one, nothing tells how a larger batch would count: None as well.
    """
    curves = _curves(output, loss)
    if curves is None or output.numel() == 1:
        return None
    for kind, found, expected, count_of in _kinds(*curves):
        factor = _factor(found, expected, precision)
        if factor is None:
            continue
        count = count_of(factor)
        names = [n for n, known in COUNTS.items() if abs(count - known(output)) <= 2 * precision * known(output)]
        if names:
            return Alike(kind, names[0]) if names[0] == "mean" or len(names) == 1 else None
    return None


def _curves(output: Tensor, loss: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """The output, the loss's slope in it, a direction, how the slope changes that way. None where torch cannot say."""
    probe = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).to(output)
    try:
        (slope,) = torch.autograd.grad(loss, output, create_graph=True)
        bend = None
        if slope.requires_grad:
            (bend,) = torch.autograd.grad(slope, output, probe, retain_graph=True, allow_unused=True)
    except RuntimeError:  # an operation without a second derivative
        return None
    change = torch.zeros_like(output) if bend is None else bend
    x, g, v, c = (tensor.detach().double() for tensor in (output, slope, probe, change))
    return x, g, v, c


def _kinds(
    output: Tensor, slope: Tensor, probe: Tensor, change: Tensor
) -> Iterator[tuple[str, Tensor, Tensor, Callable[[float], float]]]:
    """Each kind: what is seen, what it is a multiple of, and what one value counts, by the factor.

    The absolute error does not bend; its slope is as steep everywhere, up and down. Of probabilities, where targets are
    0 and 1, the curvature is the square of the slope.
    """
    if not change.count_nonzero():
        if slope.gt(0).any() and slope.lt(0).any():
            yield "absolute", slope.abs(), torch.ones_like(slope), lambda factor: factor
        return
    chance = output.sigmoid()
    yield "squared", change, probe, lambda factor: factor / 2
    yield "half squared", change, probe, lambda factor: factor
    yield "logits", change, chance * (1 - chance) * probe, lambda factor: factor
    if output.gt(0).all() and output.lt(1).all() and slope.count_nonzero() == slope.numel():
        yield "probabilities", change, slope.square() * probe, lambda factor: 1 / factor


def _factor(found: Tensor, expected: Tensor, precision: float) -> float | None:
    """The factor between two tensors, if there is one above zero."""
    factor = float((found * expected).sum() / expected.square().sum().clamp_min(1e-300))
    close = (found - factor * expected).norm() <= precision * found.norm()
    return factor if factor > 0 and bool(close) else None
