"""One training step at several widths: the full one learns the labels, narrow ones learn from both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from surgery.errors import InputError
from surgery.modules.arguments import counted
from surgery.modules.batchnorm import statistics_kept
from surgery.modules.inputs import Examples, Inputs, call
from surgery.plan.plan import Draw
from surgery.training.asked import check_asked, check_inputs, check_learns, scalar, share_of, weight_of
from surgery.training.distil import Distil, divergence, known_by, seeing, towards
from surgery.training.draws import DEFAULT
from surgery.training.schedules import NARROW, Turn, turns
from surgery.training.teaching import Teacher, teacher_output
from surgery.twin.elastic import elastic_of, is_wrapped, not_wrapped, state_of
from surgery.twin.setting import at_widths
from surgery.twin.state import State, Widths
from surgery.twin.telling import share as mean_share
from surgery.twin.telling import tell

T = TypeVar("T")
Learn: TypeAlias = "Callable[[Any], Tensor]"
# What narrow widths count together, and the share of the labels in what they learn (docs/benchmarks.md).
WEIGHT, LABELS = 1.0, 0.5


@counted("Labels go into the loss: train_step(wrapped, inputs, lambda output: F.cross_entropy(output, labels))")
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
        narrow: draws, and widths as `surgery.set_widths` takes them; one pass for each. Default: one pass at the draw
            that the model was wrapped with; without one, three passes: at a small, a middle and a large width, of those
            from 1/16 to 3/4 that `surgery.sweep` looks at, in a quarter of them drawn for each group by itself.
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
    check_asked(loss, teacher, distil, full, twin, backward)
    state = _state(twin, run)
    check_inputs(twin, run, state.examples)
    draws = turns(narrow) if narrow is not None else NARROW if state.draw == DEFAULT else (state.draw,)
    share = weight_of(weight) / len(draws)
    labels = 0.0 if loss is None else share_of(labels)
    distil = None if distil is None else seeing(distil, inputs)
    said = None if teacher is None or labels == 1 else teacher_output(teacher, run)
    learn = loss if loss is not None else towards(_known(distil), said)
    value: Tensor | None = None
    with at_widths(twin, 1.0):
        if full or (distil is None and labels < 1):
            own = wrapped(*run.args, **run.kwargs) if full else _leaf(said)
            value = scalar(learn(own), "loss" if loss is not None else "distil")
            if full:
                check_learns(value, twin)
            if distil is None and labels < 1:
                distil = _divergence(state, learn, own, value)
            said = own if said is None else said
        if full:
            backward(_known(value))
    learnt = narrow_loss(loss, None if labels == 1 else towards(_known(distil), _detached(said)), labels)
    narrow_mean, drawn = _narrow_passes(wrapped, state, run, draws, learnt, lambda value: backward(share * value))
    _tell(state, _known(value).detach() if full else None, narrow_mean, drawn)
    return _known(value).detach() if full else narrow_mean


def _narrow_passes(
    wrapped: nn.Module,
    state: State,
    run: Inputs,
    draws: Sequence[Draw],
    learnt: Learn,
    backward: Callable[[Tensor], Any],
) -> tuple[Tensor, list[Widths]]:
    """A pass at each draw: the mean of what they learn by, and the widths."""
    twin, values, drawn = twin_in(wrapped), [], []
    with statistics_kept(twin):
        for draw in draws:
            drawn.append(state.drawn(draw))
            with at_widths(twin, drawn[-1]):
                value = learnt(wrapped(*run.args, **run.kwargs))
                backward(value)
            values.append(value.detach())
    return torch.stack(values).mean(), drawn


def _tell(state: State, full: Tensor | None, narrow: Tensor, drawn: Sequence[Widths]) -> None:
    """What a step has come to, for the function of `log_to`."""
    if state.log is None:
        state.steps += 1
        return
    plan = _known(state.plan)
    names = ["width"] if len(drawn) == 1 else [f"width {i + 1}" for i in range(len(drawn))]
    values = {name: mean_share(plan, widths) for name, widths in zip(names, drawn, strict=True)}
    losses = {"narrow loss": narrow.item()} | ({} if full is None else {"loss": full.item()})
    tell(state, values | losses)


def narrow_loss(loss: Learn | None, divergence: Learn | None, labels: float) -> Learn:
    """What a narrow output learns by: the loss and the divergence, in shares of `labels` and the rest."""

    def learn(narrow: Any) -> Tensor:
        parts = []
        if loss is not None and labels > 0:
            parts.append(labels * scalar(loss(narrow), "loss"))
        if divergence is not None:
            parts.append((1 - labels) * scalar(divergence(narrow), "distil"))
        return sum(parts[1:], parts[0])

    return learn


def twin_in(model: nn.Module) -> nn.Module:
    """The wrapped model that a module is, or is built around. Raises InputError where there is none."""
    for module in model.modules() if isinstance(model, nn.Module) else ():
        if is_wrapped(module):
            return module
    raise InputError(not_wrapped(model))


def twins_in(model: nn.Module) -> list[nn.Module]:
    """Every wrapped model that a module is, or is built around. Raises InputError where there is none."""
    twin_in(model)
    elastics = [(module, elastic_of(module)) for module in model.modules()]
    return [module for module, elastic in elastics if elastic is not None and not elastic.path]


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
