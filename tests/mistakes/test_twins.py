"""What is done to a wrapped model: layers are replaced, it is frozen, copied, moved, compiled, put into another one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import surgery
from surgery import InputError
from tests.mistakes.models import IMAGES, LABELS, QUIET, ROWS, cnn, entropy, net, size_of, twin, wrapped_net
from tests.mistakes.table import noticed, refused, works

PUT_IN = r"was put in after wrapping, and does not follow the widths: do it before surgery\.wrap"
INSIDE = r"\.module|the wrapped model (itself|inside)|inside of it"


def changed(change: Callable[[Any], Any], make: Callable[[], Any] = twin) -> Callable[[], Any]:
    """Shrink a twin after something was done to it."""

    def act() -> nn.Module:
        wrapped = make()
        change(wrapped)
        return surgery.shrink(wrapped, 0.5)

    return act


def new_head(wrapped: Any) -> None:
    wrapped.fc = nn.Linear(16, 10)


def new_head_trains() -> None:
    wrapped = twin(draw=surgery.grid([0.5])).train()
    new_head(wrapped)
    wrapped(IMAGES)


def gelu(wrapped: Any) -> None:
    wrapped[1] = nn.GELU()


def zeros(wrapped: Any) -> None:
    wrapped.load_state_dict({name: torch.zeros_like(value) for name, value in wrapped.state_dict().items()})


def other_weight(wrapped: Any) -> None:
    wrapped.fc.weight = nn.Parameter(torch.zeros(10, 16))


def frozen() -> list[bool]:
    """Which layers get gradients, and which parameters of the small model ask for them."""
    wrapped = twin().train()
    wrapped.conv1.requires_grad_(False)
    surgery.train_step(wrapped, IMAGES, entropy)
    small = surgery.shrink(wrapped, 0.5)
    has = [wrapped.conv1.weight.grad is not None, wrapped.fc.weight.grad is not None]
    return [*has, small.conv1.weight.requires_grad, small.fc.weight.requires_grad]


def copied() -> tuple[int, bool]:
    wrapped = wrapped_net()
    other = copy.deepcopy(wrapped)
    surgery.set_widths(other, 0.5)
    with torch.no_grad():
        other[0].weight.zero_()
    return surgery.widths(wrapped)["0.o"], bool((wrapped[0].weight == 0).any())


def through(outer: Callable[[Any], nn.Module]) -> Callable[[], float]:
    """A training step through a module around the twin, as a difference from one without."""

    def act() -> float:
        plain, inside = wrapped_net().train(), wrapped_net().train()
        for model in (plain, outer(inside).train()):
            surgery.train_step(model, ROWS, entropy, narrow=[0.5])
        return (plain[0].weight.grad - inside[0].weight.grad).abs().max().item()

    return act


def compiled(wrapped: nn.Module) -> nn.Module:
    torch._dynamo.reset()
    wrapped.compile(backend="eager")
    return wrapped


def compiled_equals_small() -> bool:
    wrapped = compiled(wrapped_net().eval())
    full = [torch.allclose(wrapped(ROWS), net()(ROWS)) for _ in range(2)]
    surgery.set_widths(wrapped, 0.5)
    return all(full) and torch.allclose(wrapped(ROWS), surgery.shrink(wrapped, 0.5)(ROWS))


def compiled_trains() -> float:
    return through(compiled)()


def compiled_around() -> float:
    torch._dynamo.reset()
    return through(lambda inside: torch.compile(inside, backend="eager"))()


def compiled_trains_at_several() -> bool:
    wrapped = compiled(wrapped_net().train())
    for _ in range(2):
        surgery.train_step(wrapped, ROWS, entropy, narrow=[0.5, 0.25, 0.75])
    return wrapped[0].weight.grad is not None


def compiled_at_many_widths() -> bool:
    wrapped = compiled(wrapped_net().eval())
    for width in (1.0, 0.75, 0.5, 0.25, 0.125) * 2:
        surgery.set_widths(wrapped, width)
        found = wrapped(ROWS)
    return torch.allclose(found, surgery.shrink(wrapped, 0.125)(ROWS))


def averaged() -> Any:
    return torch.optim.swa_utils.AveragedModel(wrapped_net())


def pruned() -> nn.Module:
    model = net()
    prune.ln_structured(model[0], "weight", 0.5, n=2, dim=0)
    return surgery.shrink(surgery.wrap(model, ROWS), {"0.o": 8})


CHANGES = [
    refused("a new head, then shrink", changed(new_head), InputError, rf"fc \(Linear\) {PUT_IN}.*wrap the result"),
    refused("a new head, then training", new_head_trains, InputError, rf"fc \(Linear\) {PUT_IN}"),
    refused("a layer is added", changed(lambda w: w.append(nn.Linear(4, 2)), wrapped_net), InputError, PUT_IN),
    refused("a layer that nothing uses is added", changed(lambda w: setattr(w, "extra", nn.Linear(3, 3))), InputError,
            rf"extra \(Linear\) {PUT_IN}"),
    refused("a parameter of another shape", changed(other_weight), InputError,
            r"fc\.weight is \[10, 16\], but the plan needs \[4, 16\].*replaced after wrapping\. Wrap the model again"),
    works("another activation", lambda: type(changed(gelu, wrapped_net)()[1]), nn.GELU),
    works("weights are loaded afterwards", lambda: changed(zeros)().fc.weight.any().item(), False),
    works("a layer is frozen", frozen, [False, True, False, True]),
    works("half precision afterwards", lambda: changed(nn.Module.half)().conv1.weight.dtype, torch.float16),
    works("double precision afterwards", lambda: changed(nn.Module.double)().conv1.weight.dtype, torch.float64),
    refused("moved to meta", changed(lambda w: w.to("meta")), InputError, "meta"),
    works("the mask of torch's pruning is cut too", lambda: pruned()[0].weight_mask.shape, (8, 6)),
]  # fmt: skip

AROUND = [
    works("deepcopy is independent", copied, (16, False)),
    works("DataParallel around a twin trains it", through(nn.DataParallel), 0.0),
    works("a twin inside of a model trains", through(lambda inside: nn.Sequential(inside)), 0.0),
    refused("DataParallel is swept", lambda: surgery.sweep(nn.DataParallel(wrapped_net()), size_of, **QUIET),
            InputError, INSIDE),
    refused("DataParallel is shrunk", lambda: surgery.shrink(nn.DataParallel(wrapped_net()), 0.5), InputError, INSIDE),
    refused("an averaged model is shrunk", lambda: surgery.shrink(averaged(), 0.5), InputError, INSIDE),
    works("the module of an averaged model is shrunk", lambda: surgery.shrink(averaged().module, 0.5)[0].out_features,
          8),
    refused("compiled, then wrapped", lambda: surgery.wrap(torch.compile(cnn()), IMAGES), InputError,
            r"is compiled: wrap the plain model \(its `_orig_mod`\), and compile what comes out"),
    works("a compiled twin runs at its widths", compiled_equals_small, True),
    works("a compiled twin trains as a plain one", compiled_trains, 0.0),
    noticed("a twin is compiled from outside", compiled_around, r"call wrapped\.compile\(\.\.\.\)"),
    works("a compiled twin runs at many widths", compiled_at_many_widths, True),
    works("a compiled twin trains at several widths in a step", compiled_trains_at_several, True),
    refused("a compiled twin is asked for widths",
            lambda: surgery.set_widths(torch.compile(wrapped_net(), backend="eager"), 0.5), InputError, r"_orig_mod|"
            + INSIDE),
    refused("a layer of a twin is shrunk", lambda: surgery.shrink(twin().conv1, 0.5), InputError,
            "this Conv2d is conv1 of a wrapped model: give the whole model"),
    refused("a slice of a wrapped Sequential is shrunk", lambda: surgery.shrink(wrapped_net()[:3], 0.5), InputError,
            "0 is wrapped already.*wrap the whole model"),
    works("unwrap gives the full model, with the same weights",
          lambda: [surgery.unwrap(w := twin()).fc.weight is w.fc.weight, surgery.unwrap(w).conv1.out_channels],
          [True, 8]),
    refused("unwrap of a plain model", lambda: surgery.unwrap(cnn()), InputError, r"not wrapped: call surgery\.wrap\("),
    refused("status of a plain model", lambda: surgery.status(cnn()), InputError, r"not wrapped: call surgery\.wrap\("),
]  # fmt: skip


def evaluated_in_training_mode() -> None:
    """The accuracy of a model without BatchNorm that was not put into eval mode."""
    wrapped = wrapped_net().train()
    with torch.no_grad():
        for _ in range(8):
            (wrapped(ROWS).argmax(1) == LABELS).float().mean()


def trained_in_eval_mode() -> Any:
    """A loop on a twin of a model that came in eval mode, as `from_pretrained` gives it; then the family is used."""
    wrapped = surgery.wrap(net().eval(), ROWS)
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    for _ in range(4):
        optimizer.zero_grad()
        entropy(wrapped(ROWS)).backward()
        optimizer.step()
    return surgery.sweep(wrapped, size_of, (1.0, 0.5), **QUIET)


MODES = [
    noticed("evaluated in training mode", evaluated_in_training_mode, r"training mode.*\.eval\(\)"),
    noticed("a plain loop in eval mode", trained_in_eval_mode, r"eval mode.*\.train\(\)"),
    works("shrunk in training mode", lambda: surgery.shrink(twin().train(), 0.5).training, False),
    works("swept in training mode", lambda: [surgery.sweep(w := wrapped_net().train(), size_of, (1.0, 0.5), **QUIET)[1]
                                             .score, w.training], [112.0, True]),
]  # fmt: skip


@pytest.mark.parametrize("check", CHANGES)
def test_changes_after_wrap(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", AROUND)
def test_models_around_a_twin(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", MODES)
def test_modes(check: Any) -> None:
    check()
