"""Parts of an output by name, and what is free when only some of it counts."""

from __future__ import annotations

import types
from collections import OrderedDict, namedtuple
from typing import NamedTuple

import pytest
import torch
from torch import nn

import surgery
from surgery.modules.outputs import names_of, picked

A, B, C = torch.zeros(1), torch.ones(1), torch.ones(2)


class Pair(NamedTuple):
    logits: torch.Tensor
    features: list


@pytest.mark.parametrize(
    "returned, name, tensor",
    [
        ({"logits": A, "features": [B, C]}, "features.1", C),
        (OrderedDict(logits=A, features=B), 1, B),
        ((A, (B, C)), "1.0", B),
        (Pair(A, [B]), "logits", A),
        (Pair(A, [B]), 0, A),
        (types.SimpleNamespace(logits=A, inner=types.SimpleNamespace(x=B)), "inner.x", B),
    ],
)
def test_a_name_leads_to_a_part(returned: object, name: str | int, tensor: torch.Tensor) -> None:
    assert picked(returned, names_of(returned, name))[0] is tensor
    (found,) = names_of(returned, lambda _: tensor)
    assert picked(returned, [found])[0] is tensor


def test_what_is_no_part_is_an_error_that_names_the_parts() -> None:
    returned = {"logits": A, "features": [B, C]}
    for wrong in ("logit", 5, lambda out: out.logits, lambda out: out["logits"] * 2, lambda out: None, ["logits", "x"]):
        with pytest.raises(surgery.InputError, match=r"logits, features\.0, features\.1"):
            names_of(returned, wrong)


class Two(nn.Module):
    """Returns its features beside its logits, as many models do."""

    def __init__(self):
        super().__init__()
        self.body, self.mid, self.head = nn.Linear(5, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x):
        features = self.body(x).relu()
        hidden = self.mid(features).relu()
        return {"logits": self.head(hidden), "features": features, "hidden": [hidden]}


X = torch.randn(4, 5)


@pytest.mark.parametrize("outputs", ["logits", ["logits"], 0, lambda out: out["logits"]])
def test_what_only_other_outputs_need_is_free(outputs) -> None:
    model = Two()
    assert not surgery.inspect(model, X).groups
    wrapped = surgery.wrap(model, X, outputs=outputs).eval()
    assert list(surgery.inspect(wrapped).groups) == ["body.o", "mid.o"]
    small = surgery.shrink(wrapped, 0.5)
    assert small(X)["features"].shape == (4, 8) and small(X)["logits"].shape == (4, 3)
    assert torch.allclose(surgery.sort(wrapped)(X)["logits"], model(X)["logits"], atol=1e-5)
    assert list(surgery.inspect(model, X, outputs=["logits", "features"]).groups) == ["mid.o"]


def test_models_with_chosen_outputs_are_saved_and_read(tmp_path) -> None:
    wrapped = surgery.wrap(Two(), X, outputs=lambda out: out["logits"])
    small = surgery.shrink(wrapped, 0.5)
    surgery.save(small, tmp_path / "small")
    surgery.verify(surgery.load(tmp_path / "small", Two(), X), small, X)


def test_reordering_is_proven_on_what_counts() -> None:
    wrapped = surgery.wrap(Two(), X, outputs="logits")
    flipped = surgery.reorder(wrapped, {"body.o": list(range(15, -1, -1))})
    assert torch.equal(flipped(X)["features"], wrapped.eval()(X)["features"].flip(1))


def test_training_may_return_something_else() -> None:
    class Detector(Two):
        def forward(self, x):
            out = super().forward(x)
            return {"loss": out["logits"].square().mean()} if self.training else out

    wrapped = surgery.wrap(Detector(), X, outputs="logits")
    wrapped.train()(X)["loss"].backward()
    surgery.shrink(wrapped, 0.5)


def test_an_unknown_name_is_an_error_before_anything_is_wrapped() -> None:
    with pytest.raises(surgery.InputError, match=r"logits, features, hidden\.0"):
        surgery.wrap(Two(), X, outputs="last_hidden_state")


def test_a_namedtuple_of_tensors_goes_by_field_names() -> None:
    made = namedtuple("Made", "a b")(A, B)
    assert names_of(made, lambda out: out.b) == ("b",)
