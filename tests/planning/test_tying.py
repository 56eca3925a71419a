"""Ties of a configuration: every model that they allow is one that the class builds from a configuration."""

from __future__ import annotations

import types

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import surgery
from tests.shrinking.test_config import Decoder

IDS = torch.randint(17, (2, 6))


def decoder(**values) -> Decoder:
    torch.manual_seed(0)
    named = {"vocabulary": 17, "width": 24, "heads": 4, "inner": None, "layers": 2, **values}
    return Decoder(types.SimpleNamespace(**named)).eval()


def tied(**values) -> tuple[Decoder, surgery.Plan]:
    wrapped = surgery.wrap(decoder(**values), IDS, tie="config")
    return wrapped, surgery.inspect(wrapped)


def kinds(plan: surgery.Plan) -> list[list[str]]:
    return sorted(sorted(plan.groups[name].kind for name in tie.groups) for tie in plan.ties)


def test_what_one_number_moves_is_tied() -> None:
    _, plan = tied()
    assert kinds(plan) == [["ffn", "ffn"], ["heads", "heads", "residual"]]
    assert {plan.groups[name].kind for name in plan.groups if name not in plan.free} >= {"head_width"}
    assert plan.widths(0.5) == plan.widths({"residual": 0.5, "ffn": 0.5})
    assert any("stay full" in note for note in plan.notes)


def test_what_a_list_has_a_number_for_is_free() -> None:
    _, plan = tied(inner=[20, 36])
    assert kinds(plan) == [["ffn"], ["ffn"], ["heads", "heads", "residual"]]


@settings(max_examples=8)
@given(
    st.dictionaries(st.sampled_from(["residual", "ffn", "heads", "*"]), st.floats(0.05, 1.0), min_size=1),
    st.integers(1, 5),
)
def test_every_small_model_is_written_and_read(tmp_path_factory, spec, multiple: int) -> None:
    wrapped, _ = tied()
    small = surgery.shrink(wrapped, spec, multiple=multiple)
    assert "config" not in small.surgery_record
    path = tmp_path_factory.mktemp("small") / "model"
    small.save_pretrained(path)
    surgery.verify(small, Decoder.from_pretrained(path).eval(), IDS)


def test_a_searched_model_is_written_and_read(tmp_path) -> None:
    wrapped, _ = tied()
    curve = surgery.search(
        wrapped,
        lambda model: float(model(IDS).std()),
        (0.5, 0.2),
        evaluations=15,
        measure_latency=False,
        progress=False,
    )
    for point in curve:
        surgery.shrink(wrapped, point).save_pretrained(tmp_path / "model")


def test_the_rest_of_a_tie_stays_full_where_the_caller_fixes_a_part() -> None:
    wrapped = surgery.wrap(decoder(), IDS, tie="config", fixed="heads")
    widths = surgery.inspect(wrapped).widths(0.5)
    assert {
        surgery.inspect(wrapped).groups[name].kind
        for name, width in widths.items()
        if width < surgery.inspect(wrapped).groups[name].size
    } == {"ffn"}
    assert "config" not in surgery.shrink(wrapped, 0.5).surgery_record


def test_a_saved_model_is_read_without_the_tie(tmp_path) -> None:
    wrapped, _ = tied()
    small = surgery.shrink(wrapped, 0.5)
    surgery.save(small, tmp_path / "small")
    surgery.verify(surgery.load(tmp_path / "small", decoder(), IDS), small, IDS)


class Scaled(Decoder):
    """A number of its configuration does something else as well, so that a narrower one says something else."""

    def forward(self, ids):
        return super().forward(ids) * (self.config.width**0.5 if self.config.width else 1.0)


def test_what_a_number_does_beside_is_found_by_running_it() -> None:
    torch.manual_seed(0)
    model = Scaled(decoder().config).eval()
    plan = surgery.inspect(surgery.wrap(model, IDS, tie="config"))
    for name in ("residual", "ffn"):
        small = surgery.shrink(surgery.wrap(model, IDS, tie="config"), {name: 0.5})
        assert ("config" in small.surgery_record) is False, name
    assert plan.ties


def test_a_model_without_a_configuration_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(surgery.InputError, match=r"tie=\['ffn', 'heads'\]"):
        surgery.wrap(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), torch.randn(2, 4), tie="config")


def test_a_configuration_that_says_nothing_of_widths_is_an_error() -> None:
    class Constant(nn.Module):
        def __init__(self, config):
            super().__init__()
            self.config, self.a, self.b = config, nn.Linear(4, 8), nn.Linear(8, config.classes)

        def forward(self, x):
            return self.b(self.a(x).relu())

    with pytest.raises(surgery.InputError, match="no numbers of its config"):
        surgery.wrap(Constant(types.SimpleNamespace(classes=4)), torch.randn(2, 4), tie="config")
