"""The examples and the quickstart run as a newcomer runs them: in a new folder, in processes of their own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
NOTEBOOKS = ("cnn", "language_model")
NEEDS = {"cnn": ("sklearn",), "language_model": ("transformers", "accelerate"), "custom_layer": ("numpy",)}


def missing(name: str) -> list[str]:
    return [package for package in NEEDS[name] if importlib.util.find_spec(package) is None]


def available(name: str) -> None:
    if found := missing(name):
        pytest.skip(f"examples/{name}.py needs {', '.join(found)}")


def python(*arguments: object, cwd: Path) -> str:
    """What `python ARGUMENTS` prints, with the library of this tree."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def values(said: str, word: str) -> str:
    """What stands after a word that begins a line."""
    (found,) = re.findall(rf"^{word} *(.*)$", said, re.MULTILINE)
    return found


def check_cnn(said: str, folder: Path) -> None:
    assert values(said, "loaded:") == values(said, "saved:"), "another process computes the same"
    assert "ONNX differs by" not in said or float(values(said, "ONNX differs by")) < 1e-3
    assert {"small.safetensors", "small.json"} <= {file.name for file in (folder / "cnn-out").iterdir()}


def check_language_model(said: str, folder: Path) -> None:
    saved = re.findall(r"^saved (\S+): ([\d,]+) parameters", said, re.MULTILINE)
    assert len(saved) == 3
    for path, count in saved:
        assert values(said, f"{re.escape(path)} ").startswith(count.replace(",", "")), "the new process read this size"


def check_custom_layer(said: str, folder: Path) -> None:
    assert "no rule for Scan at custom_layer.py" in said and "checked: ['o', 'i']" in said
    assert "small[0]: Memory(4, " in said


CHECKS: dict[str, Callable[[str, Path], None]] = {
    "cnn": check_cnn, "language_model": check_language_model, "custom_layer": check_custom_layer,
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKS)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    available(name)
    CHECKS[name](python(EXAMPLES / f"{name}.py", "--quick", cwd=tmp_path), tmp_path)


def test_every_example_is_tested() -> None:
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*CHECKS, "notebooks"}


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_is_its_script(name: str) -> None:
    spec = importlib.util.spec_from_file_location("notebooks", EXAMPLES / "notebooks.py")
    assert spec is not None and spec.loader is not None
    notebooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(notebooks)
    assert notebooks.SCRIPTS == NOTEBOOKS
    written = (EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8")
    assert written == notebooks.notebook((EXAMPLES / f"{name}.py").read_text(encoding="utf-8")), (
        "the script has changed: python examples/notebooks.py"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter itself
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    available(name)
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for file in (f"{name}.py", f"{name}.ipynb"):
        (tmp_path / file).write_bytes((EXAMPLES / file).read_bytes())
    book = nbformat.read(tmp_path / f"{name}.ipynb", as_version=4)
    nbformat.validate(book)
    nbclient.NotebookClient(book, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    said = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    CHECKS[name](said, tmp_path)


def test_the_quickstart_runs(tmp_path: Path) -> None:
    """Its files, in the order of the page, with fewer epochs: the last process has the layer that was chosen."""
    if importlib.util.find_spec("sklearn") is None:
        pytest.skip("the quickstart needs scikit-learn")
    page = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    files = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["net.py", "train.py", "use.py"]
    said = []
    for name, code in files:
        (tmp_path / name).write_text(code.replace("20", "4"), encoding="utf-8")
        said.append(python(name, cwd=tmp_path))
    chosen = [re.search(r"^Conv2d\(.*\)\)", text, re.MULTILINE) for text in said[1:]]
    assert all(chosen) and chosen[0][0] == chosen[1][0]
