"""Proof by running: two models that must agree, on the same inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from surgery.errors import ProofError, SurgeryError
from surgery.modules.inputs import Examples, Inputs, cloned, runs
from surgery.modules.modes import devices_of, evaluating, forked, seed
from surgery.modules.restoring import Watch
from surgery.modules.tensors import parts_of
from surgery.nested import class_name

# Largest difference allowed, relative to the largest value of the output, by the coarsest float type that took part.
TOLERANCES: dict[torch.dtype, float] = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 8e-2,
}

Output: TypeAlias = "Callable[[nn.Module, Inputs], Any]"


def verify(a: nn.Module, b: nn.Module, inputs: Examples, *, tolerance: float | None = None) -> float:
    """The largest difference between the outputs of two models, relative to the largest value of each output.

    Both run in eval mode, without gradients, from the same random state, and without the fused path of
    `nn.TransformerEncoder`, which gives other values at padded positions than the layers do. Integer and boolean
    outputs are compared exactly.

    Args:
        a, b: the models.
        inputs: example inputs, as for `surgery.wrap`.
        tolerance: the difference allowed. Default: by the outputs' type, 1e-9 for float64, 1e-4 for float32.

    Raises ProofError where they differ by more, where an output is NaN in only one place, or has another shape, and
    where a model does not run.
    """
    return compare(a, b, inputs, tolerance, ("the first model", "the second model"))


def compare(
    a: nn.Module,
    b: nn.Module,
    inputs: Examples,
    tolerance: float | None,
    names: tuple[str, str],
    apart: Collection[str] = (),
) -> float:
    """`verify`, with the names that an error calls the two models by, and apart from objects of some classes."""
    worst = 0.0
    with proving(a, b) as output:
        for run in runs(inputs):
            left, right = _given(output, a, run, names[0]), _given(output, b, run, names[1])
            worst = max(worst, difference(left, right, tolerance, apart))
    return worst


def _given(output: Output, model: nn.Module, run: Inputs, name: str) -> Any:
    try:
        return output(model, run)
    except SurgeryError:
        raise  # it says what to do already
    except Exception as error:
        raise ProofError(
            f"{name} ({type(model).__name__}) does not run on the inputs: {type(error).__name__}: {error}"
        ) from error


def output(model: nn.Module, run: Inputs) -> Any:
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

            def output(model: nn.Module, run: Inputs) -> Any:
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


def difference(left: Any, right: Any, tolerance: float | None = None, apart: Collection[str] = ()) -> float:
    """How far two outputs are apart, relative to the largest value of each tensor. Raises ProofError as `verify`."""
    return max((_difference(place, a, b, tolerance) for place, a, b in _paired(left, right, apart)), default=0.0)


def _paired(
    left: Any, right: Any, apart: Collection[str], place: str = "output"
) -> Iterator[tuple[str, Tensor, Tensor]]:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        yield place, left, right
    elif isinstance(left, Mapping) and isinstance(right, Mapping):
        if list(left) != list(right):
            raise ProofError(f"{place}: keys {list(left)} against {list(right)}")
        for key in left:
            yield from _paired(left[key], right[key], apart, f"{place}[{key!r}]")
    elif isinstance(left, tuple | list) and isinstance(right, tuple | list):
        if len(left) != len(right):
            raise ProofError(f"{place}: {len(left)} values against {len(right)}")
        for i, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from _paired(one, other, apart, f"{place}[{i}]")
    elif isinstance(left, int) and isinstance(right, int) and isinstance(left, bool) is isinstance(right, bool):
        if left != right:
            raise ProofError(f"{place}: {left!r} against {right!r}")
    elif type(left) is not type(right):
        raise ProofError(f"{place}: {type(left).__name__} against {type(right).__name__}")
    elif isinstance(left, float | complex | str | bytes):
        if left != right and not (left != left and right != right):
            raise ProofError(f"{place}: {left!r} against {right!r}")
    elif hasattr(left, "__dict__") and not isinstance(left, type | nn.Module) and class_name(left) not in apart:
        yield from _paired(vars(left), vars(right), apart, place)


def _difference(place: str, a: Tensor, b: Tensor, tolerance: float | None) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        raise ProofError(f"{place}: {a.dtype} {list(a.shape)} against {b.dtype} {list(b.shape)}")
    if not (a.is_floating_point() or a.is_complex()):
        if not torch.equal(a, b):
            raise ProofError(f"{place}: {int((a != b).sum())} of {a.numel()} {a.dtype} values differ")
        return 0.0
    if a.isnan().any() or b.isnan().any():
        raise ProofError(f"{place} holds NaN: {int(a.isnan().sum())} values against {int(b.isnan().sum())}")
    allowed = TOLERANCES.get(a.dtype, 1e-4) if tolerance is None else tolerance
    same = a == b  # equal infinities are no difference
    gap = torch.where(same, 0.0, (a - b).abs()).max().item() if a.numel() else 0.0
    finite = b.abs()[b.isfinite()]
    scale = finite.max().item() if finite.numel() else 0.0
    error = gap / scale if scale else gap
    if not error <= allowed:
        raise ProofError(f"{place} differs by {error:.2e} of its scale ({allowed:.0e} is allowed)")
    return error
