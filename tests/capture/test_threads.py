"""One process, many threads: while some analyse models, others do what they would do alone."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import einops
import einops.einops
import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.modules import modes

ROUNDS = 100
X = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


class Grouped(nn.Module):
    """Widths by attributes, by arithmetic, in a loop and through einops: all that a recording must see."""

    def __init__(self, heads: int):
        super().__init__()
        self.heads, self.inner, self.out = heads, nn.Linear(6, 4 * heads), nn.Linear(heads, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = einops.rearrange(self.inner(x).relu(), "b (h d) -> b h d", h=self.heads)
        width = x.shape[1] * x.shape[2] // self.heads
        return self.out(sum(x[:, :, i] for i in range(width)) / width)


def model(i: int) -> nn.Module:
    torch.manual_seed(i)
    return Grouped(3 + i).eval()


def patched() -> list[Any]:
    """What recordings replace, as it is now."""
    module, function = vars(nn.Module), vars(torch.autograd.Function)
    imports = builtins.__import__, "exec_module" in vars(importlib.machinery.SourceFileLoader)
    shapes = einops.einops._reconstruct_from_shape
    return [module["_call_impl"], module["_compiled_call_impl"], function["apply"], builtins.range, shapes, *imports]


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = patched()
    yield
    assert patched() == before


@contextlib.contextmanager
def switching_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def run_all(*works: Callable[[], None]) -> None:
    """Each in a thread of its own; the first error is raised here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def train(net: nn.Module, steps: int) -> list[float]:
    """The losses of a twin in training: they depend on every draw and on every gradient."""
    twin = surgery.wrap(net, X, generator=torch.Generator().manual_seed(1)).train()
    optimizer, losses = torch.optim.SGD(twin.parameters(), 0.1), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (twin(X) - 1).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_four_threads_analyse_while_a_fifth_trains() -> None:
    models = [model(i) for i in range(4)]
    right = [str(surgery.inspect(m, X)) for m in models]
    alone, net = train(model(0), 4 * ROUNDS), model(0)
    assert len(set(alone)) > ROUNDS

    def analyse(i: int) -> None:
        for turn in range(ROUNDS):
            assert str(surgery.inspect(models[i], X)) == right[i]
            if turn % 25 == 0:
                surgery.shrink(models[i], 0.5, X)

    def trains() -> None:
        assert train(net, 4 * ROUNDS) == alone

    with switching_often():
        run_all(*(lambda i=i: analyse(i) for i in range(4)), trains)  # type: ignore[misc]


class During(nn.Module):
    """Runs something in the middle of its forward, while a recording is under way."""

    def __init__(self, do: Callable[[], None], elsewhere: bool):
        super().__init__()
        self.inner, self.out, self.elsewhere = nn.Linear(6, 8), nn.Linear(8, 2), elsewhere
        During.do = staticmethod(do)

    def forward(self, x: Tensor) -> Tensor:
        if self.elsewhere:
            run_all(During.do)
        else:
            During.do()
        return self.out(self.inner(x))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * gradient


def see_nothing() -> None:
    """What a thread can tell of a recording in another one."""
    layer, x = nn.Linear(6, 2), X.clone().requires_grad_()
    layer.compile(backend="eager")
    layer._compiled_call_impl = lambda *_: "compiled"
    assert layer(X) == "compiled"
    assert type(einops.rearrange(X, "a b -> b a").shape[0]) is int
    Doubled.apply(x).sum().backward()
    assert x.grad is not None and bool((x.grad == 2).all())
    numbers = range(2, 9, 3)
    assert isinstance(numbers, range) and issubclass(type(numbers), range) and not isinstance(3, range)
    for again in (pickle.loads(pickle.dumps(numbers)), pickle.loads(pickle._dumps(numbers))):  # type: ignore[attr-defined]
        assert again == numbers and type(again) is type(numbers)
    assert pickle.loads(pickle.dumps(range)) is range


def test_another_thread_sees_nothing_of_a_recording() -> None:
    see_nothing()
    plan = surgery.inspect(During(see_nothing, elsewhere=True).eval(), X)
    assert list(plan.groups) == ["inner.o"]


def fail() -> None:
    raise ZeroDivisionError("here")


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_failing_forward_puts_everything_back(elsewhere: bool) -> None:
    with pytest.raises(surgery.CaptureError, match="here"):
        surgery.inspect(During(fail, elsewhere).eval(), X)


def test_recordings_do_not_nest() -> None:
    inside = During(lambda: surgery.wrap(model(0), X), elsewhere=False).eval()
    with pytest.raises(surgery.CaptureError, match="in the middle of another one's analysis"):
        surgery.inspect(inside, X)


def test_a_forward_may_wait_for_a_thread_that_analyses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modes, "PATIENCE", 0.05)
    other = During(lambda: surgery.inspect(model(1), X) and None, elsewhere=True).eval()
    assert list(surgery.inspect(other, X).groups) == ["inner.o"]


class Loops(nn.Module):
    """Imports a module in another thread, then goes on with a loop that must be seen."""

    def __init__(self, name: str):
        super().__init__()
        self.name, self.inner, self.out = name, nn.Linear(6, 8), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        run_all(lambda: importlib.import_module(self.name) and None)
        x = self.inner(x)
        size = x.shape[1] // 4
        return self.out(torch.stack([x[:, i * size : (i + 1) * size].sum(1) for i in range(x.shape[1] // size)][:2], 1))


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that nobody has imported: it keeps the `range` that it was run with."""
    (tmp_path / "surgery_keeps_range.py").write_text("kept = range\nmade = type(range(3))\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "surgery_keeps_range"
    sys.modules.pop("surgery_keeps_range", None)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_an_import_keeps_pythons_own_range(fresh: str, elsewhere: bool) -> None:
    surgery.inspect(During(lambda: importlib.import_module(fresh) and None, elsewhere).eval(), X)
    module = sys.modules[fresh]
    assert module.kept is range is module.made


def test_what_an_import_in_another_thread_hides_is_recorded_again(fresh: str) -> None:
    first = str(surgery.inspect(Loops(fresh).eval(), X))
    assert first == str(surgery.inspect(Loops("json").eval(), X))
