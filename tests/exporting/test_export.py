"""`export_source`: proven in a process where the library is not, or nothing is written."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from surgery.exporting import export
from surgery.exporting.module import Module
from tests.kept.net import Net

ROOT = Path(__file__).parents[2]
X = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
# What a user's process does with the two files. The library is not there.
READ = """
import sys
sys.modules["surgery"] = None
import torch
from model import model
net = model()
torch.save((type(net).__module__, net(torch.load("x.pt"))), "y.pt")
"""


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return surgery.shrink(Net().eval(), 0.5, X)


def run(code: str, folder: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}, '.']\n{code}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert not done.returncode, done.stderr


def test_a_process_without_the_library_reads_it(small: nn.Module, tmp_path: Path) -> None:
    assert surgery.export_source(small, tmp_path / "new" / "net", X) == tmp_path / "new" / "net" / "model.py"
    folder = tmp_path / "new" / "net"
    assert {file.name for file in folder.iterdir()} == {"model.py", "model.safetensors"}
    torch.save(X, folder / "x.pt")
    run(READ, folder)
    where, y = torch.load(folder / "y.pt")
    assert where == "tests.kept.net" and torch.equal(y, small(X))


class Halved(nn.Module):
    """Uses the library in its own file, so that its class is written out."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor, *, scale: float = 1.0) -> dict[str, object]:
        assert textwrap
        return {"y": self.two(self.one(x)), "scale": (scale, None)}


def test_a_class_beside_code_that_uses_the_library_is_written_out(tmp_path: Path) -> None:
    runs = surgery.batches([surgery.inputs(X, scale=2.0), (X[:1],)])
    file = surgery.export_source(surgery.shrink(Halved().eval(), 0.5, runs), tmp_path, runs)
    assert "class Halved(nn.Module):" in file.read_text() and "import textwrap" in file.read_text()


SCRIPT = '''
import torch
from torch import nn
import surgery

SCALE = {"a": 2.0}


def scaled(x):  # a helper
    return x * SCALE["a"]


class Block(nn.Module):
    """Softmax over features in groups of eight."""

    def __init__(self):
        super().__init__()
        self.q, self.o = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x):
        return scaled(self.o(self.q(x).view(x.shape[0], -1, 8).softmax(-1).flatten(1)))


if __name__ == "__main__":
    x = torch.randn(2, 8)
    small = surgery.shrink(Block().eval(), {"q.o.1": 4}, x)
    surgery.export_source(small, ".", x)
    torch.save(x, "x.pt")
    torch.save(small(x), "expected.pt")
'''


@pytest.mark.slow
@pytest.mark.parametrize("name", ["script.py", "model.py"])
def test_classes_of_a_script_are_written_out(name: str, tmp_path: Path) -> None:
    """Also where the script, or the file that the class is in, is called as the written module is."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / name).write_text(SCRIPT)
    run(f"import runpy; runpy.run_path('source/{name}', run_name='__main__')", tmp_path)
    run(READ, tmp_path)
    where, y = torch.load(tmp_path / "y.pt")
    assert where == "model" and torch.equal(y, torch.load(tmp_path / "expected.pt"))
    assert "# a helper" in (tmp_path / "model.py").read_text()


class Odd(nn.Module):
    def __init__(self, held: object):
        super().__init__()
        self.net, self.held = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3)), held

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def hooked() -> nn.Module:
    model = Odd(None)
    model.net[0].register_forward_hook(lambda *_: None)
    return model


def parametrized() -> nn.Module:
    model = Odd(None)
    nn.utils.parametrizations.weight_norm(model.net[0])
    return model


def itself() -> nn.Module:
    held: list[object] = []
    held.append(held)
    return Odd(held)


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (hooked, r"net.0 has hooks \(_forward_hooks\)"),
    (parametrized, "net.0 has parametrizations"),
    (itself, "held.0. holds itself"),
    (lambda: Odd(lambda x: x), "held: <lambda> cannot be imported"),
    (lambda: Odd({"a": [weakref.ref(Odd)]}), r"held\['a'\]\[0\] holds a ReferenceType"),
    (lambda: Odd([nn.Linear(2, 2)]), r"held\[0\] holds a Linear that is no part of the model"),
    (lambda: Odd(torch.Generator()), "held holds a Generator"),
    (lambda: Odd(torch.eye(3).to_sparse()), "held is a Tensor of layout torch.sparse_coo"),
    (lambda: torch.jit.script(nn.Linear(4, 3)), "the model is a scripted module"),
    (lambda: Odd(None).train(), "training mode"),
    (lambda: surgery.wrap(Odd(None), X), "is wrapped"),
    (lambda: "small", "takes a small model, the path of a folder"),
]


@pytest.mark.parametrize("make, message", REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_written_is_refused(make: Callable[[], Any], message: str, tmp_path: Path) -> None:
    model = make()
    if isinstance(model, nn.Module) and not message.startswith("training"):
        model.eval()
    with pytest.raises(surgery.InputError, match=message):
        surgery.export_source(model, tmp_path / "out", X)
    assert not list(tmp_path.iterdir())


def _other_tensors(model: nn.Module) -> Module:
    module = _MODULE_OF(model)
    return Module(module.text, {name: tensor + 1 for name, tensor in module.tensors.items()})


def _other_text(model: nn.Module) -> Module:
    module = _MODULE_OF(model)
    return Module(f"{module.text}\nimport surgery\n", module.tensors)


_MODULE_OF = export.module_of


@pytest.mark.parametrize(
    "broken, message",
    [
        (_other_tensors, "does not give what the model gives"),
        (_other_text, "does not run in a process without this library: ModuleNotFoundError"),
    ],
)
def test_what_is_wrong_is_not_written_and_leaves_what_was_there(
    broken: Callable[[nn.Module], Module], message: str, small: nn.Module, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "model.py").write_text("an earlier one")
    monkeypatch.setattr(export, "module_of", broken)
    with pytest.raises(surgery.ProofError, match=message):
        surgery.export_source(small, tmp_path, X)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("model.py", "an earlier one")]


def test_a_folder_and_inputs_that_cannot_be_meant(small: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(
        surgery.InputError, match=r"does not run on the example inputs \(RuntimeError: .*give what one call"
    ):
        surgery.export_source(small, tmp_path / "made", torch.randn(2, 3, 999))
    (tmp_path / "file").write_text("kept")
    with pytest.raises(surgery.InputError, match=r"writes into a folder, and .*file is a file: name another one"):
        surgery.export_source(small, tmp_path / "file", torch.randn(2, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "kept"


def test_inputs_that_no_other_process_can_be_given(small: nn.Module, tmp_path: Path) -> None:
    class Tensor(torch.Tensor):
        """Of a class that has no name elsewhere."""

    with pytest.raises(surgery.InputError, match="cannot be given to another process"):
        surgery.export_source(small, tmp_path, X.as_subclass(Tensor))
    assert not list(tmp_path.iterdir())
