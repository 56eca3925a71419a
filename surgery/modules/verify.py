"""Proof by running: two models that must agree, on the same inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from surgery.errors import ProofError, SurgeryError
from surgery.modules.differences import TOLERANCES as TOLERANCES
from surgery.modules.differences import difference as difference
from surgery.modules.inputs import Examples, Inputs, cloned, runs
from surgery.modules.modes import devices_of, evaluating, forked, seed
from surgery.modules.outputs import picked
from surgery.modules.restoring import Watch
from surgery.modules.tensors import parts_of

Output: TypeAlias = "Callable[[nn.Module, Inputs], object]"


def verify(a: nn.Module, b: nn.Module, inputs: Examples, *, tolerance: float | None = None) -> float:
    """The largest difference between the outputs of two models, relative to the largest value of each output.

    Both run in eval mode, without gradients, from the same random state, and without the fused path of
    `nn.TransformerEncoder`, which gives other values at padded positions than the layers do.

    Tensors, and arrays of numpy, are compared by value; integers, booleans, texts and sets exactly; containers and
    objects by what they hold. What holds nothing under names is compared by the `==` of its class, where that gives a
    bool. Where it has none, as for modules, classes and functions, it is no difference.

    Args:
        a, b: the models.
        inputs: example inputs, as for `surgery.wrap`.
        tolerance: the difference allowed. Default: by the outputs' type, 1e-9 for float64, 1e-4 for float32.

    Raises ProofError where they differ by more, where an output is NaN in only one place, or has another shape, and
    where a model does not run.
    """
    try:
        return compare(a, b, inputs, tolerance, ("the first model", "the second model"))
    except ProofError as error:
        counts = [sum(parameter.numel() for parameter in model.parameters()) for model in (a, b)]
        if counts[0] == counts[1]:
            raise
        raise ProofError(
            f"{error}. The first model has {counts[0]:,} parameters, the second {counts[1]:,}: a wrapped model runs at "
            "the widths that are set, full at first; put it at those of the other with surgery.at_widths or set_widths"
        ) from error.__cause__ or error


def compare(
    a: nn.Module,
    b: nn.Module,
    inputs: Examples,
    tolerance: float | None,
    names: tuple[str, str],
    apart: Collection[str] = (),
    dropout: bool = True,
    outputs: Sequence[str] = (),
) -> float:
    """`verify`, with the names that an error calls the two models by, and apart from objects of some classes.

    With `outputs`, only these parts are compared. Without `dropout`, code that drops features in eval mode as well does
    not: which ones is a matter of their order.
    """
    worst = 0.0
    with proving(a, b) as output, contextlib.ExitStack() as stack:
        if not dropout:
            stack.enter_context(WithoutDropout())
        for run in runs(inputs):
            left = picked(_given(output, a, run, names[0]), outputs)
            right = picked(_given(output, b, run, names[1]), outputs)
            worst = max(worst, difference(left, right, tolerance, apart))
    return worst


def _given(output: Output, model: nn.Module, run: Inputs, name: str) -> object:
    try:
        return output(model, run)
    except SurgeryError:
        raise  # it says what to do already
    except Exception as error:
        raise ProofError(
            f"{name} ({type(model).__name__}) does not run on the inputs: {type(error).__name__}: {error}"
        ) from error


def output(model: nn.Module, run: Inputs) -> object:
    """What a model returns in eval mode; its tensors and the random state stay as they were."""
    with proving(model) as given:
        return given(model, run)


@contextlib.contextmanager
def proving(*models: nn.Module, training: bool = False) -> Iterator[Output]:
    """Inside: a function that gives what one of the models returns in eval mode, each time from the same state.

    With `training`, it is training mode.

    What is said of `verify` holds for every run. Modes, tensors and the random state stay as they were.
    """
    parts = [parts_of(model) for model in models]
    tensors_ = _once(tensor for part in parts for tensor in part.tensors.values())
    apart = _once(tensor for part in parts for tensor in part.unlearned)
    devices = devices_of(tensors_)
    modes, changes = contextlib.ExitStack(), Watch(tensors_)
    try:
        with forked(devices), torch.no_grad():
            with changes:  # modules may change their tensors together with their mode
                for model in models:
                    modes.enter_context(evaluating(model, training))
            watch = Watch(tensors_)

            def output(model: nn.Module, run: Inputs) -> object:
                given = cloned(run)
                with watch.restoring(apart):
                    seed(devices)
                    return model(*given.args, **given.kwargs)

            yield output
    finally:
        with changes:
            modes.close()
        changes.put_back()


def _once(found: Iterable[Tensor]) -> list[Tensor]:
    return list({id(tensor): tensor for tensor in found}.values())


DROPOUT = frozenset(
    "dropout dropout_ dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout".split()
)


class WithoutDropout(TorchFunctionMode):
    """Dropout hands on what it is given."""

    def __torch_function__(
        self, func: Callable[..., object], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> object:
        if getattr(func, "__name__", "") in DROPOUT:
            return args[0] if args else (kwargs or {})["input"]
        return func(*args, **(kwargs or {}))
