"""Damaged or foreign files, and optimizers that do not fit: the message says what is wrong, and nothing has changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import surgery
from surgery import FileError, InputError
from tests.small_models import Net, X
from tests.unchanged import unchanged


@pytest.fixture
def saved(wrapped: Any, tmp_path: Path) -> Path:
    surgery.save(surgery.shrink(wrapped, 0.5), tmp_path / "small")
    return tmp_path / "small"


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _edit(**changes: Any) -> Callable[[Path], None]:
    """Change or (with None) remove entries of the JSON."""

    def edit(path: Path) -> None:
        data = {**json.loads(path.read_text()), **changes}
        path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))

    return edit


TENSORS, WIDTHS = "small.safetensors", "small.json"


DAMAGE = [
    (TENSORS, Path.unlink, r"there is no file .*small\.safetensors"),
    (WIDTHS, Path.unlink, r"there is no file .*small\.json"),
    (TENSORS, _flip, r"small\.safetensors is damaged, .*\(checksums differ\)"),
    (TENSORS, _truncate, r"small\.safetensors is damaged"),
    (TENSORS, lambda path: path.write_bytes(b""), "is damaged"),
    (WIDTHS, _truncate, r"small\.json is not readable as JSON"),
    (WIDTHS, lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not readable as JSON"),
    (WIDTHS, lambda path: path.write_text("[1, 2]"), r"was not written by surgery\.save"),
    (WIDTHS, lambda path: path.write_text('{"weights": 1}'), r"was not written by surgery\.save"),
    (
        WIDTHS,
        _edit(format="model-surgery/99"),
        r"was not written by surgery\.save \(its format is not 'model-surgery/1'\)",
    ),
    (WIDTHS, _edit(fingerprint=None, widths=None), "small.json is damaged: widths, fingerprint missing or not as"),
    (WIDTHS, _edit(widths={"fc9.o": 4}), r"small\.json .*no group matches 'fc9\.o'"),
    (WIDTHS, _edit(widths={"fc1.o": 99}), r"small\.json .*99 is not between"),
    (WIDTHS, _edit(widths=7), r"small\.json is damaged: widths missing or not as"),
    (WIDTHS, _edit(widths={"fc1.o": 4, "fc2.o": 4}), r"\w+\.\w+ is torch\.float32 \[8.*\], the model needs .*\[4.*\]"),
    (WIDTHS, _edit(options={}), r"small\.json is damaged: options missing or not as"),
    (
        WIDTHS,
        _edit(options={"fixed": 3, "only": [], "granularity": 1}),
        r"small\.json is damaged: options missing or not as",
    ),
    (WIDTHS, _edit(fingerprint="0" * 32), "belongs to a Net of another architecture"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGE)
def test_damaged_files(saved: Path, name: str, damage: Callable, message: str) -> None:
    fresh = Net()
    surgery.load(saved, fresh, X)
    damage(saved.with_name(name))
    with unchanged(fresh, folder=saved.parent), pytest.raises(FileError, match=message):
        surgery.load(saved, fresh, X)


def test_foreign_safetensors_with_a_right_checksum(saved: Path) -> None:
    path = saved.with_name(TENSORS)
    for content, message in (
        ({"other": torch.zeros(2)}, "differ in which tensors they have: fc1.bias"),
        (None, "not readable as"),
    ):
        path.write_bytes(b"not safetensors") if content is None else save_file(content, path)
        _edit(sha256=hashlib.sha256(path.read_bytes()).hexdigest())(saved.with_name(WIDTHS))
        fresh = Net()
        with unchanged(fresh, folder=saved.parent), pytest.raises(FileError, match=message):
            surgery.load(saved, fresh, X)


class Apart(Net):
    """The same tensors, which the code connects otherwise."""

    def forward(self, x: Any, *, scale: float = 1.0) -> Any:
        return self.head(torch.relu(self.fc2(torch.relu(self.fc1(x))))) * scale + self.norm.weight.cumsum(0).sum()


OTHERS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "wider": (lambda: Net(hidden=20), r"fc1\.weight is \[16, 6\] there and \[20, 6\] here"),
    "narrower": (lambda: Net(middle=4), r"head\.weight is \[3, 8\] there and \[3, 4\] here"),
    "another class": (
        lambda: nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 3)),
        r"fc1\.bias is in the file only; .* and \d+ more",
    ),
    "other code": (Apart, r"the group \S+ is|the code connects their axes otherwise"),
}


@pytest.mark.parametrize("old", [False, True], ids=["", "a file of an earlier version"])
@pytest.mark.parametrize("other", OTHERS)
def test_files_of_another_architecture(saved: Path, other: str, old: bool) -> None:
    """The error says which tensors differ. Files that do not tell the full shapes say what can be seen."""
    build, reason = OTHERS[other]
    model = build()
    if old:
        _edit(shapes=None)(saved.with_name(WIDTHS))
        reason = ".*"
    message = rf"small\.json belongs to a Net of another architecture than this \w+ \(.*({reason})"
    with unchanged(model, folder=saved.parent), pytest.raises(FileError, match=message) as raised:
        surgery.load(saved, model, X)
    assert "fingerprint" not in str(raised.value)


def test_arguments_the_other_way_round(saved: Path) -> None:
    model: Any = Net()
    path: Any = str(saved)
    with (
        unchanged(model, folder=saved.parent),
        pytest.raises(InputError, match=r"load takes the path .* got a Net"),
    ):
        surgery.load(model, path, X)
    with (
        unchanged(model, folder=saved.parent),
        pytest.raises(InputError, match="save takes a small model, then a path"),
    ):
        surgery.save(path, model)


@pytest.mark.parametrize("thing", [Net(), 3], ids=["plain", "no model"])
def test_only_shrunk_models_are_saved(thing: Any, tmp_path: Path) -> None:
    with (
        unchanged(folder=tmp_path),
        pytest.raises(InputError, match=r"was not made by surgery\.shrink: save its state_dict"),
    ):
        surgery.save(thing, tmp_path / "small")


def test_a_wrapped_model_is_not_saved(wrapped: Any, tmp_path: Path) -> None:
    with unchanged(wrapped, folder=tmp_path), pytest.raises(InputError, match=r"was not made by surgery\.shrink"):
        surgery.save(wrapped, tmp_path / "small")


def _trained(model: nn.Module, optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    model(X).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return optimizer


def test_optimizer_with_a_foreign_parameter(wrapped: Any) -> None:
    foreign = nn.Parameter(torch.zeros(7))
    optimizer = _trained(wrapped, torch.optim.Adam([*wrapped.parameters(), foreign]))
    small = surgery.shrink(wrapped, 0.5)
    with (
        unchanged(wrapped, small),
        pytest.raises(InputError, match=r"a parameter of shape \[7\] that is not in the model"),
    ):
        surgery.shrink_optimizer(optimizer, wrapped, small)


def test_optimizer_for_a_model_that_was_not_shrunk_from_this_one(wrapped: Any) -> None:
    optimizer = _trained(wrapped, torch.optim.Adam(wrapped.parameters()))
    for other in (Net(), surgery.shrink(Net(hidden=12), 0.5, X), wrapped):
        with (
            unchanged(wrapped, other),
            pytest.raises(InputError, match=r"small was not made by surgery\.shrink from this"),
        ):
            surgery.shrink_optimizer(optimizer, wrapped, other)


def test_optimizer_whose_state_cannot_be_cut(wrapped: Any) -> None:
    optimizer = _trained(wrapped, torch.optim.Adafactor(wrapped.parameters()))
    small = surgery.shrink(wrapped, 0.5)
    with unchanged(wrapped, small), pytest.raises(InputError, match=r"state 'row_var' of fc1\.weight .* cannot be cut"):
        surgery.shrink_optimizer(optimizer, wrapped, small)
