"""Experts and branches that are modules obey the laws, in all ways of writing them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import WidthError
from surgery.plan.groups import EXPERTS
from surgery.twin.setting import plan_of
from tests.laws import laws
from tests.planning.experts import lists
from tests.planning.experts.lists import SENT, SETS, SOFT
from tests.planning.experts.mixtures import X

X = X.double()
OTHER = torch.randn(17, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def built(cls: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return cls().double().eval()


def group_of(plan: surgery.Plan) -> surgery.Group:
    (group,) = (group for group in plan.groups.values() if group.kind == EXPERTS)
    return group


def listed(model: nn.Module) -> list[nn.Module]:
    found = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList | nn.ModuleDict)
    }
    ((_, module),) = found.items()
    return list(module.children())


@pytest.mark.parametrize("cls", (*SOFT, *SENT, *SETS), ids=lambda cls: cls.__name__)
def test_lists_obey_the_laws(cls: type[nn.Module]) -> None:
    model = built(cls)
    wrapped = surgery.wrap(model, X, experts=True)
    plan = plan_of(wrapped)
    group = group_of(plan)
    assert group.size == 4 and not plan.notes
    assert group.parameters >= sum(p.numel() for module in listed(model) for p in module.parameters())
    laws.everything_is_accounted_for(plan, model)
    laws.full_width_is_the_model(model, wrapped, (X,))
    laws.order_is_free(wrapped, plan, (X,), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    for width in range(group.least, 5):
        for others in (plan.full(), laws.random_widths(plan, generator)):
            widths = {**others, group.name: width}
            small = laws.shrunk_is_wrapped(wrapped, widths, (OTHER,))
            assert len(listed(small)) == width
            laws.gradients_stay_inside(wrapped, widths, (OTHER,))
            alike = cls not in SENT or others == plan.full()  # else it depends on which experts tokens are sent to
            laws.cost_is_counted(wrapped, small, widths, (X,), macs=alike)
    if group.least > 1:
        with pytest.raises(WidthError, match=f"at least {group.least}"):
            surgery.shrink(wrapped, {group.name: group.least - 1})


@pytest.mark.parametrize("cls", [lists.SoftTopK, lists.Named, lists.ByOwnNumber, lists.AveragedByNumber])
def test_small_models_are_saved_and_read(cls: type[nn.Module], tmp_path) -> None:
    wrapped = surgery.wrap(built(cls), X, experts=True)
    small = surgery.shrink(wrapped, {group_of(plan_of(wrapped)).name: 2})
    surgery.save(small, tmp_path / "small")
    surgery.verify(small, surgery.load(tmp_path / "small", built(cls), X), OTHER)


@pytest.mark.parametrize("cls", [lists.Weighed, lists.Balanced, lists.Named, lists.Ensemble])
def test_every_number_of_experts_learns(cls: type[nn.Module]) -> None:
    wrapped = surgery.wrap(built(cls), X, experts=True, generator=torch.Generator().manual_seed(0)).train()
    optimizer = torch.optim.SGD(wrapped.parameters(), 0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(surgery.train_step(wrapped, X, lambda y: nn.functional.mse_loss(y, torch.ones_like(y))))
        optimizer.step()
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("cls", [lists.Weighed, lists.Masked, lists.Averaged])
def test_the_best_experts_come_first(cls: type[nn.Module]) -> None:
    model = built(cls)
    children = listed(model)
    with torch.no_grad():
        for i, child in enumerate(children):
            for parameter in child.parameters():
                parameter.mul_(1 + i)
    wrapped = surgery.wrap(model, X, experts=True)
    name = group_of(plan_of(wrapped)).name
    assert surgery.order(wrapped, by=surgery.magnitude())[name][0] == 3
    if cls is lists.Averaged:  # nothing reads an axis of branches
        assert surgery.order(wrapped, by=surgery.absorbed([(X,)]))[name].tolist() == [3, 2, 1, 0]
    for by in (surgery.magnitude(), surgery.absorbed([(X,)])):
        surgery.verify(model, surgery.sort(wrapped, by=by), OTHER)


@pytest.mark.parametrize("cls", [lists.OfTheirOwn, lists.Dilated])
def test_modules_that_differ_by_more_than_tensors_cannot_change_places(cls: type[nn.Module]) -> None:
    plan = surgery.inspect(built(cls), X, experts=True)
    assert not any(group.kind == EXPERTS for group in plan.groups.values())
    assert any("interchangeable" in note or "in another order" in note for note in plan.notes)


def test_a_loss_that_is_kept_is_that_of_the_experts_that_are_there() -> None:
    wrapped = surgery.wrap(built(lists.Balanced), X, experts=True)
    small = surgery.shrink(wrapped, {"router.o": 3})
    with surgery.at_widths(wrapped, {"router.o": 3}):
        wrapped(X)
    small(X)
    assert torch.allclose(small.loss, wrapped.loss)


def test_an_expert_that_no_token_chooses_is_not_run() -> None:
    wrapped = surgery.wrap(built(lists.HitAlone), X, experts=True)
    small = surgery.shrink(wrapped, {"router.o": 3})
    one = OTHER[:1]  # has two experts
    with surgery.at_widths(wrapped, {"router.o": 3}):
        surgery.verify(wrapped, small, one)


def test_what_is_asked_for_is_found_by_globs_and_kept_by_fixed() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.between = lists.Weighed(4), lists.Averaged(4), nn.Linear(2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.between(self.a(x)))

    def names(**kwargs: object) -> list[str]:
        plan = plan_of(surgery.wrap(built(Two), X, **kwargs))
        return [name for name, group in plan.groups.items() if group.kind == EXPERTS]

    assert names(experts=True) == ["a.router.o", "b.branches.experts"]
    assert names(experts=["a.*"]) == ["a.router.o"]
    assert names(experts=["b.branches*"]) == ["b.branches.experts"]
    assert names(experts=True, fixed=["a.router.o"]) == ["b.branches.experts"]
    assert names() == []
    with pytest.raises(WidthError, match="fits none"):
        names(experts=["c.*"])
    steps = {"a.router.o": 2, "b.branches.experts": 2}
    plan = plan_of(surgery.wrap(built(Two), X, experts=True, granularity=steps))
    assert [plan.groups[name].smallest for name in ("a.router.o", "b.branches.experts")] == [2, 2]
