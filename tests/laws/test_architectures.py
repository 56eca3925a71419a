"""The laws over every architecture of the table."""

import pytest
import torch

import surgery
from surgery.modules.inputs import tensors
from surgery.twin.setting import plan_of
from tests.laws.laws import all_laws, loss, random_widths
from tests.models import CASES, TRICKY
from tests.models.case import Case

# Everything here is pinned, rightly: the order of the features matters, or an operation has no rule.
WITHOUT_AXES = {
    "two_streams", "roll_channels", "flip_channels", "index_select", "index_list", "channel_cumsum",
    "channel_difference", "local_response_norm", "depthwise_of_one", "index_select_all", "fft_channels",
    "sort_channels", "unknown_operation",
}  # fmt: skip
# What torch's counter does not see: recurrences, and einsum where it multiplies element by element (contracted size 1).
# moe_top1 sends other tokens to other experts when its widths change.
UNCOUNTED = {
    "lstm_tagger", "gru_classifier", "crnn", "recurrent_cells", "moe_top1", "moe_stacked", "vit_einops",
    "attention_linear", "moe_slots",
}  # fmt: skip


pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("case", (*CASES, *TRICKY), ids=str)
def test_laws_hold(case: Case) -> None:
    model = case.build().double().eval()
    plan = all_laws(model, case.inputs(0), case.inputs(1), seed=0, macs=case.name not in UNCOUNTED)
    assert bool(plan.groups) == (case.name not in WITHOUT_AXES)


@pytest.mark.parametrize("case", [c for c in (*CASES, *TRICKY) if c.name not in WITHOUT_AXES], ids=str)
def test_trains_at_drawn_widths_and_as_a_small_model(case: Case) -> None:
    model = case.build().double()
    wrapped = surgery.wrap(model, case.inputs(0), draw=surgery.paper(p=1.0))
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=1e-6)
    before = {name: p.clone() for name, p in model.named_parameters()}
    wrapped.train()
    for seed in range(3):
        optimizer.zero_grad()
        loss(wrapped(*case.inputs(seed))).backward()
        optimizer.step()
    assert any(not torch.equal(p, before[name]) for name, p in model.named_parameters()), "training reaches the model"
    plan = plan_of(wrapped)
    small = surgery.shrink(wrapped, random_widths(plan, torch.Generator().manual_seed(0)))
    small.train()
    loss(small(*case.inputs(5))).backward()
    assert all(t.grad is None or t.grad.shape == t.shape for t in small.parameters())
    assert all(t.isfinite().all() for t in tensors(small.eval()(*case.inputs(6))) if t.is_floating_point())
