"""What a narrow model learns from a wide one: the distribution that its logits stand for."""

# B batch, C classes

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.training.alike import Alike, alike

Distil: TypeAlias = "Callable[[Any, Any], Tensor]"
Known: TypeAlias = "int | tuple[str, str]"  # what a loss has told: the dimension of the classes, or its kind
ADVICE = (
    "Pass distil=, a callable (narrow output, full output) -> scalar, such as surgery.kl(dim=1) or a mean squared "
    "error; or labels=1.0, so that narrow widths learn from the loss alone"
)


@dataclass(frozen=True)
class Divergence:
    """Of the distribution of narrow logits from that of full ones; see `kl`."""

    dim: int

    def __call__(self, narrow: Any, full: Any) -> Tensor:
        return self.towards(full)(narrow)

    def towards(self, full: Any) -> Callable[[Any], Tensor]:
        """The same for a full output that several narrow ones learn from: its distribution is made once."""
        target = self._rows(full).detach().softmax(1)
        return lambda narrow: F.cross_entropy(self._rows(narrow), target)

    def _rows(self, output: Any) -> Tensor:
        """Logits with the classes in dimension 1, where torch wants them."""
        logits = logits_of(output)
        return logits if self.dim % logits.dim() == 1 else logits.movedim(self.dim, 1)


def kl(dim: int = -1) -> Divergence:
    """A `distil=` for `train_step`: the divergence of the narrow distribution from the full one, at temperature 1.

    Args:
        dim: the dimension of the classes. All others count as rows, over which the mean is taken.

    The logits are the output, or its `logits` where it is an object or a dict that has such. The result is the mean of
    KL(full || narrow) and the entropy of the full distribution, which has no gradient.
    """
    return Divergence(dim)


def towards(distil: Distil, full: Any) -> Callable[[Any], Tensor]:
    """What a narrow output learns by, given the full one. Raises InputError where that is changed in place by it."""
    if isinstance(distil, Divergence):
        return distil.towards(full)

    def learn(narrow: Any) -> Tensor:
        before = _versions(full)
        found = distil(narrow, full)
        if _versions(full) != before:
            raise InputError(
                "distil changes the full output in place, which other widths learn from too: copy it first"
            )
        return found

    return learn


def _versions(output: Any) -> list[int]:
    return [x._version for x in pytree.tree_leaves(output) if isinstance(x, Tensor) and not x.is_inference()]


def seeing(distil: Callable[..., Tensor], inputs: Any) -> Distil:
    """A divergence of two outputs; one that takes `inputs`, or a third argument, gets the inputs as well."""
    try:
        taken = inspect.signature(distil.forward if isinstance(distil, nn.Module) else distil).parameters
    except (TypeError, ValueError):  # of C, which says nothing of its arguments
        return distil
    if "inputs" in taken and list(taken).index("inputs") > 1:
        return lambda narrow, full: distil(narrow, full, inputs=inputs)
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in taken.values() if one.kind in places and one.default is one.empty]
    return distil if len(needed) < 3 else lambda narrow, full: distil(narrow, full, inputs)


def logits_of(output: Any) -> Tensor:
    """The tensor that holds logits: the output itself, or its `logits`. Raises InputError where there is none."""
    found = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)
    if not isinstance(found, Tensor) or not found.is_floating_point():
        raise InputError(f"found no logits in an output of type {type(output).__name__}. {ADVICE}")
    return found


def divergence(known: Known) -> Distil:
    """The divergence that fits a loss."""
    return kl(known) if isinstance(known, int) else Values(Alike(*known))


@dataclass(frozen=True)
class Values:
    """How far the values of two outputs are apart, or those of their logits."""

    alike: Alike

    def __call__(self, narrow: Any, full: Any) -> Tensor:
        return self.alike(logits_of(narrow), logits_of(full))


def known_by(output: Any, loss: Tensor) -> Known | None:
    """What a loss tells of an output: the dimension of the classes, over which its gradient in the logits sums to zero.

    That is the mark of a softmax cross-entropy: it does not change when all logits of a row are shifted. Where there is
    no such dimension, what `alike` finds: the kind of a loss that compares value by value. None where the gradient is
    zero everywhere, so that nothing can be told.

    Raises InputError where there is neither, so that outputs of another kind are not taught with a divergence that
    makes no sense for them.
    """
    logits = logits_of(output)
    (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True, allow_unused=True)
    if gradient is None:
        if logits is output:
            raise InputError(f"the loss does not depend on the model's output, so it cannot say what that is. {ADVICE}")
        return -1  # called logits by the model, and its loss comes from another tensor
    gradient = gradient.detach().double() if gradient.dtype is torch.float64 else gradient.detach().float()
    if not gradient.count_nonzero():
        return None
    precision = 1e-4 if logits.dtype in (torch.float32, torch.float64) else 2e-2
    for dim in range(logits.dim() - 1, 0, -1):
        rows, sizes = gradient.sum(dim), gradient.abs().sum(dim)
        if logits.shape[dim] > 1 and rows.norm() <= precision * sizes.norm():
            return dim
    values = alike(logits, loss, max(precision, 1e-3))
    if values is not None:
        return values.kind, values.count
    raise InputError(
        f"the loss is no softmax cross-entropy over a dimension of the output {list(logits.shape)}: its gradient sums "
        f"to zero over none, so a divergence of distributions does not fit; nor is it a squared or absolute error or a "
        f"binary cross-entropy, by its curvature. {ADVICE}"
    )
