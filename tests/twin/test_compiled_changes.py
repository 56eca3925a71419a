"""What is done to a compiled twin reaches what runs in its place; what that cannot follow runs as it is written."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import surgery
from surgery.twin.compiled import Compiled
from surgery.twin.elastic import state_of
from tests.small_models import Given, Net, X, mlp
from tests.twin.test_compiled import check, compiled, fresh, learnt, pytestmark, runs_uncompiled, same, twins

__all__ = ["fresh", "pytestmark"]  # of all tests here, too
XD = X.double()


class Dropped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.drop, self.b = nn.Linear(6, 16), nn.Dropout(0.5), nn.Linear(16, 3)
        self.scale, self.settings = 1.0, {"shift": 0.0}

    def forward(self, x: Any) -> Any:
        return self.b(self.drop(torch.relu(self.a(x)))) * self.scale + self.settings["shift"]


def freeze(model: Any) -> None:
    model.a.requires_grad_(False)


def parameter(model: Any) -> None:
    model.a.weight = nn.Parameter(torch.ones(16, 6))


def bias(model: Any) -> None:
    model.a.bias = None


def loaded(model: Any, assign: bool = False) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, assign=assign)


CHANGES: dict[str, Callable[[Any], object]] = {
    "eval mode": lambda model: model.eval(),
    "eval mode of a layer": lambda model: model.drop.eval(),
    "another probability": lambda model: setattr(model.drop, "p", 0.25),
    "an attribute": lambda model: setattr(model, "scale", 2.0),
    "within an attribute": lambda model: model.settings.update(shift=1.0),
    "an attribute that is another object": lambda model: setattr(model, "settings", {"shift": 2.0}),
    "a layer is frozen": freeze,
    "another parameter": parameter,
    "a parameter less": bias,
    "weights are loaded": loaded,
    "weights are loaded in the place of others": lambda model: loaded(model, assign=True),
    "another layer": lambda model: setattr(model, "drop", nn.Dropout(0.0)),
    "a hook of the model": lambda model: model.register_forward_hook(lambda *args: args[2] * 2),
    "a step of an optimizer": lambda model: torch.optim.SGD(model.parameters(), lr=1.0).step(),
    "another device and back": lambda model: model.to("cpu"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_reach_it(change: str) -> None:
    a, b = twins(Dropped().train(), XD)
    check(a, b, (XD,), (1.0, 0.5) * 2)
    before = compiled()
    assert before == 2
    for model in (a, b):
        CHANGES[change](model)
    check(a, b, (XD,), (1.0, 0.5) * 2)
    assert runs_uncompiled(b) is None


def test_another_float_type() -> None:
    a, b = twins(Dropped().eval(), XD)
    check(a, b, (XD,), (0.5,) * 2)
    for model in (a, b):
        model.float()
    check(a, b, (XD.float(),), (0.5,) * 2, 1e-6)  # the same operations in float32
    with torch.autocast("cpu", torch.bfloat16):
        check(a, b, (XD.float(),), (0.5,) * 2, 1e-6)


def test_a_hook_of_a_layer_runs_on_the_layer() -> None:
    a, b = twins(Dropped().eval(), XD)
    check(a, b, (XD,), (0.5,) * 2)
    seen: list[Any] = []
    hooks = [model.a.register_forward_hook(lambda module, *_: seen.append(module)) for model in (a, b)]
    with pytest.warns(UserWarning, match="compile: Dropped runs uncompiled.*: a has hooks"):
        check(a, b, (XD,), (0.5,))
    assert seen[0] is b.a and seen[1] is a.a
    for hook in hooks:
        hook.remove()
    check(a, b, (XD,), (0.5,))
    assert state_of(b).forward.recomputed.fast is not None


def counting(self: Any, x: Any) -> Any:
    self.calls = getattr(self, "calls", 0) + 1
    return self.b(self.a(x).relu())


def listed(self: Any, x: Any) -> Any:
    for part in self.parts[0]:
        x = part(x)
    return self.b(x)


def recurrent(self: Any, x: Any) -> Any:
    return self.b(self.a(x)[0])


class Configured(nn.Module):
    """Its configuration holds a width, so that below full width the twin reads a copy of it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.config = SimpleNamespace(hidden=8, doubled=False)
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        x = self.a(x).view(-1, self.config.hidden).relu()
        return self.b(x * 2 if self.config.doubled else x)


def test_a_configuration_with_widths_in_it_is_followed() -> None:
    a, b = twins(Configured(), XD)
    check(a, b, (XD,), (1.0, 0.5) * 2)
    for model in (a, b):
        model.config.doubled = True
    check(a, b, (XD,), (1.0, 0.5) * 2)
    assert compiled() == 4


class Decayed(nn.Linear):
    def forward(self, x: Any) -> Any:
        self.weight.data.mul_(0.9)
        return super().forward(x)


def with_list() -> nn.Module:
    model = Given(listed)
    model.parts = [[model.a, nn.ReLU()]]
    return model


def with_one_buffer() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    model[2].running_mean = model[1].running_mean
    return model


IDS = torch.arange(5)
UNFIT: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "the model: its forward sets calls": (lambda: Given(counting), XD),
    "parts of the model holds modules outside of the module tree": (with_list, XD),
    "a holds tensors that follow the widths in plain attributes": (lambda: Given(recurrent, a=nn.GRU(6, 8)), XD),
    "0 may change its weights": (lambda: nn.Sequential(Decayed(6, 8), nn.Linear(8, 3)), XD),
    "0 may change its weights in its": (lambda: nn.Sequential(nn.Embedding(9, 8, max_norm=1), nn.Linear(8, 3)), IDS),
    "1.running_mean and 2.running_mean are one buffer": (with_one_buffer, XD),
}


@pytest.mark.parametrize("reason", UNFIT)
def test_what_cannot_run_in_its_place_runs_as_it_is_written(reason: str) -> None:
    make, x = UNFIT[reason]
    a, b = twins(make().train(), x)
    with pytest.warns(UserWarning, match=f"runs uncompiled, .*: {reason}"):
        check(a, b, (x,), (0.5,) * 3)
    assert not compiled() and getattr(a, "calls", None) == getattr(b, "calls", None)


def unseen(self: Any, x: Any) -> Any:
    """In a batch that the model was not analysed on, it sets what no plan knows of."""
    if x.shape[0] > 5:
        self.large = x.shape[0]
        self.mean = 0.5 * self.mean + x.detach().mean()
    return self.b(self.a(x).relu())


def test_what_no_analysed_forward_has_set_is_set_on_the_twin() -> None:
    model = Given(unseen)
    model.register_buffer("mean", torch.zeros(()))
    a, b = twins(model, XD)
    buffers = [m.mean for m in (a, b)]
    check(a, b, (torch.cat([XD, XD]),), (0.5,) * 3)
    assert compiled() and a.large == b.large == 10
    assert b.mean == a.mean != 0 and [m.mean is buffer for m, buffer in zip((a, b), buffers, strict=True)] == [True] * 2


def test_rescaled_widths() -> None:
    a, b = twins(mlp(6, 16, 8, 3), XD, draw=surgery.paper(rescale=True))
    check(a.train(), b.train(), (XD,), (0.5, 0.25) * 2)
    assert compiled() == 2


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_checkpoint_around_it_runs_again_as_it_ran(reentrant: bool) -> None:
    a, b = twins(Net().train(), XD, backend="aot_eager", draw=surgery.grid([0.5, 0.25]))
    x = XD.clone().requires_grad_()
    for _ in range(8):
        found = []
        for model in (a, b):
            model.zero_grad()
            checkpoint(model, x, use_reentrant=reentrant).square().sum().backward()
            found.append([p.grad for p in model.parameters()])
        same(found[1], found[0])
    assert compiled()


def test_two_passes_before_one_backward() -> None:
    a, b = twins(Net().train(), XD, backend="aot_eager")
    for _ in range(3):
        for model in (a, b):
            model.zero_grad()
            total = 0.0
            for width in (0.5, 0.25, 0.5):
                with surgery.at_widths(model, width):
                    total = total + model(XD).square().sum()
            total.backward()
        same([p.grad for p in b.parameters()], [p.grad for p in a.parameters()])


def test_transforms_see_its_operations() -> None:
    a, b = twins(Net().eval(), XD, backend="aot_eager")
    check(a, b, (XD,), (0.5,) * 2)
    surgery.set_widths(a, 0.5), surgery.set_widths(b, 0.5)
    rows = [torch.func.vmap(torch.func.grad(lambda x, m=m: m(x[None]).sum()))(XD) for m in (a, b)]
    same(rows[1:], rows[:1])
    given = {name: value + 1 for name, value in a.named_parameters()}
    same([torch.func.functional_call(b, given, (XD,))], [torch.func.functional_call(a, given, (XD,))])
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(XD, torch.ones_like(XD))
        slopes = [torch.autograd.forward_ad.unpack_dual(model(dual)).tangent for model in (a, b)]
    same(slopes[1:], slopes[:1])
    with torch.no_grad():
        exported = torch.export.export(b, (XD,)).module()
        same([exported(XD)], [a(XD)])
    surgery.set_widths(b, 1.0)
    same([torch.jit.trace(b, XD)(XD)], [surgery.unwrap(b)(XD)])


def test_copies_are_not_compiled_and_small_models_are_plain() -> None:
    _, b = twins(Net().eval(), XD)
    with surgery.at_widths(b, 0.5):
        learnt(b, XD), learnt(b, XD)
    assert isinstance(state_of(b).compiled, Compiled) and compiled() == 1
    for other in (copy.deepcopy(b), pickle.loads(pickle.dumps(b))):
        assert state_of(other).compiled is None
        surgery.set_widths(other, 0.5)
        with surgery.at_widths(b, 0.5), torch.enable_grad():
            same([other(XD)], [b(XD)])
    small = surgery.shrink(b, 0.5, recalibrate=False)
    assert compiled() == 1
    with surgery.at_widths(b, 0.5):
        same([b(XD)], [small(XD)])


def test_options_are_those_of_torch_compile() -> None:
    _, b = twins(Net().eval(), XD)
    with pytest.raises(RuntimeError, match="Unrecognized mode"):
        b.compile(mode="slow")
    b.compile(backend="eager", fullgraph=True)
    learnt(b, XD), learnt(b, XD)
    assert compiled() == 1
    b.head.compile(backend="eager")  # a layer by itself is not compiled
    with pytest.raises(Exception, match="the function `untraced`"):
        torch.compile(surgery.wrap(Net(), XD), backend="eager", fullgraph=True)(XD)


def test_torch_compile_around_it_says_what_to_do() -> None:
    a, b = twins(Net().eval(), XD)
    plain = copy.deepcopy(b)
    with pytest.warns(UserWarning, match=r"call wrapped\.compile\(\.\.\.\) on the wrapped model itself"):
        learnt(torch.compile(plain, backend="eager"), XD)
    assert not compiled() and state_of(plain).compiled is None
    for model in (a, plain, b):
        surgery.set_widths(model, 0.5)
    around = [torch.compile(model, backend="eager") for model in (plain, b)]
    for _ in range(3):
        same([model(XD) for model in around], [a(XD)] * 2)
    assert compiled() == 1


def test_a_twin_that_waits_for_its_first_forward() -> None:
    model = Net().eval()
    a, b = surgery.wrap(model), surgery.wrap(copy.deepcopy(model))
    b.compile(backend="eager")
    for _ in range(3):
        same(learnt(b, XD), learnt(a, XD))
    assert compiled() == 1
