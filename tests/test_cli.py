"""The command line: what it prints, and how it refuses."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import surgery
from surgery.cli import example, load_model, main
from surgery.errors import InputError
from tests.curves.made import nested

ROOT = Path(__file__).resolve().parents[1]
MODELS = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

def tagger():
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.scale, self.head = nn.Embedding(9, 6), nn.Linear(3, 6), nn.Linear(6, 2)
        def forward(self, words, extra):
            return self.head(self.embed(words) * self.scale(extra))
    return Tagger()

loader = [torch.randn(16, 4) for _ in range(6)]

def scored(model):
    return -float(model(loader[0]).square().mean())

def sized(width, depth=1, *, norm):
    return small()

ready = small()
nothing = lambda: None
number = 3

def broken():
    raise ValueError("out of cheese")

def deep():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(8, 8)
        def forward(self, x):
            return x + self.inner(x).relu()
    return nn.Sequential(nn.Linear(4, 8), nn.Sequential(Block(), Block(), Block()), nn.Linear(8, 2))
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with the user's module, and the program running in it."""
    (tmp_path / "my_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    sys.modules.pop("my_models", None)


@pytest.mark.parametrize("spec", ["my_models:small", "my_models:ready"])
def test_inspect_prints_the_plan(spec, capsys):
    assert main(["inspect", spec, "--input", "5,4"]) == 0
    printed = capsys.readouterr().out
    assert "0.o" in printed and "58 parameters" in printed


def test_inspect_takes_several_inputs_and_integers(capsys):
    assert main(["inspect", "my_models:tagger", "--input", "2,7:long", "--input", "2,7,3"]) == 0
    assert "embed" in capsys.readouterr().out


def test_inspect_runs_the_model_in_the_dtype(capsys):
    for dtype in ("double", "bfloat16"):
        assert main(["inspect", "my_models:small", "--input", "5,4", "--dtype", dtype]) == 0


@pytest.mark.parametrize("globs", [[], ["1.depth"]])
def test_inspect_shows_which_modules_may_be_left_out(globs, capsys):
    assert main(["inspect", "my_models:deep", "--input", "5,4", "--depth", *globs]) == 0
    assert re.search(r"^1\.depth +depth +3 +1 +6 ", capsys.readouterr().out, re.MULTILINE)


def test_inspect_writes_json(workplace, capsys):
    assert main(["inspect", "my_models:small", "--input", "5,4", "--json", "plan.json"]) == 0
    assert json.loads((workplace / "plan.json").read_text())["parameters"] == 58
    assert main(["inspect", "my_models:small", "--input", "5,4", "--json", "no/plan.json"]) == 2
    assert "--json no/plan.json: cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spec, message",
    [
        ("my_models", "'my_models' is not MODULE:FACTORY"),
        ("my_models.py", "'my_models.py' is not MODULE:FACTORY: write torchvision.models:resnet18, or for a file"),
        (":small", "is not MODULE:FACTORY"),
        ("my_models:", "is not MODULE:FACTORY"),
        ("nowhere:small", "importing nowhere failed: ModuleNotFoundError: No module named 'nowhere'"),
        (
            "nowhere.inner:small",
            "and among the installed packages: run the command where nowhere is, or write path/to/",
        ),
        ("needy:net", "No module named 'nothing_such'. It is imported by needy: install it where surgery is installed"),
        ("needy.py:net", "importing needy.py failed: ModuleNotFoundError: No module named 'nothing_such'"),
        (
            "part.py:net",
            "relative import with no known parent package. It is part of a package: write package.module:name",
        ),
        ("my_model.py:small", "my_model.py: there is no such file; {folder} has my_models.py, needy.py, part.py"),
        ("lost/net.py:small", "lost/net.py: there is no such file; {folder}/lost holds no *.py"),
        ("my_models:large", "looking for large in my_models failed: AttributeError"),
        ("my_models:large", "It has small, tagger, scored, sized, ready, nothing, broken"),
        ("my_models.py:smal", "looking for smal in my_models.py failed: AttributeError: module 'my_models' has no"),
        ("my_models:smal", "Did you mean small?"),
        (
            "my_models:sized",
            "my_models:sized needs arguments (width, norm), and the command gives none: write a function",
        ),
        ("my_models:sized", "`def model(): return sized(width=..., norm=...)`"),
        ("my_models:nn.Linear", "my_models:nn.Linear needs arguments (in_features, out_features)"),
        ("my_models:broken", "calling my_models:broken() failed: ValueError: out of cheese"),
        ("my_models:nothing", "my_models:nothing() returned NoneType, not a torch.nn.Module"),
        ("my_models:number", "my_models:number is int, not a function that returns a model"),
    ],
)
def test_what_is_no_model_is_refused_without_a_traceback(spec, message, capsys):
    Path("needy.py").write_text("import nothing_such\nnet = None\n")
    Path("part.py").write_text("from . import other\n")
    assert main(["inspect", spec, "--input", "5,4"]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("surgery: ") and "Traceback" not in said.err
    assert message.format(folder=Path.cwd()) in said.err
    assert not said.out


@pytest.mark.parametrize("spec", ["my_models.py:small", "./my_models.py:ready", "elsewhere/nets.py:net"])
def test_a_file_is_as_good_as_a_module(spec, workplace, capsys):
    folder = workplace / "elsewhere"
    folder.mkdir()
    (folder / "beside_nets.py").write_text("from torch import nn\nwidth = 8\n")
    layers = "nn.Sequential(nn.Linear(4, width), nn.Linear(width, 2))"
    (folder / "nets.py").write_text(f"from beside_nets import nn, width\n\ndef net():\n    return {layers}\n")
    assert main(["inspect", spec, "--input", "5,4"]) == 0
    assert "58 parameters" in capsys.readouterr().out
    assert load_model(spec) is not None
    for name in ("nets", "beside_nets"):
        sys.modules.pop(name, None)


def test_a_file_that_is_called_like_a_module(workplace, capsys):
    (workplace / "json.py").write_text(MODELS)
    assert main(["inspect", "json.py:small", "--input", "5,4"]) == 0
    assert sys.modules["json"] is json


def test_inspect_shows_what_is_asked_for(workplace, capsys):
    command = ["inspect", "my_models:tagger", "--input", "2,7:long", "--input", "2,7,3"]
    assert main([*command, "--filter", "embed"]) == 0
    printed = capsys.readouterr().out
    assert "(embed: 1 of 1 groups)" in printed and "head.bias" not in printed
    assert main([*command, "--filter", "head.*"]) == 0
    assert "head.bias" in capsys.readouterr().out
    assert main([*command, "--filter", "ffn"]) == 2
    assert "no group matches 'ffn'" in capsys.readouterr().err


def test_inspect_draws_a_page(workplace, capsys):
    assert main(["inspect", "my_models:small", "--input", "5,4", "--page", "plan.html"]) == 0
    assert re.search(r"^plan\.html \(\d+ kB\)$", capsys.readouterr().out, re.MULTILINE)
    assert "<h1>Sequential and its widths</h1>" in (workplace / "plan.html").read_text(encoding="utf-8")
    assert main(["inspect", "my_models:small", "--input", "5,4", "--page", "no/plan.html"]) == 2
    assert "no/plan.html: cannot be written" in capsys.readouterr().err


def test_a_table_fits_the_terminal_and_is_whole_in_a_pipe(monkeypatch, capsys):
    command = ["inspect", "my_models:small", "--input", "5,4"]
    assert main(command) == 0
    whole = capsys.readouterr().out
    assert "0.out_features, 2.in_features" in whole
    monkeypatch.setenv("COLUMNS", "80")
    assert main(command) == 0
    assert capsys.readouterr().out == whole
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(command) == 0
    short = capsys.readouterr().out
    rows = [line for line in short.splitlines() if line.startswith(("group", "0.o"))]
    assert len(rows) == 2 and max(map(len, rows)) <= 80 and rows[1].endswith("…")
    assert short.replace("…", "")[:40] == whole[:40]


def test_every_help_ends_in_an_example(capsys):
    for command in ([], ["demo"], ["inspect"], ["report"], ["compress"]):
        with pytest.raises(SystemExit, match="0"):
            main([*command, "--help"])
        printed = capsys.readouterr().out
        examples = printed[printed.index("\nexample") :].splitlines()
        assert any(line.startswith(f"  surgery {' '.join(command)}") for line in examples) and "%%" not in printed


def test_inputs_that_do_not_fit_are_refused(capsys):
    assert main(["inspect", "my_models:small", "--input", "5,3"]) == 2
    assert "does not run" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", ":long", "2,x", "2,0", "-1", "2,3:huge", "2,3:"])
def test_an_input_that_cannot_be_read_is_refused(text):
    with pytest.raises(InputError, match=f"--input {text!r} is not SHAPE"):
        example(text, torch.float32)


def test_inputs():
    noise = example("2,3", torch.float64)
    assert noise.shape == (2, 3) and noise.dtype == torch.float64 and noise.std() > 0
    assert torch.equal(noise, example("2,3", torch.float64))
    words = example("1,50:long", torch.float64)
    assert words.dtype == torch.long and set(words.flatten().tolist()) == {0, 1}
    assert example("4:bool", torch.float32).dtype == torch.bool


def test_the_current_folder_is_importable_and_comes_first(workplace):
    assert isinstance(load_model("my_models:small"), torch.nn.Sequential)
    assert sys.path[0] == str(workplace)


def test_report_writes_a_page_for_the_curves(workplace, capsys):
    nested().to_json(workplace / "uniform.json")
    nested(tilt=0.1).to_json(workplace / "searched.json")
    options = ["--title", "My model", "--score", "accuracy", "--files"]
    assert main(["report", "uniform.json", "searched.json", *options]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == [
        "report.html", "report.png", "report-uniform.csv", "report-searched.csv"
    ]  # fmt: skip
    assert re.fullmatch(r"report\.html \(\d+ kB\)", printed[0])
    text = (workplace / "report.html").read_text(encoding="utf-8")
    assert "<h1>My model</h1>" in text and "Accuracy against" in text and "searched" in text
    assert main(["report", "uniform.json", "--out", "one.html"]) == 0
    assert "Score against" in (workplace / "one.html").read_text(encoding="utf-8")


def test_curves_of_the_same_name_are_told_apart_by_their_folders(workplace, capsys):
    for name in ("a", "b"):
        (workplace / name).mkdir()
        nested().to_json(workplace / name / "curve.json")
    assert main(["report", "a/curve.json", "b/curve.json"]) == 0
    text = (workplace / "report.html").read_text(encoding="utf-8")
    assert "a/curve.json" in text and "b/curve.json" in text


def test_report_opens_with_limits(workplace, capsys):
    nested().to_json(workplace / "curve.json")
    limits = {"max_params": "50%", "max_macs": 0.5, "min_score": 0.5, "errors": 1.0}
    options = [text for name, value in limits.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["report", "curve.json", *options]) == 0
    given = (workplace / "report.html").read_text(encoding="utf-8")
    nested().report(workplace / "other.html", **limits)
    assert given == (workplace / "other.html").read_text(encoding="utf-8")
    assert main(["report", "curve.json", "--max-bytes", "1"]) == 2
    assert "none of the 6 points fits" in capsys.readouterr().err
    assert main(["report", "curve.json", "--max-params", "999999999"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("surgery: choose: all 6 points are within max_params=") and "Warning" not in said
    with pytest.raises(SystemExit, match="2"):
        main(["report", "curve.json", "--max-params", "half"])
    assert "'half' is no number, and no share such as 50%" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["missing.json"], "missing.json: there is no such file; "),
        (["missing.json"], " has curve.json, empty.json, other.json, plan.json"),
        (["my_models.py"], "my_models.py: cannot be read as JSON"),
        (["plan.json"], "plan.json: is not a curve but a plan, which `surgery inspect --json` writes"),
        (["other.json"], "other.json: is not a curve ("),
        (["empty.json"], "has no curve, or one without points"),
        (["curve.json", "--out", "no/report.html"], "no/report.html: cannot be written"),
    ],
)
def test_report_refuses_what_it_cannot_use(arguments, message, workplace, capsys):
    (workplace / "plan.json").write_text('{"groups": []}')
    (workplace / "other.json").write_text("[]")
    nested().to_json(workplace / "curve.json")
    nested()[:0].to_json(workplace / "empty.json")
    before = set(workplace.iterdir())
    assert main(["report", *arguments]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("surgery: ") and message in said.err and "Traceback" not in said.err
    assert not said.out and set(workplace.iterdir()) == before


def test_usage_errors_and_version(capsys):
    for arguments in ([], ["report"], ["inspect", "a:b"], ["demo", "--epochs", "0"], ["demo", "--data", "imagenet"]):
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"surgery {surgery.__version__}\n"


def test_an_interrupt_ends_quietly(monkeypatch, capsys):
    def interrupted(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("surgery.demo.run.run", interrupted)
    assert main(["demo"]) == 130
    assert capsys.readouterr().err == "surgery: interrupted\n"


def test_python_m_surgery_is_the_command(workplace):
    command = [sys.executable, "-m", "surgery", "inspect", "my_models:nothing", "--input", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and "returned NoneType" in done.stderr and "Traceback" not in done.stderr


def test_compress_writes_a_small_model_that_loads(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compress", "my_models:small", "--batches", "my_models:loader", "--budget=60% macs", "--evaluations=6"]
    assert main([*command, "--out", str(workplace / "made")]) == 0
    assert "the full model scores 1.0000" in capsys.readouterr().out
    assert {file.name for file in (workplace / "made").iterdir()} == {
        "small.safetensors", "small.json", "curve.json", "report.html",
    }  # fmt: skip
    assert main([*command, "--validate", "my_models:scored", "--out", str(workplace / "other")]) == 0


@pytest.mark.parametrize(
    "budget", ["half", "50%", "50 % macs", "-3 macs", "50% flops", "nan macs", "inf params", "0.5 macs"]
)
def test_a_budget_that_cannot_be_read_is_refused(
    budget: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", "my_models:small", "--batches", "my_models:loader", f"--budget={budget}"]) == 2
    assert "is not like '50% macs'" in capsys.readouterr().err
