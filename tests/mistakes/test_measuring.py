"""Measuring: what `validate` is and returns, widths and budgets, files of finished rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery import FileError, InputError, SweepError, WidthError
from tests.mistakes.models import (
    IMAGES,
    LABELS,
    QUIET,
    ROWS,
    accuracy,
    cnn,
    loader,
    net,
    size_of,
    twin,
    wrapped_net,
)  # fmt: skip
from tests.mistakes.table import noticed, refused, works

THREE = (1.0, 0.5, 0.25)
FORMS = r"return a number, a tensor of one score per sample, a pair \(score, standard error\), or a dict"
FUNCTION = "validate is a function that takes a model and returns its score"
LIST = r"widths is a list of entries, got .*widths=\(1\.0, 0\.5, 0\.25\)"


def sweep(validate: Any, widths: Any = THREE, **options: Any) -> surgery.Curve:
    return surgery.sweep(wrapped_net(), validate, widths, **{**QUIET, **options})


def returns(value: Any) -> Callable[[], surgery.Curve]:
    return lambda: sweep(lambda model: value)


def scores(validate: Any, **options: Any) -> Callable[[], list[float]]:
    return lambda: [point.score for point in sweep(validate, **options)]


def val_loss(model: nn.Module) -> float:
    """A loss as it is after a training: the narrower, the higher."""
    return 100.0 / size_of(model)


def leaves_train(model: nn.Module) -> float:
    found = float(size_of(model)) if not model.training else 0.0
    model.train()
    return found


def of_another(outer: nn.Module) -> Callable[[nn.Module], float]:
    """Scores the model of the script, whatever it is given."""
    return lambda model: F.cross_entropy(outer(ROWS), LABELS).neg().item()


def of_the_twin() -> int:
    """How many scores there are where `validate` uses the twin of the script, which is the model that it is given."""
    wrapped = wrapped_net()
    return len({point.score for point in surgery.sweep(wrapped, of_another(wrapped), THREE, **QUIET)})


def sets_widths(model: nn.Module) -> float:
    surgery.set_widths(model, 1.0)
    return float(size_of(model))


VALIDATE = [
    refused("before the model", lambda: surgery.sweep(accuracy, twin(), **QUIET), InputError, f"{FUNCTION}, got a Cnn"),
    refused("a model", lambda: sweep(net()), InputError, f"{FUNCTION}, got a Sequential"),
    refused("a score", lambda: sweep(0.9), InputError, rf"{FUNCTION}, got 0\.9"),
    refused("a name", lambda: sweep("accuracy"), InputError, f"{FUNCTION}, got 'accuracy'"),
    refused("no arguments", lambda: sweep(lambda: 0.9), SweepError, "takes 0 positional arguments but 1 was given"),
    refused("a DataLoader as well", lambda: sweep(lambda model, data: 0.9), SweepError, "positional argument: 'data'"),
    refused("returns nothing", returns(None), SweepError, f"validate returned None: {FORMS}"),
    refused("returns a text", returns("90%"), SweepError, f"validate returned '90%': {FORMS}"),
    refused("returns the model", lambda: sweep(lambda model: model), SweepError, FORMS),
    refused("returns a list", returns([0.5, 0.9]), SweepError, FORMS),
    refused("returns three numbers", returns((0.9, 0.1, 0.3)), SweepError, FORMS),
    refused("returns logits", lambda: sweep(lambda m: m(ROWS)), SweepError,
            r"shape \[8, 4\]: average over each sample"),
    refused("returns nan", returns(float("nan")), SweepError, "validate returned nan: return a finite number"),
    refused("returns accuracy and loss", returns((0.9, 0.4)), SweepError, "If the second is a loss, return the score"),
    noticed("returns loss and accuracy", returns((1.4, 0.7)), "loss"),
    refused("returns a dict, loss first", returns({"loss": 0.4, "acc": 0.9}), SweepError,
            "first is the score.*put anot"),
    works("returns a dict, score first",
          lambda: sweep(lambda m: {"acc": size_of(m), "loss": 0.4})[1].metrics["loss"], 0.4),
    noticed("returns a loss", lambda: sweep(val_loss), "[Hh]igher is better"),
    works("returns a negated loss", lambda: sweep(lambda m: -val_loss(m)).choose(max_params="100%").fraction, 1.0),
    works("returns a tensor", scores(lambda m: torch.tensor(float(size_of(m)))), [284.0, 112.0, 50.0]),
    works("leaves training mode on", scores(leaves_train), [284.0, 112.0, 50.0]),
    noticed("scores the model of the script", lambda: sweep(of_another(net())),
            "same score|was not run|does not (run|use)"),
    works("scores the twin of the script", of_the_twin, 3),
    noticed("sets the widths itself", lambda: sweep(sets_widths), "set_widths|widths"),
    refused("trains", lambda: sweep(lambda m: F.cross_entropy(m(ROWS), LABELS).backward()), SweepError, "require grad"),
]  # fmt: skip

WIDTHS = [
    refused("none", lambda: sweep(size_of, []), InputError, r"no widths: pass for example widths=\(1\.0, 0\.5"),
    refused("one fraction", lambda: sweep(size_of, 0.5), InputError, LIST),
    refused("one mapping", lambda: sweep(size_of, {"0.o": 4}), InputError, LIST),
    refused("percents", lambda: sweep(size_of, [100, 50]), WidthError, r"a bare int \(100\).*fraction such as 0\.5"),
    refused("texts", lambda: sweep(size_of, ["50%"]), WidthError, "widths are a fraction.*not str"),
    refused("zero", lambda: sweep(size_of, [1.0, 0.0]), WidthError, r"a fraction lies in \(0, 1\], got 0\.0"),
    refused("adaptive that is not called", lambda: sweep(size_of, surgery.adaptive), InputError, r"adaptive\("),
    works("a generator", lambda: [p.fraction for p in sweep(size_of, (i / 4 for i in (1, 2)))], [0.25, 0.5]),
    works("the same twice", lambda: len(sweep(size_of, [0.5, 0.5])), 1),
    noticed("a multiple above all sizes", lambda: sweep(size_of, multiple=32), "multiple"),
    refused("fractions=", lambda: surgery.sweep(wrapped_net(), size_of, fractions=THREE), TypeError, "'fractions'"),
    refused("a plain model", lambda: surgery.sweep(cnn(), accuracy), InputError, r"not wrapped: call surgery\.wrap\("),
    refused("a small model", lambda: surgery.sweep(surgery.shrink(twin(), 0.5), accuracy), InputError,
            "is not wrapped"),
    noticed("BatchNorm without batches", lambda: surgery.sweep(surgery.wrap(cnn(), IMAGES), accuracy, THREE, **QUIET),
            "statistics are those of other widths.*calibration=batches"),
    works("a DataLoader with labels for statistics",
          lambda: len(surgery.sweep(twin(), accuracy, THREE, recalibrate=loader(), **QUIET)), 3),
    refused("dicts with labels for statistics", lambda: surgery.sweep(
        twin(), accuracy, THREE, recalibrate=[{"image": IMAGES, "labels": LABELS}], **QUIET), InputError,
        "give batches"),
    refused("workers as a number", lambda: sweep(size_of, executor=4), InputError,
            "concurrent.futures.Executor or a Dask client, got 4"),
    refused("sensitivity in percent", lambda: surgery.sensitivity(wrapped_net(), size_of, [50], **QUIET), InputError,
            r"fractions are floats such as 0\.5.*got \[50\]"),
    refused("sensitivity with a typo", lambda: surgery.sensitivity(wrapped_net(), size_of, groups="fc", **QUIET),
            WidthError, r"no group matches 'fc'.*0\.o, 2\.o"),
    refused("progress at one width", lambda: surgery.progress(wrapped_net(), size_of, 0.5), InputError,
            "list of entries"),
]  # fmt: skip


def searched(*budgets: Any, **options: Any) -> Callable[[], surgery.Curve]:
    given = {"evaluations": 8, **QUIET, **options}
    return lambda: surgery.search(wrapped_net(), size_of, list(budgets), **given)


A_BUDGET = (
    "a budget is a float, a share of the MACs, or a mapping of max_params, max_bytes, max_macs, max_latency, got "
)
BUDGETS = [
    refused("percent as an int", searched(50), InputError, f"{A_BUDGET}50"),
    refused("percent as a float", searched(50.0), WidthError, "50%|a share.*at most 1"),
    refused("without max_", searched({"params": 0.5}), InputError, f"{A_BUDGET}.*'params'"),
    refused("a score", searched({"min_score": 0.5}), InputError, f"{A_BUDGET}.*'min_score'"),
    refused("a text without %", searched({"max_params": "50"}), InputError, "'50' is not a finite number.*'50%'"),
    refused("more than all", searched("150%"), InputError, "'150%': a share of the full model.*at most 100 %"),
    refused("one budget", lambda: surgery.search(wrapped_net(), size_of, 0.5), InputError,
            r"list of entries, got 0\.5"),
    refused("none", searched(), InputError, "no budgets: pass for example"),
    refused("too little", searched(0.001), WidthError,
            "no uniform model is within max_macs=0.001. The smallest one has"),
    refused("negative", searched(-0.5), InputError, r"max_macs=-0\.5, but it must be above 0"),
    refused("no evaluations", searched(0.5, evaluations=0), InputError, "at least"),
    works("a text of the MACs", lambda: searched("50%")()[0].macs <= 0.5 * searched("50%")().full["macs"], True),
]  # fmt: skip


def resumed(first: Callable[[Path], Any], second: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """Two sweeps with one file."""

    def act(folder: Path) -> Any:
        first(folder / "rows.json")
        return second(folder / "rows.json")

    return act


def kept(path: Path, model: Callable[[], Any] = wrapped_net, validate: Any = size_of) -> list[float]:
    return [point.score for point in surgery.sweep(model(), validate, (1.0, 0.5), resume=path, **QUIET)]


def never(model: nn.Module) -> float:
    raise AssertionError("nothing is to be scored")


def trained() -> Any:
    wrapped = wrapped_net()
    with torch.no_grad():
        wrapped[0].weight.add_(1.0)
    return wrapped


RESUMED = {
    "of another model": (resumed(kept, lambda path: kept(path, twin)), "rows of another model.*name another file"),
    "of other weights": (resumed(kept, lambda path: kept(path, trained)), "with other weights.*name another file"),
    "a folder": (kept, "cannot be read as JSON.*(Is a directory|Permission denied)"),
    "a saved model": (lambda folder: kept(surgery.save(surgery.shrink(wrapped_net(), 0.5), folder / "small")[1]),
                      "is not a curve"),
}  # fmt: skip


@pytest.mark.parametrize("check", VALIDATE)
def test_validate(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", WIDTHS)
def test_widths(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", BUDGETS)
def test_budgets(check: Any) -> None:
    check()


@pytest.mark.parametrize("name", RESUMED)
def test_foreign_files_of_rows(name: str, tmp_path: Path) -> None:
    act, says = RESUMED[name]
    with pytest.raises(FileError, match=says):
        act(tmp_path)


def test_a_folder_for_rows_is_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.json"
    assert kept(path) == [284.0, 112.0] and path.exists()
    assert kept(path, validate=never) == [284.0, 112.0], "rows that are known are not scored again"
