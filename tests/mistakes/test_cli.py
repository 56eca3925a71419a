"""The command: how models, inputs, files and budgets are written, and how they are not."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import surgery
from surgery.cli import main
from tests.mistakes.models import QUIET, net, size_of, wrapped_net

MINE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

def sized(width):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 2))

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

def words():
    return nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 5), nn.Linear(5, 3))

def weights():
    return net().state_dict()

loader = [torch.randn(16, 4) for _ in range(6)]
one = torch.randn(16, 4)
"""
INSPECT: list[tuple[str, ...]] = [
    ("a missing module", "nowhere:net 2,4", "importing nowhere failed: ModuleNotFoundError"),
    ("a missing function", "mine:nett 2,4", "looking for nett in mine failed: AttributeError"),
    ("no function", "mine 2,4", "'mine' is not MODULE:FACTORY: write .*torchvision.models:resnet18"),
    ("a dot for the colon", "mine.net 2,4", "'mine.net' is not MODULE:FACTORY: write .*torchvision.models:resnet18"),
    ("a path for the module", "./mine:net 2,4", r"mine\.py:net|write mine:net"),
    ("a checkpoint", "weights.pt 2,4", "'weights.pt' is not MODULE:FACTORY"),
    ("a function that needs arguments", "mine:sized 2,4", r"needs arguments \(width\).*write a function around it"),
    ("a call", "mine:net() 2,4", r"looking for net\(\) in mine failed"),
    ("a state_dict", "mine:weights 2,4", r"mine:weights\(\) returned OrderedDict, not a torch\.nn\.Module"),
    ("a shape with x", "mine:net 2x4", r"--input '2x4' is not SHAPE\[:DTYPE\], such as 2,16:long"),
    ("a shape in brackets", "mine:net (2,4)", r"is not SHAPE\[:DTYPE\], such as"),
    ("a dtype of torch", "mine:net 2,4:float32", "The dtypes are float, double, half"),
    ("code for an input", "mine:net torch.randn(2,4)", r"is not SHAPE\[:DTYPE\]"),
    ("another number of features", "mine:net 2,5", r"does not run.*float32\[2, 5\].*\(2x5 and 4x8\)"),
    ("words that are floats", "mine:words 2,5", r"float32\[2, 5\].*Long, Int"),
    ("a file in no folder", "mine:net 2,4 --json no/plan.json", "--json no/plan.json: cannot be written.*name another"),
]  # fmt: skip
COMPRESS: list[tuple[str, ...]] = [
    ("a budget of nothing", "--batches mine:loader --budget 50%",
     "is not like '50% macs' or '2000000 bytes': macs, para"),
    ("a budget as a number", "--batches mine:loader --budget 0.5", "is not like '50% macs'"),
    ("a budget of FLOPs", "--batches mine:loader --budget 50%_flops", "is not like '50% macs'"),
    ("more than all", "--batches mine:loader --budget 150%_macs", "at most 100 %"),
    ("too little", "--batches mine:loader --budget 1%_macs", "no uniform model is within.*The smallest one has"),
    ("a file of batches", "--batches data.pt --budget 50%_macs", "'data.pt' is not MODULE:FACTORY"),
    ("one tensor of batches", "--batches mine:one --budget 60%_macs --evaluations 4", "list"),
    ("a score that is no function", "--batches mine:loader --budget 60%_macs --validate mine:one", "function"),
    ("a file as the folder", "--batches mine:loader --budget 60%_macs --evaluations 4 --out mine.py",
     "mine.py.*(folder|file)"),
]  # fmt: skip
REPORT: list[tuple[str, ...]] = [
    ("a missing curve", "none.json", "none.json: there is no such file; .* has curve.json"),
    ("without its ending", "curve", "curve: there is no such file; .* has curve.json"),
    ("a saved model", "small.json", "small.json: is not a curve.*Curve.to_json writes"),
    ("a checkpoint", "weights.pt", "weights.pt: cannot be read as JSON"),
    ("some other JSON", "other.json", "other.json: is not a curve"),
    ("into no folder", "curve.json --out no/page.html", "no/page.html: cannot be written.*name another file"),
    ("into a folder", "curve.json --out .", "cannot be written.*name another file"),
]  # fmt: skip
USAGE = {
    "no command": "", "no model": "inspect", "no input": "inspect mine:net",
            "an input in two": "inspect mine:net --input 2 4",
    "another option": "inspect mine:net --shape 2,4", "another command": "shrink mine:net", "no curve": "report",
    "no budget": "compress mine:net --batches mine:loader",
    "epochs as a word": "compress mine:net --batches mine:loader --budget 50% --epochs two",
}  # fmt: skip
USAGE_SAYS = {
    "no command": "required: COMMAND", "no model": "required: MODULE:FACTORY, --input", "no input": "required: --input",
    "an input in two": "unrecognized arguments: 4", "another option": "required: --input",
    "another command": r"invalid choice: 'shrink' \(choose from .*inspect", "no curve": r"required: CURVE\.json",
    "no budget": "required: --budget",
    "epochs as a word": "--epochs: invalid .*'two'",
}  # fmt: skip


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a user: a module, a checkpoint, a curve, a saved model."""
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "inner.py").write_text(MINE)
    (tmp_path / "other.json").write_text("{}")
    torch.save(net().state_dict(), tmp_path / "weights.pt")
    wrapped = wrapped_net()
    surgery.sweep(wrapped, lambda model: size_of(model) / 284, (1.0, 0.5), **QUIET).to_json(tmp_path / "curve.json")
    surgery.save(surgery.shrink(wrapped, 0.5), tmp_path / "small")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in ("mine", "sub", "sub.inner"):
        sys.modules.pop(name, None)


def rows(table: list[tuple[str, ...]]) -> list[Any]:
    return [pytest.param(row[1], row[2], id=row[0]) for row in table]


def refuses(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One message, no traceback, and the exit code of a refusal."""
    assert main(arguments) == 2
    said = capsys.readouterr().err
    found = said[said.index("surgery: ") :]
    assert re.search(says, found, re.DOTALL) and "Traceback" not in said, said


@pytest.mark.parametrize(("line", "says"), rows(INSPECT))
def test_inspect(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, shape, *others = line.split()
    refuses(["inspect", model, "--input", shape, *others], says, capsys)


@pytest.mark.parametrize(
    "line",
    [
        "mine:net 2,4",
        "mine:Net 2,4",
        "mine:net 4",
        "sub.inner:net 2,4:float",
        "mine.py:net 2,4",
        "sub/inner.py:net 2,4",
    ],
)
def test_inspect_is_right(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, shape = line.split()
    assert main(["inspect", model, "--input", shape]) == 0
    assert re.search(r"58 parameters.*0\.o +hidden +8", capsys.readouterr().out, re.DOTALL)


@pytest.mark.parametrize(("line", "says"), rows(COMPRESS))
def test_compress(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    refuses(["compress", "mine:net", *(word.replace("%_", "% ") for word in line.split())], says, capsys)


@pytest.mark.parametrize(("line", "says"), rows(REPORT))
def test_report(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    refuses(["report", *line.split()], says, capsys)


@pytest.mark.parametrize("name", USAGE)
def test_usage(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(USAGE[name].split())
    assert re.search(USAGE_SAYS[name], capsys.readouterr().err)
