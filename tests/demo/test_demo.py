"""The main job does what it says: short runs of the real thing, and the laws of its parts."""

import dataclasses
import gzip
import html
import itertools
import os
import re
import sys
from pathlib import Path

import pytest
import torch

import surgery
from surgery import Curve
from surgery.cli import main
from surgery.demo.data import DATA, digits, fashion_mnist, stratified
from surgery.demo.models import convnet, transformer
from surgery.demo.run import JOBS, MARGIN, Options, trained
from surgery.errors import InputError

MODELS = ["cnn", "transformer"]
CURVES = ["one-fraction-for-all-widths", "a-width-for-each-layer"]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the short run prints, and the folder that it fills."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        assert main(["demo", "--quick", "--out", str(out)]) == 0
    return "\n".join(lines), out


def test_the_short_run_prints_and_writes_everything(demo):
    printed, out = demo
    names = {
        f"{model}{end}" for model in MODELS for end in (".safetensors", ".json", "-uniform.json", "-searched.json")
    }
    names |= {f"report-{model}-on-digits{end}" for model in MODELS for end in (".png", *(f"-{c}.csv" for c in CURVES))}
    assert {path.name for path in out.iterdir()} == names | {"report.html"}
    for words in ("== CNN", "== transformer", "Kept", "On the test images", "report.html"):
        assert words in printed
    assert printed.count("\n  0    1.0000") == 2  # a sweep of each model
    assert printed.count("`uniform` is the largest uniform model") == 2  # and a search


@pytest.mark.parametrize("model", ["cnn", "transformer"])
def test_the_choice_is_what_the_curves_say(demo, model):
    printed, out = demo
    uniform, searched = (Curve.from_json(out / f"{model}-{name}.json") for name in ("uniform", "searched"))
    both = dataclasses.replace(uniform, points=(*uniform, *searched))
    chosen = both.choose(max_loss=MARGIN)
    assert f"({chosen.params:,} of {uniform.full['params']:,})" in printed
    record = surgery.load(out / model, JOBS[MODELS.index(model)].build(8), torch.zeros(1, 1, 8, 8)).surgery_record
    assert record["widths"] == chosen.widths
    for point, alone in zip(searched, searched.uniform, strict=True):
        assert point.score >= alone.score
    for large, small in itertools.pairwise(searched):
        assert all(small.widths[name] <= width for name, width in large.widths.items())


@pytest.mark.parametrize("name, build", [("cnn", convnet), ("transformer", transformer)])
def test_the_small_models_load_into_fresh_ones_as_the_report_says(demo, name, build):
    _, out = demo
    text = (out / "report.html").read_text(encoding="utf-8")
    small = surgery.load(out / name, build(8), torch.zeros(1, 1, 8, 8))
    assert type(small) is type(build(8))
    codes = [html.unescape(code) for code in re.findall(r"<code>(.*?)</code>", text, re.DOTALL)]
    (code,) = [code for code in codes if f"{build.__name__}(8)" in code]
    scope: dict = {}
    exec(code, scope)
    assert surgery.verify(small, scope["small"], DATA["digits"](None).test.images[:8]) == 0


def test_training_follows_from_the_seed():
    part = digits().train.first(128)
    models = [trained(JOBS[1], "digits", part, Options(epochs=1, seed=seed)).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert any(not torch.equal(models[0][name], models[2][name]) for name in models[0])


def test_training_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    trained(JOBS[0], "digits", digits().train.first(64), Options(epochs=1))
    assert torch.equal(before, torch.get_rng_state())


def test_digits_are_split_without_overlap_and_by_class():
    data = digits()
    parts = (data.train, data.validation, data.test)
    assert [len(part) for part in parts] == [1078, 360, 359]
    images = torch.cat([part.images for part in parts]).flatten(1)
    assert len(images.unique(dim=0)) == len(images)  # no two of the data set's images are equal
    for part in parts:
        counts = part.labels.bincount(minlength=10)
        assert counts.max() - counts.min() <= 6 and len(part) == len(part.images)
    assert data.train.images.mean().abs() < 1e-5 and abs(data.train.images.std() - 1) < 1e-5
    assert torch.equal(data.test.labels, digits().test.labels)


def test_stratified_parts_are_disjoint_and_in_proportion():
    labels = torch.tensor([0] * 50 + [1] * 10)
    first, second = stratified(labels, (0.6, 0.2))
    assert not set(first.tolist()) & set(second.tolist())
    assert labels[first].bincount().tolist() == [30, 6] and labels[second].bincount().tolist() == [10, 2]


def idx(values: torch.Tensor) -> bytes:
    """A file of MNIST's format."""
    header = bytes([0, 0, 8, values.dim()]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
    return header + bytes(values.flatten().tolist())


@pytest.fixture
def clothes(tmp_path: Path) -> Path:
    """A tiny set in the layout of torchvision, one file unpacked and three packed."""
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    labels = torch.arange(10).repeat(20)
    images = (labels.view(-1, 1, 1) * 20).expand(200, 28, 28)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (raw / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (raw / "t10k-labels-idx1-ubyte").write_bytes(gzip.decompress((raw / "t10k-labels-idx1-ubyte.gz").read_bytes()))
    (raw / "t10k-labels-idx1-ubyte.gz").unlink()
    return tmp_path


def test_fashion_mnist_is_read_from_a_folder(clothes):
    for root in (clothes, clothes / "FashionMNIST" / "raw"):
        data = fashion_mnist(root)
        assert [len(part) for part in (data.train, data.validation, data.test)] == [40, 10, 200]
        assert data.train.images.shape == (40, 1, 28, 28)
        order = data.test.images[:, 0, 0, 0].argsort(stable=True)
        assert torch.equal(data.test.labels[order], data.test.labels.sort().values)  # image k shows class k


@pytest.mark.parametrize("damage", [lambda b: b[:100], lambda b: b"", lambda b: b"no gzip"])
def test_damaged_data_is_refused(clothes, damage):
    file = clothes / "FashionMNIST" / "raw" / "train-images-idx3-ubyte.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte.gz is damaged .*: load it again"):
        fashion_mnist(clothes)


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte \(or .gz\) is in none of"):
        fashion_mnist(tmp_path)
    (tmp_path / "file").touch()
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    assert "cannot be made" in capsys.readouterr().err
    for module, arguments, extra in (
        ("sklearn.datasets", [], "demo"),
        ("matplotlib.figure", [], "plot"),
        ("torchvision.datasets", ["--data", "fashion-mnist"], "vision"),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            assert main(["demo", "--out", os.devnull, *arguments]) == 2
        assert f"pip install 'model-surgery[{extra}]'" in capsys.readouterr().err
