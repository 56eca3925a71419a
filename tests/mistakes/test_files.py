"""Saving and loading: what is saved, what it is loaded into, and files of others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery import FileError, InputError
from tests.mistakes.models import IDS, IMAGES, ROWS, Cnn, cnn, lm, net, twin, wrapped_lm
from tests.mistakes.table import refused, works

BUILD = "build the model as it was when it was shrunk"
ORDER = "load takes the path of a file, then the full-size model, then example inputs; got a "


def small() -> Cnn:
    return surgery.shrink(twin(), 0.5)


def loaded(model: Callable[[], Any], inputs: Any = IMAGES, name: str = "small") -> Callable[[Path], Any]:
    def act(folder: Path) -> Any:
        surgery.save(small(), folder / "small")
        return surgery.load(folder / name, model(), inputs)

    return act


def weights(folder: Path) -> Path:
    """What most people would save."""
    torch.save(small().state_dict(), folder / "small.pt")
    return folder / "small.pt"


def same(load: Callable[[Path], Any]) -> Callable[[Path], bool]:
    return lambda folder: torch.equal(load(folder)(IMAGES), small()(IMAGES))


def pickled(folder: Path) -> nn.Module:
    torch.save(small(), folder / "whole.pt")
    return torch.load(folder / "whole.pt", weights_only=False)


def twin_pickled(folder: Path) -> nn.Module:
    torch.save(twin(), folder / "twin.pt")
    return surgery.shrink(torch.load(folder / "twin.pt", weights_only=False), 0.5)


def narrow_checkpoint(folder: Path) -> bool:
    """The state_dict of a twin is whole, whichever widths are set."""
    wrapped = twin()
    surgery.set_widths(wrapped, 0.5)
    torch.save(wrapped.state_dict(), folder / "twin.pt")
    fresh = Cnn()
    fresh.load_state_dict(torch.load(folder / "twin.pt"))
    return torch.equal(fresh.eval()(IMAGES), cnn().eval()(IMAGES))


def into_a_folder(folder: Path) -> nn.Module:
    surgery.save(small(), folder)
    return surgery.load(folder, Cnn(), IMAGES)


def language_model(folder: Path) -> bool:
    """Inputs may be given by place or by name."""
    cut = surgery.shrink(wrapped_lm(), 0.5)
    surgery.save(cut, folder / "lm")
    return torch.equal(surgery.load(folder / "lm", lm(), IDS)(IDS)["logits"], cut(input_ids=IDS)["logits"])


Files = Callable[[Path], Callable[[], Any]]
SAVED: list[tuple[Any, ...]] = [
    ("the path first", lambda at: surgery.save(at / "small", small()), InputError,
     "a small model, then a path: they are"),
    ("a plain model", lambda at: surgery.save(cnn(), at / "small"), InputError,
     "not made by surgery.shrink: save its st"),
    ("a wrapped model", lambda at: surgery.save(twin(), at / "small"), InputError, r"not made by surgery\.shrink"),
    ("a state_dict", lambda at: surgery.save(small().state_dict(), at / "small"), InputError,
     "not made by surgery.shr"),
    ("no path", lambda at: surgery.save(small(), None), InputError, "path"),
    ("load with the model first", lambda at: surgery.load(cnn(), at / "small", IMAGES), InputError, f"{ORDER}Cnn"),
    ("load with inputs before the model", lambda at: surgery.load(at / "small", IMAGES, cnn()), InputError,
     f"{ORDER}Posix.*and a Tensor"),
    ("load into the class", loaded(lambda: Cnn), InputError, f"{ORDER}.*and a type"),
    ("load into a function", loaded(lambda: cnn), InputError, f"{ORDER}.*and a function"),
    ("load without inputs", lambda at: surgery.load(at / "small", cnn()), TypeError, "argument: 'example_inputs'"),
    ("load of no file", loaded(cnn, name="large"), FileError, r"there is no file .*large\.json"),
    ("load of a torch.save file", lambda at: surgery.load(weights(at), cnn(), IMAGES), FileError, r"surgery\.save"),
    ("load into a small model", loaded(small), FileError, rf"conv1|bn1\.bias is \[8\] there and \[4\] here.*{BUILD}"),
    ("load into a narrower model", loaded(lambda: Cnn(4)), FileError,
     rf"bn1\.bias is \[8\] there and \[4\] here.*{BUILD}"),
    ("load into another class", loaded(net, ROWS), FileError,
     rf"a Cnn of another architecture than this Sequential.*{BUILD}"),
    ("load into a wrapped model", loaded(twin), InputError, "is wrapped.*unwrap"),
    ("state_dict of the small into the full", lambda at: cnn().load_state_dict(torch.load(weights(at))), RuntimeError,
     r"size mismatch for conv1\.weight.*\[4, 3, 3, 3\].*\[8, 3, 3, 3\]"),
    ("state_dict of the small into the wrapped", lambda at: twin().load_state_dict(torch.load(weights(at))),
     RuntimeError,
     r"size mismatch for conv1\.weight.*\[4, 3, 3, 3\].*\[8, 3, 3, 3\]"),
]  # fmt: skip

RIGHT: dict[str, Callable[[Path], bool]] = {
    "load": same(loaded(cnn)),
    "load in training mode": same(loaded(lambda: cnn().train())),
    "load by the name of the file": same(loaded(cnn, name="small.safetensors")),
    "save into a folder that is there": same(into_a_folder),
    "torch.save of the small model": same(pickled),
    "torch.save of the wrapped model": same(twin_pickled),
    "the state_dict of a wrapped model at narrow widths": narrow_checkpoint,
    "a language model": language_model,
}


def _row(name: str, act: Callable[[Path], Any], error: type[BaseException], says: str) -> Any:
    found = refused(name, act, error, says)
    return pytest.param((act, error, says), id=name, marks=found.marks)


@pytest.mark.parametrize("row", [_row(*row) for row in SAVED])
def test_files(row: Any, tmp_path: Path) -> None:
    act, error, says = row
    (check,) = refused("", lambda: act(tmp_path), error, says).values
    check()


@pytest.mark.parametrize("name", RIGHT)
def test_guesses_about_files_that_are_right(name: str, tmp_path: Path) -> None:
    (check,) = works("", lambda: RIGHT[name](tmp_path), True).values
    check()
