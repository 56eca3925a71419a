"""Wrapping: what is given for the model, its example inputs, its options; and what is done to a twin afterwards."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery import CaptureError, InputError, WidthError
from tests.mistakes.models import (
    IDS,
    IMAGES,
    LABELS,
    ROWS,
    Cnn,
    cnn,
    lm,
    loader,
    net,
    twin,
    wrapped_lm,
    wrapped_net,
)  # fmt: skip
from tests.mistakes.table import noticed, refused, works

FORMS = r"a tensor.*tuple.*dict|tuple of (its|positional) arguments|one batch"


def kept_apart() -> tuple[int, bool]:
    """Two twins of one model: widths of their own, and one set of parameters."""
    model = cnn()
    one, other = surgery.wrap(model, IMAGES), surgery.wrap(model, IMAGES)
    with torch.no_grad():
        one.fc.weight.zero_()
    surgery.set_widths(one, 0.5)
    return surgery.widths(other)["conv1.o"], bool((other.fc.weight == 0).all())


def of_first_forward() -> dict[str, int]:
    wrapped = surgery.wrap(net())
    wrapped.eval()(ROWS)
    return surgery.widths(wrapped)


MODELS = [
    refused("the arguments the other way round", lambda: surgery.wrap(IMAGES, cnn()), InputError,
            "a model is an nn.Module, got Tensor"),
    refused("the class instead of a model", lambda: surgery.wrap(Cnn, IMAGES), InputError, "nn.Module, got type"),
    refused("the state_dict", lambda: surgery.wrap(cnn().state_dict(), IMAGES), InputError, "nn.Module, got Ordered"),
    refused("a list of layers", lambda: surgery.wrap([nn.Linear(6, 8)], ROWS), InputError, "nn.Module, got list"),
    refused("wrapped twice", lambda: surgery.wrap(twin(), IMAGES), InputError,
            "is wrapped already: use it as it is, or surgery.unwrap it"),
    refused("a part is wrapped", lambda: surgery.wrap(nn.Sequential(twin(), nn.ReLU()), IMAGES), InputError,
            "0 is wrapped already: surgery.unwrap it, then wrap the whole"),
    works("one model wrapped twice", kept_apart, (8, True)),
    refused("DataParallel first", lambda: surgery.wrap(nn.DataParallel(cnn()), IMAGES), InputError,
            "wrap the model itself first, then parallelise"),
    refused("one layer", lambda: surgery.wrap(nn.Linear(6, 3), ROWS), InputError,
            r"no axis that can change its width.*surgery\.inspect"),
    refused("a lazy layer", lambda: surgery.wrap(nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2)), ROWS), InputError,
            "has no shape yet.*run the model once"),
]  # fmt: skip

INPUTS = [
    works("no example inputs, then a forward", of_first_forward, {"0.o": 16, "2.o": 8}),
    refused("no example inputs, no forward", lambda: surgery.shrink(surgery.wrap(net()), 0.5), InputError,
            "wrapped without example inputs.*call it once, or wrap it with example inputs"),
    refused("inspect without inputs", lambda: surgery.inspect(cnn()), InputError, "give example inputs"),
    refused("inputs and labels by place", lambda: surgery.wrap(cnn(), IMAGES, LABELS), InputError,
            r"one that is too many is a Tensor.*are a tuple: \(x, y\).*labels are not needed"),
    refused("inputs and labels in a tuple", lambda: surgery.wrap(cnn(), (IMAGES, LABELS)), CaptureError,
            r"float32\[8, 3, 6, 6\] on cpu, int64\[8\] on cpu.*takes 2 positional arguments but 3 were given"),
    refused("a DataLoader", lambda: surgery.wrap(cnn(), loader()), CaptureError, FORMS),
    refused("the iterator of a DataLoader", lambda: surgery.wrap(cnn(), iter(loader())), CaptureError, FORMS),
    refused("a batch [x, y] of a DataLoader", lambda: surgery.wrap(cnn(), next(iter(loader()))), CaptureError, FORMS),
    refused("a shape", lambda: surgery.wrap(cnn(), (1, 3, 6, 6)), CaptureError, FORMS),
    refused("a numpy array", lambda: surgery.wrap(cnn(), IMAGES.numpy()), CaptureError, FORMS),
    refused("a text", lambda: surgery.wrap(lm(), "a text"), CaptureError, FORMS),
    refused("without the batch dimension", lambda: surgery.wrap(cnn(), IMAGES[0]), CaptureError,
            r"float32\[3, 6, 6\].*expected 4D input"),
    refused("another dtype", lambda: surgery.wrap(cnn(), IMAGES.half()), CaptureError,
            r"float16\[8, 3, 6, 6\].*Input type \(c10::Half\)"),
    refused("words that are floats", lambda: surgery.wrap(lm(), IDS.float()), CaptureError, "float32.*Long, Int"),
    refused("another device", lambda: surgery.wrap(cnn(), IMAGES.to("meta")), InputError,
            "an example input is on meta, the model on cpu: move one"),
    refused("a misspelt name", lambda: surgery.wrap(lm(), {"inputs_ids": IDS}), CaptureError, "keyword.*inputs_ids"),
    works("names in a dict", lambda: len(surgery.widths(wrapped_lm())), 8),
    works("what a tokenizer gives", lambda: len(surgery.widths(surgery.wrap(lm(), UserDict(input_ids=IDS)))), 8),
    noticed("names as keywords of wrap", lambda: surgery.wrap(lm(), input_ids=IDS), r"dict|surgery\.inputs"),
    noticed("batches of a tensor", lambda: surgery.wrap(net(), surgery.batches(ROWS)), "list"),
    works("half precision", lambda: surgery.shrink(surgery.wrap(net().half(), ROWS.half()), 0.5)[0].weight.dtype,
          torch.float16),
]  # fmt: skip

CALIBRATION = [
    refused("by place", lambda: surgery.wrap(cnn(), IMAGES, [IMAGES]), InputError, "All else is given by name"),
    refused("one tensor", lambda: twin(calibration=IMAGES), InputError, "several batches, got one Tensor: put it into"),
    works("a DataLoader with labels", lambda: surgery.status(twin(calibration=loader())).calibration, 2),
    refused("a tuple (x, y)", lambda: twin(calibration=(IMAGES, LABELS)), InputError,
            r"takes float32 \[8, 3, 6, 6\], and a batch is int64 \[8\]: give batches of inputs"),
    refused("single images", lambda: twin(calibration=list(IMAGES)), InputError,
            r"a batch is float32 \[3, 6, 6\]: giv"),
    refused("dicts with another name", lambda: twin(calibration=[{"image": IMAGES}]), InputError,
            "a batch is image=float32.*give batches of inputs"),
    refused("an exhausted generator", lambda: twin(calibration=iter([])), InputError, "no batches: pass a few"),
    refused("a Dataset", lambda: twin(calibration=loader().dataset), InputError, "DataLoader"),
]  # fmt: skip


def drawn(**options: Any) -> list[tuple[int, ...]]:
    """The widths of many training forwards."""
    wrapped = wrapped_net(**options).train()
    seen = set()
    for _ in range(40):
        wrapped(ROWS)
        seen.add(tuple((surgery.status(wrapped).drawn or {}).values()))
    return sorted(seen)


def draws(uncalled: Callable[..., Any]) -> Any:
    name = uncalled.__name__
    return noticed(f"draw={name} that is not called", lambda: wrapped_net(draw=uncalled), rf"surgery\.{name}\(")


OPTIONS = [
    refused("fixed= matches nothing", lambda: twin(fixed="fc9"), WidthError, r"'fc9'.*are: conv1\.o.*kind: channels"),
    refused("fixed= is a class", lambda: twin(fixed=nn.Conv2d), InputError, "globs over group names, or module paths"),
    refused("all is fixed", lambda: twin(fixed="*"), InputError, "kept fixed by the caller.*surgery.inspect"),
    works("fixed= names what is fixed anyway", lambda: len(surgery.widths(wrapped_lm(fixed="lm_head"))), 8),
    refused("tie= matches nothing", lambda: twin(tie="conv9"), WidthError, r"'conv9'.*are: conv1\.o"),
    works("tie= of a glob", lambda: {a == 2 * b for a, b in drawn(tie="*")}, {True}),
    noticed("tie= of two names in a list", lambda: twin(tie=["conv1.o", "conv2.o"]), "tie.*one group|list"),
    noticed("tie= of one group", lambda: twin(tie="conv1.o"), "tie.*one group"),
    refused("tie='config' without one", lambda: twin(tie="config"), InputError,
            r"not built as Cnn\(config\).*Name what"),
    refused("outputs= of a tensor by name", lambda: twin(outputs="logits"), InputError, "returns.* tensor itself"),
    refused("outputs= misspelt", lambda: wrapped_lm(outputs="logit"), InputError, "'logit' is no part.*: logits, hid"),
    refused("outputs= computes", lambda: wrapped_lm(outputs=lambda o: o["logits"].argmax(-1)), InputError,
            r"picks parts of what the model returns \(logits, hidden\) as they are.*computed"),
    refused("outputs= by attribute", lambda: wrapped_lm(outputs=lambda o: o.logits), InputError,
            r"returns \(logits, hidden\): AttributeError.*'dict' object has no attribute 'logits'"),
    noticed("granularity above a size", lambda: twin(granularity=64), "fewer units than one step.*Give them a smaller"),
    refused("granularity of a fraction", lambda: twin(granularity=0.5), InputError, "a positive int or a mapping.*0.5"),
    noticed("minimum above a size", lambda: twin(minimum=64), r"minimum.*conv1\.o \(8\)"),
    refused("minimum of a fraction", lambda: twin(minimum=0.25), InputError, "a positive int or a mapping.*got 0.25"),
    works("minimum is kept", lambda: min(drawn(minimum=4)), (4, 4)),
    refused("draw of a list", lambda: twin(draw=[0.25, 0.5]), InputError,
            r"draw is a callable.*such as surgery\.paper"),
    refused("draw by its name", lambda: twin(draw="sandwich"), InputError,
            r"such as surgery\.paper\(\), got 'sandwich'"),
    *map(draws, [surgery.sandwich, surgery.shared, surgery.paper, surgery.grid]),
    refused("a seed as generator", lambda: twin(generator=42), InputError, "torch.Generator on the CPU, got 42"),
    refused("a misspelt keyword", lambda: twin(ignore=["fc"]), InputError, "no argument ignore; it has .*fixed"),
]  # fmt: skip


@pytest.mark.parametrize("check", MODELS)
def test_what_is_wrapped(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", INPUTS)
def test_example_inputs(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", CALIBRATION)
def test_calibration(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", OPTIONS)
def test_options(check: Any) -> None:
    check()
