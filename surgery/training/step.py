"""One training step at several widths: the full one learns the labels, narrow ones learn from both."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.modules.batchnorm import statistics_kept
from surgery.modules.inputs import Examples, Inputs, call
from surgery.training.distil import Distil, divergence, known_by, seeing, towards
from surgery.training.draws import DEFAULT
from surgery.training.schedules import NARROW, Turn, turns
from surgery.training.teaching import Cached, Teacher, teacher_output
from surgery.twin.elastic import is_wrapped, state_of
from surgery.twin.setting import at_widths
from surgery.twin.state import State

T = TypeVar("T")
Learn: TypeAlias = "Callable[[Any], Tensor]"
# What narrow widths count, and the share of the labels in it (docs/benchmarks.md, ablations).
WEIGHT, LABELS = 1.0, 0.5


def train_step(
    wrapped: nn.Module,
    inputs: Examples,
    loss: Learn | None = None,
    *,
    narrow: Sequence[Turn] | None = None,
    weight: float = WEIGHT,
    labels: float = LABELS,
    teacher: Teacher | None = None,
    distil: Distil | None = None,
    full: bool = True,
    backward: Callable[[Tensor], Any] = Tensor.backward,
) -> Tensor:
    """Gradients of one batch at several widths; returns the loss of the full width, detached.

    The full width learns from `loss`. Each of the narrow widths learns in part from `loss`, and in part to say what the
    full width has just said. The gradients are added to those that are there already: `zero_grad` and the optimizer's
    step are yours.

    BatchNorm keeps the running statistics of the full width; narrow widths use those of the batch, and are scored after
    `surgery.recalibrate`.

    Args:
        wrapped: a wrapped model, or a module around one, such as DistributedDataParallel.
        inputs: a tensor, a tuple (positional arguments), a dict (keyword arguments) or `surgery.inputs(...)`.
        loss: takes the model's output, and returns a scalar. Called once for each pass. Without one, all widths learn
            from the `teacher` alone, by `distil`: no labels are needed.
        narrow: draws, and widths as `surgery.set_widths` takes them; one pass for each. Default: one pass, at the draw
            that the model was wrapped with; without one, in three steps of ten at 1/32, else at a log-uniform fraction,
            in a quarter of them drawn for each group by itself.
        weight: what the mean over the narrow passes counts, where the loss of the full width counts 1.
        labels: the share of `loss` in what narrow widths learn. At 1 they learn nothing else, so that the output may be
            anything; at 0 they learn from the full width alone.
        teacher: a frozen model that narrow widths learn from instead, called with `inputs` in eval mode; see also
            `surgery.cached`.
        distil: takes a narrow output and the full (or teacher's) one, detached, and returns a scalar; where it has an
            argument `inputs`, or needs a third one, it gets them too (masks of padding). Default: `surgery.kl` over the
            dimension of the classes; or the loss itself towards the full output, where it is a squared error, an
            absolute one or a binary cross-entropy.
        full: whether the full width is trained. If not, a `teacher` stays what it is for, such as the trained model
            that the family started from, and all of the step goes to the narrow widths. What is returned is then the
            mean of what these learn by.
        backward: called with each loss: `self.manual_backward` in Lightning, `accelerator.backward` in accelerate,
            `lambda loss: scaler.scale(loss).backward()` for a scaler of gradients.

    Raises InputError where nobody is the full width: no `full`, and no `teacher` or one that shares its parameters with
    `wrapped`, so that it would change with it; where `wrapped` is in eval mode, `loss` is no function, it or `distil`
    gives no scalar; where there is no `loss`, and no `teacher` or `distil`; and where there is no `distil`, `labels` is
    below 1 and the output holds no logits of a softmax cross-entropy. The widths that were set are as before, whatever
    happens.
    """
    run, twin = call(inputs), twin_in(wrapped)
    _check(loss, teacher, distil, full, twin)
    state = _state(twin, run)
    draws = turns(narrow) if narrow is not None else NARROW if state.draw == DEFAULT else (state.draw,)
    share, labels = _weight(weight) / len(draws), 0.0 if loss is None else _share(labels)
    distil = None if distil is None else seeing(distil, inputs)
    said = None if teacher is None or labels == 1 else teacher_output(teacher, run)
    learn = loss if loss is not None else towards(_known(distil), said)
    value: Tensor | None = None
    with at_widths(twin, 1.0):
        if full or (distil is None and labels < 1):
            own = wrapped(*run.args, **run.kwargs) if full else _leaf(said)
            value = _scalar(learn(own), "loss" if loss is not None else "distil")
            if distil is None and labels < 1:
                distil = _divergence(state, learn, own, value)
            said = own if said is None else said
        if full:
            backward(_known(value))
    learnt = narrow_loss(loss, None if labels == 1 else towards(_known(distil), _detached(said)), labels)
    values = []
    with statistics_kept(twin):
        for draw in draws:
            with at_widths(twin, state.drawn(draw)):
                values.append(learnt(wrapped(*run.args, **run.kwargs)))
                backward(share * values[-1])
    return _known(value).detach() if full else torch.stack([one.detach() for one in values]).mean()


def _check(loss: Learn | None, teacher: Teacher | None, distil: Distil | None, full: bool, twin: nn.Module) -> None:
    """Raises InputError where nothing says what is learnt."""
    if loss is not None and not callable(loss):
        raise InputError(
            "loss is a function of the output, and called for each width: lambda output: F.cross_entropy(output, y). "
            f"Got {type(loss).__name__}"
        )
    if not full and teacher is None:
        raise InputError("full=False leaves the full width as it is: give the model that takes its place as teacher=")
    for name, given in (("teacher", teacher), ("distil", distil)):
        if given is not None and not callable(given):
            raise InputError(f"{name} is a model or a function, got {type(given).__name__}")
    if loss is None and (teacher is None or distil is None):
        raise InputError(
            "without a loss, all widths learn to say what a teacher says: give the trained model as teacher=, and as "
            "distil= what it means to say the same, such as surgery.kl() or F.mse_loss"
        )
    if not full:
        _check_frozen(teacher, twin)


def _check_frozen(teacher: Teacher | None, twin: nn.Module) -> None:
    """Raises InputError for a teacher that would change as it is learnt from."""
    teacher = teacher.teacher if isinstance(teacher, Cached) else teacher
    if isinstance(teacher, nn.Module):
        own = {id(parameter) for parameter in twin.parameters()}
        if any(id(parameter) in own for parameter in teacher.parameters()):
            raise InputError(
                "the teacher shares its parameters with the wrapped model, so it would change with it: wrap a copy, "
                "copy.deepcopy(model), or what surgery.sort or surgery.nest gives"
            )


def narrow_loss(loss: Learn | None, divergence: Learn | None, labels: float) -> Learn:
    """What a narrow output learns by: the loss and the divergence, in shares of `labels` and the rest."""

    def learn(narrow: Any) -> Tensor:
        parts = []
        if loss is not None and labels > 0:
            parts.append(labels * _scalar(loss(narrow), "loss"))
        if divergence is not None:
            parts.append((1 - labels) * _scalar(divergence(narrow), "distil"))
        return sum(parts[1:], parts[0])

    return learn


def twin_in(model: nn.Module) -> nn.Module:
    """The wrapped model that a module is, or is built around. Raises InputError where there is none."""
    for module in model.modules():
        if is_wrapped(module):
            return module
    raise InputError(f"{type(model).__name__} is not wrapped: call surgery.wrap(model, example_inputs) first")


def _state(twin: nn.Module, run: Inputs) -> State:
    """The state of a twin that can be trained. Raises InputError for one in eval mode."""
    if not twin.training:
        raise InputError(
            f"train_step: {type(twin).__name__} is in eval mode, in which dropout is off and BatchNorm learns nothing: "
            "call .train() on it before the training, and after each validation"
        )
    state = state_of(twin)
    if state.pending is not None:  # it was wrapped without example inputs: these are the first
        state.pending.first(twin, run.args, run.kwargs)
    return state_of(twin)


def _weight(weight: float) -> float:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise InputError(f"weight is a number of at least 0, got {weight!r}")
    return weight


def _share(labels: float) -> float:
    if isinstance(labels, bool) or not isinstance(labels, int | float) or not 0 <= labels <= 1:
        raise InputError(f"labels is a share in [0, 1], got {labels!r}")
    return labels


def _scalar(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value
    seen = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
    raise InputError(f"{name} must return a tensor of one element, got {seen}: take the mean")


def _divergence(state: State, loss: Learn, output: Any, value: Tensor) -> Distil:
    """What fits the loss. It is found in the first step of a loss that tells it."""
    place = _written(loss)
    known = state.class_dims.get(place)
    if known is None:
        known = known_by(output, value)
        if known is not None and place is not None:
            state.class_dims[place] = known
    return divergence(-1 if known is None else known)


def _written(loss: Any) -> Any:
    """What tells the code of a loss: a lambda is another object in every step. None for an object that is called."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    function = getattr(loss, "__func__", loss)
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    inside = [_content(cell) for cell in getattr(function, "__closure__", None) or ()]
    called = [repr(_written(value) or type(value)) for value in inside if callable(value) and value is not loss]
    return (code.co_filename, code.co_firstlineno, code.co_code, (*code.co_names, *called))


def _content(cell: Any) -> Any:
    """What a function closes over; None where that is not there yet."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _detached(output: Any) -> Any:
    return pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, output)


def _known(value: T | None) -> T:
    assert value is not None
    return value


def _leaf(output: Any) -> Any:
    """An output of which a loss has gradients, though no parameter gets any."""
    return pytree.tree_map(
        lambda leaf: leaf.requires_grad_() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, output
    )
