"""`save` and `load`: what was saved is what comes back."""

from pathlib import Path

import pytest
import torch

import surgery
from tests.models import BY_NAME

NAMES = ("lenet", "resnet_basic", "llama_gqa", "transformer_encoder", "lstm_tagger", "tied_embeddings", "moe_dense")


@pytest.mark.parametrize("name", NAMES)
def test_round_trip(name: str, tmp_path: Path) -> None:
    case = BY_NAME[name]
    model, inputs = case.build(), case.inputs(0)
    small = surgery.shrink(model, 0.5, inputs)
    surgery.save(small, tmp_path / "small")
    fresh = case.build()
    for parameter in fresh.parameters():
        torch.nn.init.zeros_(parameter)
    again = surgery.load(tmp_path / "small", fresh, inputs)
    assert surgery.verify(small, again, case.inputs(1)) == 0
    assert [type(m) for m in again.modules()] == [type(m) for m in small.modules()]
    assert all(not p.any() for p in fresh.parameters()), "the full-size model stays as it was"


def test_a_model_that_was_shrunk_twice_loads_into_the_full_one(tmp_path: Path) -> None:
    case = BY_NAME["resnet_basic"]
    inputs = case.inputs(0)
    smaller = surgery.shrink(surgery.shrink(case.build(), 0.5, inputs), 0.5, inputs)
    surgery.save(smaller, tmp_path / "smaller")
    assert surgery.verify(smaller, surgery.load(tmp_path / "smaller", case.build(), inputs), case.inputs(1)) == 0


def test_buffers_outside_the_state_dict_are_stored_when_they_are_cut(tmp_path: Path) -> None:
    """RoPE's frequencies are no part of the state_dict, but reordering permutes them."""
    case = BY_NAME["llama_gqa"]
    model, inputs = case.build(), case.inputs(0)
    groups = surgery.inspect(model, inputs).groups
    orders = {name: torch.arange(group.size).flip(0) for name, group in groups.items()}
    with pytest.warns(UserWarning, match="permuted buffers that are not in the state_dict: .*inv_freq"):
        flipped = surgery.reorder(model, orders, inputs)
    surgery.save(flipped, tmp_path / "flipped.safetensors")
    again = surgery.load(tmp_path / "flipped.json", case.build(), inputs)
    assert surgery.verify(flipped, again, case.inputs(1)) == 0


def test_a_save_that_fails_leaves_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = BY_NAME["lenet"]
    model, inputs = case.build(), case.inputs(0)
    surgery.save(surgery.shrink(model, 0.5, inputs), tmp_path / "small")
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    for part in ("surgery.shrinking.io.save_file", "surgery.shrinking.io.json.dumps"):
        with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
            patch.setattr(part, full)
            surgery.save(surgery.shrink(model, 0.25, inputs), tmp_path / "small")
        assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings("ignore:Complex modules")  # torch calls them a new feature
def test_a_type_that_files_cannot_hold(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 3)).to(torch.complex128)
    small = surgery.shrink(model, 0.5, torch.randn(2, 4, dtype=torch.complex128))
    with pytest.raises(surgery.InputError, match="cannot hold tensors of the type"):
        surgery.save(small, tmp_path / "small")
    assert not list(tmp_path.iterdir())
