"""Training: what `train_step` is given, which optimizer steps, and how a training goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery import InputError, WidthError
from tests.mistakes.models import (
    IDS,
    IMAGES,
    LABELS,
    ROWS,
    cnn,
    entropy,
    lm,
    net,
    twin,
    wrapped_lm,
    wrapped_net,
)  # fmt: skip
from tests.mistakes.table import noticed, refused, works

FUNCTION = r"loss is a function of the output.*lambda output: F\.cross_entropy\(output, y\)"
OUTPUT_ALONE = r"loss.*(output alone|lambda output)"


def step(*given: Any, **options: Any) -> Callable[[], torch.Tensor]:
    """A step of the MLP in training mode."""

    def act() -> torch.Tensor:
        return surgery.train_step(wrapped_net().train(), *(given or (ROWS, entropy)), **options)

    return act


def words(output: Any) -> torch.Tensor:
    return F.cross_entropy(output["logits"].flatten(0, 1), IDS.flatten())


def of_its_own_loss() -> bool:
    """A batch with labels, and the loss that the model returns, is the same as a loss of the logits."""
    own, given = wrapped_lm().train(), wrapped_lm().train()
    one = surgery.train_step(own, {"input_ids": IDS, "labels": IDS}, lambda output: output["loss"], labels=1.0)
    return bool(torch.isclose(one, surgery.train_step(given, {"input_ids": IDS}, words, labels=1.0)))


LOSSES = [
    refused("a loss that is computed", lambda: step(ROWS, entropy(wrapped_net()(ROWS)))(), InputError, FUNCTION),
    refused("labels instead of a loss", step(ROWS, LABELS), InputError, FUNCTION),
    refused("a loss by its name", step(ROWS, "cross_entropy"), InputError, FUNCTION),
    refused("a criterion", step(ROWS, nn.CrossEntropyLoss()), InputError, OUTPUT_ALONE),
    refused("a function of output and labels", step(ROWS, F.cross_entropy), InputError, OUTPUT_ALONE),
    refused("inputs, labels and a loss by place", step(ROWS, LABELS, entropy), InputError, OUTPUT_ALONE),
    refused("labels=labels", step(ROWS, entropy, labels=LABELS), InputError, r"labels is a share.*lambda output"),
    refused("without a reduction", step(ROWS, lambda o: F.cross_entropy(o, LABELS, reduction="none")), InputError,
            r"must return a tensor of one element, got \[8\]: take the mean"),
    refused("a loss of .item()", step(ROWS, lambda o: entropy(o).item()), InputError, r"float.*\.item\(\)"),
    refused("a loss that returns nothing", step(ROWS, lambda o: None), InputError, "NoneType.*(return|value)"),
    refused("a loss that is detached", step(ROWS, lambda o: entropy(o).detach()), InputError, "loss.*(detach|no grad)"),
    refused("no loss", step(ROWS), InputError, "without a loss.*teacher=.*distil="),
    refused("fewer labels than rows", step(ROWS, lambda o: F.cross_entropy(o, LABELS[:4])), ValueError,
            r"input batch_size \(8\) to match target batch_size \(4\)"),
    refused("labels with a dimension too many", step(ROWS, lambda o: F.cross_entropy(o, LABELS[:, None])), RuntimeError,
            "0D or 1D target tensor expected"),
    refused("log-probabilities", lambda: surgery.train_step(
        surgery.wrap(nn.Sequential(net(), nn.LogSoftmax(1)), ROWS).train(), ROWS, lambda o: F.nll_loss(o, LABELS)),
        InputError, r"no softmax cross-entropy.*Pass distil=.*surgery\.kl\(dim=1\)"),
    refused("a loss of a dict of outputs",
            lambda: surgery.train_step(wrapped_lm().train(), {"input_ids": IDS}, entropy),
            TypeError, "must be Tensor, not dict"),
    works("the loss that the model returns", of_its_own_loss, True),
]  # fmt: skip

MODELS = [
    refused("a plain model", lambda: surgery.train_step(cnn().train(), IMAGES, entropy), InputError,
            r"Cnn is not wrapped: call surgery\.wrap\(model, example_inputs\) first"),
    refused("a small model", lambda: surgery.train_step(surgery.shrink(twin(), 0.5).train(), IMAGES, entropy),
            InputError,
            r"Cnn is not wrapped"),
    refused("eval mode", lambda: surgery.train_step(twin().eval(), IMAGES, entropy), InputError,
            r"Cnn is in eval mode.*call \.train\(\) on it before the training, and after each validation"),
    refused("a batch (x, y)", step((ROWS, LABELS), entropy), InputError, "labels"),
    refused("a batch [x, y]", step([ROWS, LABELS], entropy), InputError, "labels"),
    refused("a misspelt name", lambda: surgery.train_step(wrapped_lm().train(), {"inputs_ids": IDS}, words), TypeError,
            "unexpected keyword argument 'inputs_ids'"),
    refused("without gradients", torch.no_grad()(step()), InputError, "no_grad|gradients are off"),
    refused("all is frozen", lambda: surgery.train_step(wrapped_net().requires_grad_(False).train(), ROWS, entropy),
            InputError, "requires_grad|frozen"),
    refused("backward of what is returned", lambda: step()().backward(), RuntimeError, "does not require grad"),
    works("no example inputs: the first step tells", lambda: torch.isclose(
        surgery.train_step(surgery.wrap(net()).train(), ROWS, entropy), entropy(net()(ROWS))).item(), True),
]  # fmt: skip


def teacher_is(model: nn.Module, **options: Any) -> torch.Tensor:
    return surgery.train_step(surgery.wrap(model, ROWS).train(), ROWS, teacher=model, **options)


OPTIONS = [
    refused("narrow of a fraction", step(narrow=0.5), InputError,
            "a sequence of one or more draws and widths, got 0.5"),
    refused("narrow of an int", step(narrow=[8]), WidthError, r"a bare int \(8\).*fraction such as 0\.5"),
    refused("narrow of percents", step(narrow=["50%"]), WidthError, "widths are a fraction.*not str"),
    refused("narrow with a typo", step(narrow=[{"0.out": 4}]), WidthError, r"no group matches '0\.out'.*0\.o, 2\.o"),
    refused("narrow of a draw that is not called", step(narrow=[surgery.shared]), InputError, r"surgery\.shared\("),
    refused("a teacher by its name", step(teacher="full"), InputError, "teacher is a model or a function, got str"),
    refused("the model itself as frozen teacher", lambda: teacher_is(net(), distil=surgery.kl(), full=False),
            InputError,
            r"shares its parameters.*wrap a copy, copy\.deepcopy"),
    noticed("the model itself as the only teacher", lambda: teacher_is(net(), distil=surgery.kl()),
            "shares its parameters"),
    refused("a teacher alone", step(ROWS, teacher=net()), InputError, r"as distil=.*surgery\.kl\(\)"),
    refused("distil that is not called", step(distil=surgery.kl), InputError, r"kl\("),
    refused("distil by its name", step(distil="kl"), InputError, "distil is a model or a function, got str"),
    refused("backward=True", step(backward=True), InputError, "backward"),
    refused("a share in percent", step(labels=50), InputError, r"labels is a share in \[0, 1\], got 50"),
    refused("grid of percents", lambda: surgery.grid([25, 50]), InputError, r"numbers in \(0, 1\], got \[25, 50\]"),
    refused("grid of one", lambda: surgery.grid(0.5), InputError, "a sequence of one or more.*got 0.5"),
    refused("shared from a width", lambda: surgery.shared(lower=4), InputError, r"a fraction in \(0, 1\], got 4"),
    refused("warmup without a draw", lambda: surgery.warmup(100, 100), InputError,
            r"draw is a callable.*surgery\.paper"),
    refused("sandwich of a fraction", lambda: surgery.sandwich(0.25), InputError,
            "a sequence of one or more.*got 0.25"),
    refused("sandwich of percents", lambda: surgery.sandwich(["50%"]), WidthError, "50%"),
]  # fmt: skip


def optimizer_first() -> tuple[bool, bool]:
    """An optimizer that was made before wrap: it trains both."""
    model = cnn()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    wrapped = surgery.wrap(model, IMAGES, calibration=[IMAGES]).train()
    before = model.fc.weight.clone()
    surgery.train_step(wrapped, IMAGES, entropy)
    optimizer.step()
    return torch.equal(before, model.fc.weight), torch.equal(wrapped.fc.weight, model.fc.weight)


def optimizer_of_the_plain_model() -> tuple[bool, list[int]]:
    """It is cut for the small model, state and all, and trains that."""
    model = net()
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    wrapped = surgery.wrap(model, ROWS).train()
    surgery.train_step(wrapped, ROWS, entropy)
    optimizer.step()
    small = surgery.shrink(wrapped, 0.5).train()
    cut = surgery.shrink_optimizer(optimizer, wrapped, small)
    before = small[0].weight.clone()
    entropy(small(ROWS)).backward()
    cut.step()
    return torch.equal(before, small[0].weight), list(cut.state[small[0].weight]["exp_avg"].shape)


def cut_optimizer(*given: Any) -> Callable[[], Any]:
    """`shrink_optimizer`, of the names of its arguments."""

    def act() -> Any:
        wrapped = wrapped_net()
        known = {"optimizer": torch.optim.SGD(wrapped.parameters(), 0.1), "wrapped": wrapped,
                 "small": surgery.shrink(wrapped, 0.5), "other": torch.optim.SGD(net().parameters(), 0.1)}  # fmt: skip
        return surgery.shrink_optimizer(*(known[name] for name in given))

    return act


def resumed(state: Callable[[Any], Any]) -> Callable[[], None]:
    return lambda: surgery.load_training_state(wrapped := wrapped_net(), state(wrapped))


ORDER = r"optimizer, (the )?wrapped"
OPTIMIZERS = [
    works("made before wrap", optimizer_first, (False, True)),
    works("of the plain model, for the small one", optimizer_of_the_plain_model, (False, [8, 6])),
    refused("of another model", cut_optimizer("other", "wrapped", "small"), InputError,
            r"a parameter of shape \[16, 6\] that is not in the model"),
    refused("the wrapped model first", cut_optimizer("wrapped", "optimizer", "small"), InputError, ORDER),
    refused("the small model second", cut_optimizer("optimizer", "small", "wrapped"), InputError, ORDER),
    refused("the state_dict as a training's state", resumed(nn.Module.state_dict), InputError,
            r"no state of a training: pass what surgery\.training_state\(wrapped\) gave"),
    refused("the state of another model", resumed(lambda _: surgery.training_state(wrapped_lm())), InputError,
            "of another model than this Sequential.*wrap the model that it was saved of"),
    refused("the state of another draw",
            resumed(lambda _: surgery.training_state(wrapped_net(draw=surgery.paper()))), InputError,
            "was a Paper when this state was saved: wrap with the draw that the training had"),
    refused("cached of a name", lambda: surgery.cached("full"), InputError, "a teacher is a model, or a function"),
    works("cached of a language model", lambda: surgery.train_step(
        wrapped_lm().train(), {"input_ids": IDS}, words, teacher=surgery.cached(lm())).ndim, 0),
]  # fmt: skip


@pytest.mark.parametrize("check", LOSSES)
def test_losses(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", MODELS)
def test_models_and_batches(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", OPTIONS)
def test_options(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", OPTIMIZERS)
def test_optimizers_and_states(check: Any) -> None:
    check()
