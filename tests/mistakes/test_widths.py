"""Widths: percents, ints, lists, typos; and what `shrink`, `cost` and `recalibrate` are given."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import surgery
from surgery import InputError, WidthError
from tests.mistakes.models import IDS, IMAGES, LABELS, QUIET, ROWS, cnn, lm, net, size_of, twin, wrapped_lm, wrapped_net
from tests.mistakes.table import noticed, refused, works

WHOLE = "widths are a fraction, a mapping or a point of a curve, not "
GROUP = r"group conv1\.o \(size 8, granularity 1\): "


def at(widths: Any) -> dict[str, int]:
    """The widths of the CNN after `set_widths`."""
    wrapped = twin()
    surgery.set_widths(wrapped, widths)
    return surgery.widths(wrapped)


def heads_and_ffn(widths: Any) -> list[int]:
    wrapped = wrapped_lm()
    surgery.set_widths(wrapped, widths)
    found = surgery.widths(wrapped)
    return [found[f"layers.{i}.{name}"] for i in (0, 1) for name in ("q_proj.o.0", "up_proj.o")]


WIDTHS = [
    refused("percent as an int", lambda: at(50), WidthError, r"a bare int \(50\).*write a fraction such as 0\.5"),
    refused("percent as a float", lambda: at(50.0), WidthError, rf"{GROUP}a fraction lies in \(0, 1\], got 50\.0"),
    refused("percent as a text", lambda: at("50%"), WidthError, f"{WHOLE}str"),
    refused("percent of a group", lambda: at({"conv1.o": "50%"}), WidthError,
            f"{GROUP}a width is an int or a fraction"),
    refused("a negative number", lambda: at(-1), WidthError, r"(?!.*\{'\*': -1\}).*0\.5"),
    refused("a negative width", lambda: at({"conv1.o": -2}), WidthError, f"{GROUP}the width -2 is not between 1 and 8"),
    refused("no width", lambda: at({"conv1.o": 0}), WidthError, f"{GROUP}the width 0 is not between 1 and 8"),
    refused("a fraction of zero", lambda: at(0.0), WidthError, r"a fraction lies in \(0, 1\], got 0\.0"),
    refused("above the size", lambda: at({"conv1.o": 9}), WidthError, f"{GROUP}the width 9 is not between 1 and 8"),
    refused("one int for groups of other sizes", lambda: at({"*": 12}), WidthError, f"{GROUP}the width 12 is not betw"),
    refused("a width that was computed as a float", lambda: at({"conv1.o": 8 * 0.5}), WidthError,
            rf"{GROUP}a fraction lies in \(0, 1\], got 4\.0"),
    refused("a list of widths", lambda: at([4, 8]), WidthError, f"{WHOLE}list"),
    refused("a list of kept units", lambda: at({"conv1.o": [0, 1, 2]}), WidthError,
            f"{GROUP}a width is an int or a fr"),
    refused("a tensor", lambda: at(torch.tensor(0.5)), WidthError, f"{WHOLE}Tensor"),
    refused("None", lambda: at(None), WidthError, f"{WHOLE}NoneType"),
    refused("a curve", lambda: at(surgery.sweep(twin(), size_of, [1.0], **QUIET)), WidthError, f"{WHOLE}Curve"),
    refused("a point of another model",
            lambda: at(surgery.sweep(wrapped_net(), size_of, [0.5], **QUIET)[0]), WidthError,
            r"no group matches '0\.o'\. The groups of Cnn are: conv1\.o, conv2\.o"),
    refused("a plain model", lambda: surgery.set_widths(cnn(), 0.5), InputError, r"not wrapped: call surgery\.wrap\("),
]  # fmt: skip


def printed() -> bool:
    """A name as the plan prints it, for blocks that repeat."""
    plan = surgery.inspect(wrapped_lm(4))
    assert "layers.{0..3}.up_proj.o" in plan.table()
    return plan.widths({"layers.{0..3}.up_proj.o": 12}) == plan.widths({"ffn": 12})


NAMES = [
    refused("a typo in a group", lambda: at({"conv1.0": 4}), WidthError, r"'conv1\.0'.*are: conv1\.o, conv2\.o"),
    refused("a parameter", lambda: at({"conv1.weight": 4}), WidthError, r"'conv1\.weight'.*are: conv1\.o, conv2\.o"),
    refused("an attribute", lambda: at({"conv1.out_channels": 4}), WidthError, r"are: conv1\.o, conv2\.o; by kind"),
    refused("a number", lambda: at({0: 4}), WidthError, r"no group matches '0'.*are: conv1\.o"),
    refused("a typo in a kind", lambda: heads_and_ffn({"fnn": 0.5}), WidthError, r"by kind: heads \(2\).*ffn \(2\)"),
    refused("a kind in other letters", lambda: heads_and_ffn({"FFN": 0.5}), WidthError, r"by kind: .*ffn \(2\)"),
    refused("a kind that this model has not", lambda: heads_and_ffn({"channels": 0.5}), WidthError, r"by kind: heads"),
    refused("a name of the configuration", lambda: heads_and_ffn({"intermediate_size": 12}), WidthError,
            r"no group matches 'intermediate_size'.*by kind: heads \(2\), head_width \(4\), ffn \(2\)"),
    refused("a typo in a deep model", lambda: surgery.set_widths(wrapped_lm(4), {"layers.3.up_prj.o": 0.5}), WidthError,
            r"layers\.3\.up_proj\.o"),
    works("a row of the printed plan", printed, True),
    works("a module", lambda: at({"conv1": 0.5}), {"conv1.o": 4, "conv2.o": 16}),
    works("a norm", lambda: at({"bn1": 0.5}), {"conv1.o": 4, "conv2.o": 16}),
    works("a kind", lambda: heads_and_ffn({"heads": 2, "ffn": 0.5}), [2, 12, 2, 12]),
    works("a kind below a module", lambda: heads_and_ffn({"layers.1:ffn": 6}), [4, 24, 4, 6]),
    works("a glob, then one of its groups", lambda: at({"*": 0.5, "conv2.o": 2}), {"conv1.o": 4, "conv2.o": 2}),
    works("the rest is full", lambda: at({"conv2.o": 3}), {"conv1.o": 8, "conv2.o": 3}),
    refused("tied groups apart", lambda: surgery.cost(
        wrapped_lm(tie="ffn"), {"layers.0.up_proj.o": 12, "layers.1.up_proj.o": 24}), WidthError,
        "are tied: they have one fraction.*12 of 24 and 24 of 24 were asked for. Give one of them, or wrap.*without"),
]  # fmt: skip


def again() -> int:
    """Cut, and cut again."""
    small = surgery.shrink(net(), 0.5, ROWS)
    return surgery.shrink(small, 0.5, ROWS)[0].out_features


def untouched() -> tuple[int, int]:
    """A model is not cut in place."""
    model = net()
    return surgery.shrink(model, 0.5, ROWS)[0].out_features, model[0].out_features


OUTDATED = r"statistics are those of other widths.*calibration=batches.*recalibrate=batches here"
SHRINK = [
    refused("a plain model without inputs", lambda: surgery.shrink(cnn(), 0.5), InputError, "give example inputs"),
    refused("inputs before widths", lambda: surgery.shrink(cnn(), IMAGES, 0.5), InputError, "widths.*then|order"),
    refused("inputs instead of widths", lambda: surgery.shrink(twin(), IMAGES), InputError, "widths, then example"),
    refused("widths before the model", lambda: surgery.shrink(0.5, twin()), InputError, "nn.Module, got float"),
    refused("no widths", lambda: surgery.shrink(twin()), TypeError, "'widths'"),
    works("not in place", untouched, (8, 16)),
    works("a small model again", again, 4),
    noticed("BatchNorm without batches", lambda: surgery.shrink(surgery.wrap(cnn(), IMAGES), 0.5), OUTDATED),
    refused("one batch", lambda: surgery.shrink(twin(), 0.5, recalibrate=IMAGES), InputError, "got one Tensor: put it"),
    refused("recalibrate=True", lambda: surgery.shrink(twin(), 0.5, recalibrate=True), InputError,
            "several batches.*bo"),
    refused("refit=True", lambda: surgery.shrink(twin(), 0.5, refit=True), InputError, "several batches.*bool: put it"),
    refused("refit without batches", lambda: surgery.shrink(twin(), 0.5, refit=[]), InputError, "give a few batches"),
    works("refit with labels", lambda: surgery.shrink(twin(), 0.5, refit=[(IMAGES, LABELS)]).conv1.out_channels, 4),
    refused("a multiple of zero", lambda: surgery.shrink(twin(), 0.5, multiple=0), InputError, "positive int, got 0"),
    noticed("a multiple above all sizes", lambda: surgery.shrink(wrapped_net(), 0.25, multiple=32), "multiple.*full"),
    works("heads that are no divisor", lambda: surgery.shrink(wrapped_lm(), {"heads": 3}).layers[0].config.num_heads,
            3),
    works("what a configuration can say",
          lambda: surgery.shrink(surgery.wrap(lm(), {"input_ids": IDS}, tie="config"), 0.5).config.intermediate_size,
          12),
    refused("cost before the inputs", lambda: surgery.cost(cnn(), IMAGES), InputError, "example_inputs=|then example"),
    refused("the cost at a percent", lambda: surgery.cost(twin(), 50), WidthError, r"a bare int \(50\)"),
    refused("verify at other widths", lambda: surgery.verify(twin(), surgery.shrink(twin(), 0.5), IMAGES),
            surgery.ProofError, "at_widths|set_widths"),
]  # fmt: skip


def recalibrated(batches: Any) -> int:
    wrapped = twin()
    surgery.recalibrate(wrapped, batches)
    return int(wrapped.bn1.num_batches_tracked)


STATISTICS = [
    refused("no batches", lambda: surgery.recalibrate(surgery.wrap(cnn(), IMAGES)), InputError,
            "no batches.*pass a few"),
    refused("an empty list", lambda: recalibrated([]), InputError, "no batches: pass a few batches"),
    refused("one tensor", lambda: recalibrated(IMAGES), InputError,
            "several batches, got one Tensor: put it into a li"),
    refused("a small model", lambda: surgery.recalibrate(surgery.shrink(twin(), 0.5)), InputError,
            "pass a few batches"),
    works("inputs and labels", lambda: recalibrated([(IMAGES, LABELS)] * 2), 2),
    works("lists of a DataLoader", lambda: recalibrated([[IMAGES, LABELS]] * 3), 3),
    works("dicts", lambda: recalibrated([{"x": IMAGES}]), 1),
    works("dicts with labels", lambda: recalibrated([{"x": IMAGES, "labels": LABELS}]), 1),
    refused("a plain model with labels", lambda: surgery.recalibrate(cnn(), [(IMAGES, LABELS)]), InputError, "labels"),
    refused("sort by a name", lambda: surgery.sort(net(), ROWS, by="magnitude"), InputError, "criterion"),
    refused("sort by what is not called", lambda: surgery.sort(net(), ROWS, by=surgery.magnitude), InputError,
            r"magnitude\("),
    refused("nest with the inputs before the batches", lambda: surgery.nest(net(), ROWS, [ROWS]), InputError,
            r"then example inputs: nest\(model, batches, x\)"),
]  # fmt: skip


@pytest.mark.parametrize("check", WIDTHS)
def test_widths(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", NAMES)
def test_names(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", SHRINK)
def test_shrink(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", STATISTICS)
def test_statistics_and_orders(check: Any) -> None:
    check()
