"""`nest`: one set of weights for all widths, in closed form: no gradients, no labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from surgery.errors import InputError
from surgery.modules.inputs import Examples
from surgery.modules.labelled import Batch
from surgery.plan.widths import WidthSpec
from surgery.refitting.refit import Member, refit
from surgery.refitting.statistics import batches_of
from surgery.shrinking.shrink import M, check_unscaled, cut_copy, like, plain_copy, prepared

FULL = 4.0  # how much the full width counts


def nest(
    model: M,
    batches: Iterable[Batch],
    example_inputs: Examples | None = None,
    *,
    widths: Sequence[WidthSpec] = (1.0, 0.75, 0.5, 0.25),
    weights: Sequence[float] | None = None,
    progress: bool = False,
) -> M:
    """An independent plain copy of a trained model whose slices are fitted to the whole model, without training.

    Every weight that reads features (of linear maps and convolutions) becomes the one that minimises the error of its
    outputs over all widths at once: the expected reconstruction error under structural dropout, in closed form. Sort
    the model first. What comes out is a family as it is, and a start for training: wrap it.

    Args:
        model: a wrapped model, or any model together with example inputs. It stays as it is.
        batches: inputs without labels, as in use; a few thousand rows (positions of texts or images) in all do. Padding
            counts as what it is: put inputs of one length into a batch.
        example_inputs: what the model is analysed on. Default: the inputs that it was wrapped with.
        widths: the widths that count, as for `shrink`.
        weights: how much each of them counts. Default: 4 for the full width, 1 for the others.
        progress: show a bar.

    The full width changes as well, the less the more it counts. Where it must not, keep `model` for it, and leave it
    out of `widths`. Models with BatchNorm need `recalibrate` at each width, as ever.

    Raises InputError for no batches, and for weights that are not one positive number for each width.
    """
    if isinstance(batches, Tensor):
        raise InputError(
            "nest takes a model, batches (a list or a DataLoader), then example inputs: nest(model, batches, x)"
        )
    wrapped, plan, _ = prepared(model, example_inputs)
    check_unscaled(wrapped)
    chosen = [plan.widths(spec) for spec in widths]
    counts = [FULL if one == plan.full() else 1.0 for one in chosen] if weights is None else list(weights)
    if len(counts) != len(chosen) or not chosen or not all(count > 0 for count in counts):
        raise InputError(f"weights are a positive number for each of {len(chosen)} widths, got {weights!r}")
    members = [Member(cut_copy(wrapped, plan, one), one, count) for one, count in zip(chosen, counts, strict=True)]
    full = plain_copy(wrapped, plan, lambda _, tensor: like(tensor, tensor), plan.full())
    fitted: Mapping[str, Tensor] = refit(full, members, plan, batches_of(wrapped, batches), progress)
    return plain_copy(wrapped, plan, lambda name, tensor: like(tensor, fitted.get(name, tensor)), plan.full())
