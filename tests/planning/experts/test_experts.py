"""Experts are an axis: told by experiment, cut as any other; what only looks like them stays as it is."""

from __future__ import annotations

import copy
import itertools
import re

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import WidthError
from surgery.plan.groups import EXPERTS
from surgery.twin.setting import plan_of
from tests.laws.laws import cost_is_counted, full_width_is_the_model, order_is_free
from tests.planning.experts import mixtures
from tests.planning.experts.mixtures import LISTED, NONE, STACKED, E, K, Masked, Stacked, X

OTHER = torch.randn(17, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def built(cls: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls().double().eval()


def experts(plan: surgery.Plan) -> dict[str, surgery.Group]:
    return {name: group for name, group in plan.groups.items() if group.kind == EXPERTS}


@pytest.mark.parametrize("cls", STACKED, ids=lambda cls: cls.__name__)
def test_stacked_experts_obey_the_laws(cls: type[Stacked]) -> None:
    model, x = built(cls), X.double()
    wrapped = surgery.wrap(model, x, experts=True)
    plan = plan_of(wrapped)
    ((name, group),) = experts(plan).items()
    chosen = K if cls not in (mixtures.Best, mixtures.Dispatched, mixtures.Mapped) else 1
    assert (group.size, group.least, group.lists) == (E, chosen, ())
    assert {"router.weight", "up"} <= {tensor for tensor, _ in group.cuts}
    full_width_is_the_model(model, wrapped, x)
    order_is_free(wrapped, plan, x, torch.Generator().manual_seed(0))
    for width in range(group.least, E):
        small = surgery.shrink(wrapped, {name: width})
        assert small.num_experts == small.router.out_features == small.up.shape[0] == width
        with surgery.at_widths(wrapped, {name: width}):
            surgery.verify(wrapped, small, OTHER)
        every = cls in (mixtures.Scattered, mixtures.Dispatched)  # the work of most others depends on data
        cost_is_counted(wrapped, small, {name: width}, x, macs=every)
    with pytest.raises(WidthError, match=f"at least {chosen}" if chosen > 1 else "1"):
        surgery.shrink(wrapped, {name: chosen - 1})


@pytest.mark.parametrize("cls", LISTED, ids=lambda cls: cls.__name__)
def test_modules_of_a_list_are_units(cls: type[nn.Module]) -> None:
    plan = surgery.inspect(built(cls), X.double(), experts=True, rehearse=False)
    (group,) = experts(plan).values()
    assert group.size == E and ("router.weight", 0) in group.cuts
    (listed,) = group.lists
    assert (listed.path, listed.units, listed.renumbered) == ("experts", tuple((str(i),) for i in range(E)), True)
    assert group.least == (K if "topk" in _code(cls) else 1)


def _code(cls: type) -> str:
    import inspect

    return inspect.getsource(cls)


@pytest.mark.parametrize("cls", [mixtures.Masked, mixtures.Numbered], ids=lambda cls: cls.__name__)
def test_a_loop_over_numbers_follows(cls: type[nn.Module]) -> None:
    plan = surgery.inspect(built(cls), X.double(), experts=True, rehearse=False)
    (group,) = experts(plan).values()
    assert "router.out_features" in group.sets


@pytest.mark.parametrize("cls", NONE, ids=lambda cls: cls.__name__)
def test_what_depends_on_the_order_is_no_group_and_says_so(cls: type[nn.Module]) -> None:
    model = built(cls)
    plan = surgery.inspect(model, X.double(), experts=True)
    assert not experts(plan)
    assert not any(tensor == "router.weight" and dim == 0 for g in plan.groups.values() for tensor, dim in g.cuts)
    told = [note for note in plan.notes if "is chosen from, and no group" in note]
    read_before = (mixtures.SmoothedOver, mixtures.OneAfterAnother)  # their routers are, before anything is chosen
    assert told or cls in read_before


def test_experts_that_are_alike_are_told_apart() -> None:
    """Copies of one expert, behind a router of zeros: any order of them is right for these weights alone."""
    model = built(mixtures.ScaledByNumber)
    for expert in model.experts:
        expert.load_state_dict(model.experts[0].state_dict())
    nn.init.zeros_(model.router.weight)
    assert not experts(surgery.inspect(model, X.double(), experts=True))
    right = built(Masked)
    right.experts = nn.ModuleList(copy.deepcopy(right.experts[0]) for _ in range(E))
    nn.init.zeros_(right.router.weight)
    assert experts(surgery.inspect(right, X.double(), experts=True, rehearse=False))


def test_what_is_not_reached_is_not_believed() -> None:
    """One token has one expert of many; a few draws of other weights do not come to all of them."""
    model = mixtures.Best(24).double()
    plan = surgery.inspect(model, X.double()[:1], experts=True)
    assert not experts(plan)
    assert any("do not reach every unit" in note and "surgery.batches" in note for note in plan.notes)
    assert experts(surgery.inspect(model, torch.randn(400, 3, dtype=torch.float64), experts=True))


class InTraining(Masked):
    """In training alone, experts are told apart by their number."""

    def mix(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().mix(x)
        value, chosen = self.router(x).softmax(-1).topk(K)
        return sum(
            (i + 1) * expert(x) * (value * (chosen == i)).sum(-1, keepdim=True) for i, expert in enumerate(self.experts)
        )


class Noisy(mixtures.Chosen):
    """In training, logits are jittered: draws have no order that counts."""

    def mix(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        if self.training:
            logits = logits + 0.1 * torch.randn_like(logits)
        value, chosen = logits.softmax(-1).topk(K)
        y = torch.einsum(
            "tkh,tkhc->tkc", torch.relu(torch.einsum("tc,tkch->tkh", x, self.up[chosen])), self.down[chosen]
        )
        return (y * value.unsqueeze(-1)).sum(1)


def test_training_mode_is_tried_as_well() -> None:
    assert not experts(surgery.inspect(built(InTraining), X.double(), experts=True))
    assert experts(surgery.inspect(built(Noisy), X.double(), experts=True))


class Telling(mixtures.Chosen):
    """It returns what its router says, too."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": super().forward(x), "logits": self.router(torch.tanh(self.embed(x)))}


def test_what_a_model_returns_of_its_router_pins_it() -> None:
    model = built(Telling)
    plan = surgery.inspect(model, X.double(), experts=True)
    assert not experts(plan)
    assert any("it is an output of the model" in note for note in plan.notes)
    assert experts(surgery.inspect(model, X.double(), experts=True, outputs="y"))


class Indices(mixtures.Chosen):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), self.router(torch.tanh(self.embed(x))).argmax(-1)


def test_places_that_a_model_returns_pin_what_they_are_places_in() -> None:
    assert not experts(surgery.inspect(built(Indices), X.double(), experts=True))


def test_without_being_asked_nothing_changes() -> None:
    for cls in (*STACKED, *LISTED):
        plan = surgery.inspect(built(cls), X.double())
        assert not experts(plan) and "experts" not in plan.options
        sizes = {size for _, kind, size in plan.available if kind == EXPERTS}
        assert sizes <= {E} and (sizes or cls in (mixtures.Weighed, mixtures.Together, mixtures.ByToken, mixtures.Best))


def test_experts_are_asked_for_by_name(tmp_path) -> None:
    model = built(mixtures.Chosen)
    plan = surgery.inspect(model, X.double(), experts="up*")
    assert list(experts(plan)) == ["up.0"] and plan.options["experts"] == ["up*"]
    with pytest.raises(WidthError, match=re.escape("experts: 'nothing' fits none of up.0")):
        surgery.inspect(model, X.double(), experts=["nothing"])


@pytest.mark.parametrize("asked", [True, ["up*"]], ids=str)
def test_small_models_are_saved_and_loaded(tmp_path, asked: bool | list[str]) -> None:
    wrapped = surgery.wrap(built(mixtures.Hit), X.double(), experts=asked)
    small = surgery.shrink(wrapped, {"up.0": 3})
    surgery.save(small, tmp_path / "small")
    again = surgery.load(tmp_path / "small", mixtures.Hit().double(), X.double())
    surgery.verify(small, again, OTHER)


def test_a_loss_that_a_forward_keeps_follows() -> None:
    wrapped = surgery.wrap(built(mixtures.Dispatched), X.double(), experts=True)
    for width in (4, 2, 3):
        with surgery.at_widths(wrapped, {"up.0": width}):
            wrapped.train()(X.double()).sum().backward()
            assert torch.isfinite(wrapped.loss)


def test_every_width_learns() -> None:
    wrapped = surgery.wrap(built(mixtures.Chosen), X.double(), experts=True).train()
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(surgery.train_step(wrapped, X.double(), lambda y: nn.functional.mse_loss(y, torch.ones_like(y))))
        optimizer.step()
    assert losses[-1] < losses[0]


def test_two_mixtures_are_two_groups() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = mixtures.Chosen(4), mixtures.Chosen(4)
            self.between = nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.between(self.a(x)))

    model = built(Two)
    wrapped = surgery.wrap(model, X.double(), experts=True)
    names = list(experts(plan_of(wrapped)))
    assert names == ["a.up.0", "b.up.0"]
    for a, b in itertools.product((2, 4), (2, 3)):
        small = surgery.shrink(wrapped, dict(zip(names, (a, b), strict=True)))
        assert (small.a.num_experts, small.b.num_experts) == (a, b)
