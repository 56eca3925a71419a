"""Tools that take the forward of a class: right where nothing was written anew, an error or right elsewhere."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import surgery
from tests.deploying.models import plain, rewritten
from tests.exporting.written import again


class Grouped(nn.Module):
    """Softmax over features in groups of eight, a number that stands in its code."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(8, 32), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.o(self.q(x).view(x.shape[0], -1, 8).softmax(-1).flatten(1))
        return y


@pytest.fixture
def grouped() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 8)
    small = surgery.shrink(nn.Sequential(Grouped()).eval(), {"0.q.o.1": 4}, x)
    assert small.surgery_record["rewritten"] == ["0"]
    return small[0], x


def test_fx_and_torchscript_run_what_needed_no_new_forward() -> None:
    small, x = plain()
    assert torch.equal(torch.fx.symbolic_trace(small)(x), small(x))
    assert torch.allclose(torch.jit.script(small)(x), small(x), atol=1e-6)


@pytest.mark.parametrize("prepare", [lambda m: m, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_fx_does_not_take_the_forward_of_the_class_for_another(prepare: Any, grouped: Any) -> None:
    small, x = prepare(grouped[0]), grouped[1]
    with pytest.raises(surgery.InputError, match="fx traces the forward of the class Grouped"):
        torch.fx.symbolic_trace(small)
    assert repr(small).startswith("Grouped(") and small._get_name() == "Grouped"
    inside = torch.fx.symbolic_trace(nn.Sequential(small), concrete_args=None)
    assert torch.equal(inside(x), small(x)), "a part with a forward of its own is called by it"


def test_torchscript_says_in_a_line_what_it_cannot_compile(grouped: Any) -> None:
    with pytest.raises(surgery.InputError, match="script compiles forwards of classes") as raised:
        torch.jit.script(grouped[0])
    assert len(str(raised.value).splitlines()) == 1


def test_what_is_written_as_source_is_the_forward_of_a_class(grouped: Any, tmp_path: Path) -> None:
    small, x = grouped
    model = again(small, tmp_path)
    for tool in (torch.fx.symbolic_trace, torch.jit.script):
        assert torch.allclose(tool(model)(x), small(x), atol=1e-6), tool


def test_a_forward_that_was_written_anew_stays_with_its_copy() -> None:
    small, x = rewritten()
    other = copy.deepcopy(small)
    nn.init.zeros_(other.head.weight)
    assert not torch.equal(other(x), small(x)) and torch.equal(small(x), rewritten()[0](x))
