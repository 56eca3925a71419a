"""docs/troubleshooting.md quotes messages as the library has them, and each is what a user gets."""

from __future__ import annotations

import ast
import itertools
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.small_models import mlp

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TITLES = re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE)
X = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 3


def said() -> set[str]:
    """Every text in the code of the library, with `…` for what is put into it."""
    found = set()
    for file in [*ROOT.glob("surgery/**/*.py"), *ROOT.glob("adapters/*.py")]:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.add("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(re.sub(r"\{\w*\}", "…", node.value))
    return found


SAID = said()


@pytest.mark.parametrize("title", TITLES)
def test_a_quoted_message_is_one_of_the_library(title: str) -> None:
    parts = [re.escape(part) for part in title.split("…")]
    assert any(re.match(".*".join(parts), text, re.DOTALL) for text in SAID), "no text of surgery/ begins like this"


def wrapped(model: nn.Module | None = None, **options: object) -> nn.Module:
    return surgery.wrap(mlp(8, 16, 16, 3) if model is None else model, X, **options)


def learn(model: nn.Module, **options: object) -> None:
    surgery.train_step(model, X, lambda output: F.cross_entropy(output, Y), **options)


def measured() -> surgery.Curve:
    return surgery.sweep(wrapped(), lambda model: 0.5, widths=(1.0, 0.5), measure_latency=False, progress=False)


def elsewhere() -> None:
    surgery.save(surgery.shrink(wrapped(), 0.5), "small")
    surgery.load("small", mlp(8, 16, 16, 4), X)


class Counting(nn.Module):
    """Computes something else each time, by what is no part of it."""

    calls = itertools.count()

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x)) + next(self.calls)


def taught_by_itself() -> None:
    model = mlp(8, 16, 3)
    surgery.train_step(wrapped(model).train(), X, teacher=model, distil=surgery.kl(), full=False)


def filled_since() -> None:
    with torch.device("meta"):
        model = mlp(8, 16, 3)
    surgery.shrink(surgery.wrap(model, X.to("meta")).to_empty(device="cpu"), 0.5)


def runs_uncompiled() -> None:
    model = wrapped().eval()
    model[0].register_forward_hook(lambda *_: None)
    model.compile(backend="eager")
    model(X), model(X)


CASES: dict[str, Callable[[], object]] = {
    "does not run in": lambda: surgery.wrap(nn.Linear(8, 8), torch.randn(2, 9)),
    "has no axis that": lambda: surgery.wrap(nn.Linear(8, 3), X),
    "no group matches": lambda: wrapped(fixed="encoder"),
    "granularity: ": lambda: wrapped(granularity={"*": 16, "2.o": 32}),
    "an example input is on": lambda: surgery.wrap(mlp(8, 16, 3), X.to("meta")),
    "is compiled": lambda: wrapped(torch.compile(mlp(8, 16, 3))),
    "was wrapped on the meta device": filled_since,
    "is wrapped already": lambda: wrapped(wrapped()),
    "is not wrapped": lambda: surgery.progress(mlp(8, 16, 3), lambda model: 0.0),
    "is in eval mode": lambda: learn(wrapped().eval()),
    "loss is a function": lambda: surgery.train_step(wrapped().train(), X, torch.tensor(1.0)),
    "no softmax": lambda: surgery.train_step(wrapped().train(), X, lambda output: output.pow(4).mean()),
    "torch.compile leaves": lambda: torch.compile(wrapped(), backend="eager")(X),
    "runs uncompiled": runs_uncompiled,
    "the teacher shares": taught_by_itself,
    "BatchNorm": lambda: surgery.shrink(wrapped(mlp(8, 16, 3, norm=True)), 0.5),
    "validate returned": lambda: surgery.sweep(wrapped(), lambda model: (0.9, 1.3), progress=False),
    "choose: none": lambda: measured().choose(min_score=0.9),
    "choose: all": lambda: measured().choose(min_score=0.1, max_params=10**9),
    "a bare int": lambda: surgery.shrink(wrapped(), 8),
    "are tied": lambda: surgery.shrink(wrapped(tie="*"), {"0.o": 4, "2.o": 16}),
    "does not equal": lambda: surgery.shrink(surgery.wrap(Counting(), X, rehearse=False), 0.5),
    "of another architecture": elsewhere,
    "there is no file": lambda: surgery.load("nothing", mlp(8, 16, 3), X),
    "was not made by": lambda: surgery.save(mlp(8, 16, 3), "small"),
    "tie='config'": lambda: wrapped(tie="config"),
}  # fmt: skip
# reasons of plans; a matter of time; what takes a model with a configuration (tests/shrinking/test_language_models.py),
# or several ranks (tests/cluster)
ELSEWHERE = {
    "it is an output of the model",
    "Fewer MACs did not mean less time",
    "no config of … gives this small model",
    "… is spread over ranks: wrap the plain model first",
    "… is spread over … ranks by its dimension …, and cannot be cut to …",
}


def test_every_message_is_tried() -> None:
    tried = {title for title in TITLES for word in CASES if word in title}
    assert tried | ELSEWHERE == set(TITLES)


@pytest.mark.filterwarnings("always:::")
@pytest.mark.parametrize("word", CASES)
def test_a_message_is_what_a_user_gets(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (title,) = (title for title in TITLES if word in title)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            CASES[word]()
        except surgery.SurgeryError as error:
            messages = [str(error)]
        else:
            messages = [str(item.message) for item in heard]
    pattern = ".*".join(map(re.escape, title.split("…")))
    assert any(re.search(pattern, message, re.DOTALL) for message in messages), messages
