"""A new forward is tried against the model from the state in which the model was recorded."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import surgery
from surgery.modules.verify import verify
from tests.small_models import Heads


class Draws(Heads):
    """It draws in eval mode too, and returns sizes beside its tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, int, dict[str, int]]:
        noise = torch.rand(len(x), x.shape[1], 1)
        y = self.head(self.attend(self.embed(x) * noise))
        return y, x.shape[1], {"heads": self.heads, "batch": len(x)}


def test_a_trial_starts_where_the_recorded_run_did() -> None:
    torch.manual_seed(3)
    model, x = Draws(), torch.randn(2, 4, 5)
    before = torch.get_rng_state()
    plan = surgery.inspect(model, x)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(plan.rewrites) == [""], plan
    wrapped = surgery.wrap(model, x)
    small = surgery.shrink(wrapped, 0.5)
    with surgery.at_widths(wrapped, 0.5):
        assert verify(wrapped, small, x) < 1e-4


class Counts(Heads):
    """What it returns depends on how often it ran, which a nested list or a buffer that grows knows."""

    def __init__(self, nested: bool):
        super().__init__()
        self.nested, self.memory = nested, {"runs": []}
        self.register_buffer("log", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.nested:
            self.memory["runs"].append(1.0)
        else:
            self.log = torch.cat([self.log, x.mean().reshape(1)])
        return self.head(self.attend(self.embed(x))) / (len(self.memory["runs"]) + len(self.log))


@pytest.mark.parametrize("nested", [True, False])
def test_a_trial_knows_what_one_run_leaves_for_the_next(nested: bool) -> None:
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert list(surgery.inspect(Counts(nested), surgery.batches([x, x + 1])).rewrites) == [""]


class Views(Heads):
    """It changes one buffer, and reads another that looks at the same memory."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("whole", torch.ones(4))
        self.register_buffer("part", self.whole[:2])

    def forward(self, x: Tensor) -> Tensor:
        self.whole.mul_(2)
        return self.head(self.attend(self.embed(x))) * self.part.sum()


def test_a_trial_is_held_against_the_model_where_the_recording_is_another() -> None:
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    assert list(surgery.inspect(Views(), x).rewrites) == [""]
