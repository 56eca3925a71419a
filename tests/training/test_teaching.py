"""Teachers: memory of what a frozen model says, and training without labels."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from surgery.training.teaching import Cached
from tests.small_models import mlp

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


def net(seed: int = 0) -> nn.Sequential:
    return mlp(6, 16, 8, 3, norm=True, seed=seed)


class Counted(nn.Module):
    """A model that counts the rows that it has seen, in a place that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.seen = net(1), [0]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Any:
        self.seen[0] += len(x)
        made = self.inner(x)
        return made if mask is None else {"logits": made * mask, "state": (x,)}


def same(a: Any, b: Any) -> bool:
    return bool(torch.allclose(a, b, atol=1e-6))


@given(rows=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=8), min_size=1, max_size=6))
def test_what_is_kept_is_what_the_teacher_says(rows: list[list[int]]) -> None:
    """In whatever batches the rows come; and no row that came in a batch of known rows is asked again."""
    model = Counted().eval()
    teacher, known = surgery.cached(model), set[int]()
    for batch in rows:
        before, asked = teacher.asked, set(batch) <= known
        assert same(teacher(X[batch]), model(X[batch]))
        assert (teacher.asked == before) == asked
        known |= set(batch)


def test_containers_and_several_inputs() -> None:
    model, mask = Counted().eval(), torch.ones(12, 3)
    teacher = surgery.cached(model)
    teacher(X, mask)
    seen = model.seen[0]
    found = teacher(X.flip(0), mask=mask)  # other keywords are another call
    assert model.seen[0] > seen
    seen = model.seen[0]
    found = teacher(X[3:5], mask[3:5])
    assert model.seen[0] == seen
    assert same(found["logits"], model.inner(X[3:5])) and torch.equal(found["state"][0], X[3:5])
    assert not same(teacher(X, 2 * mask)["logits"], teacher(X, mask)["logits"])


def test_it_runs_in_eval_mode_and_leaves_the_mode() -> None:
    model = Counted().train()
    said = surgery.cached(model)(X)
    assert model.training and same(said, model.eval()(X)) and not said.requires_grad


def test_it_forgets_when_the_weights_change() -> None:
    model = Counted().eval()
    teacher = surgery.cached(model)
    before = teacher(X)
    with torch.no_grad():
        model.inner[-1].bias.add_(1.0)
    assert same(teacher(X), before + 1.0) and teacher.bytes == before.nbytes


def test_it_keeps_no_more_than_it_may() -> None:
    model = Counted().eval()
    teacher = surgery.cached(model, limit=6 * 3 * 4)
    teacher(X[:6])
    with pytest.warns(UserWarning, match="take more than 72 bytes"):
        teacher(X[6:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(teacher(X[6:]), model(X[6:])) and same(teacher(X[:6]), model(X[:6]))
    assert teacher.bytes == 72


def noisy(x: Tensor) -> Tensor:
    return x + torch.rand(())


REFUSED = {
    "other rows count": (lambda x: x - x.mean(0), "depends on the other rows"),
    "chance": (noisy, "depends on the other rows of the batch, or on chance"),
    "no tensor": (lambda x: SimpleNamespace(logits=x), "returns tensors with a row for each of the 12 rows"),
    "a scalar": (lambda x: x.sum(), "returns tensors with a row for each of the 12 rows"),
    "rows second": (lambda x: x.T, "returns tensors with a row for each of the 12 rows"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_by_rows_is_refused(name: str) -> None:
    function, message = REFUSED[name]
    with pytest.raises(surgery.InputError, match=message):
        surgery.cached(function)(X)


def test_inputs_must_have_rows() -> None:
    with pytest.raises(surgery.InputError, match="dimension 0 of all inputs"):
        surgery.cached(lambda x, y: x)(X, X[:3])
    with pytest.raises(surgery.InputError, match="a teacher is a model, or a function"):
        surgery.cached(3)


def gradients(wrapped: nn.Module, **options: Any) -> list[Tensor]:
    wrapped.zero_grad()
    surgery.train_step(wrapped, X, narrow=[0.5], **options)
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in wrapped.parameters()]


def test_a_cached_teacher_teaches_the_same() -> None:
    teacher = net(1).eval()
    kept = surgery.cached(teacher)
    assert isinstance(kept, Cached)
    wrapped = surgery.wrap(net(), X).train()
    options: dict[str, Any] = {"distil": surgery.kl(), "full": False}
    expected = gradients(wrapped, teacher=teacher, **options)
    for _ in range(2):
        for a, b in zip(gradients(wrapped, teacher=kept, **options), expected, strict=True):
            assert torch.allclose(a, b, atol=1e-7)


@pytest.mark.parametrize("full", [True, False])
def test_without_a_loss_all_widths_learn_from_the_teacher(full: bool) -> None:
    teacher, wrapped = net(1).eval(), surgery.wrap(net(), X).train()
    found = gradients(wrapped, teacher=teacher, distil=F.mse_loss, full=full)
    wrapped.zero_grad()
    for width in (1.0, 0.5) if full else (0.5,):
        with surgery.at_widths(wrapped, width):
            F.mse_loss(wrapped(X), teacher(X).detach()).backward()
    for a, p in zip(found, wrapped.parameters(), strict=True):
        assert torch.allclose(a, torch.zeros_like(p) if p.grad is None else p.grad, atol=1e-6)


def test_a_divergence_may_see_the_inputs() -> None:
    """Such as a mask of padding: what stands there is not learnt."""
    teacher, wrapped = net(1).eval(), surgery.wrap(net(), X).train()
    seen = []

    def distil(narrow: Tensor, full: Tensor, inputs: tuple[Tensor]) -> Tensor:
        seen.append(inputs)
        return F.mse_loss(narrow[:6], full[:6])

    expected = gradients(wrapped, teacher=teacher, distil=lambda a, b, scale=1.0: F.mse_loss(a[:6], b[:6]) * scale)
    found = gradients(wrapped, teacher=teacher, distil=distil)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert len(seen) == 2 and all(given is X for given in seen)


def test_without_a_loss_somebody_must_say_what_is_learnt() -> None:
    wrapped = surgery.wrap(net(), X).train()
    for options in ({}, {"teacher": net(1)}, {"distil": surgery.kl()}):
        with pytest.raises(surgery.InputError, match="without a loss, all widths learn to say what a teacher says"):
            surgery.train_step(wrapped, X, **options)


def test_what_is_returned_may_be_written_to() -> None:
    model = net(1).eval()
    teacher = surgery.cached(model)
    for _ in range(2):
        assert same(teacher(X), model(X))
        teacher(X).mul_(5.0)
    buffer = torch.empty(12, 3)

    def says(x: Tensor) -> Tensor:
        made = buffer[: len(x)]
        return made.copy_(model(x).detach())

    static = surgery.cached(says)
    static(X), static(X + 1)
    assert same(static(X), model(X))


def test_rows_are_asked_once_whatever_batches_they_come_in() -> None:
    model = Counted().eval()
    teacher = surgery.cached(model, limit=12 * 12)
    teacher(X[:2])
    checked = model.seen[0]
    for order in (torch.arange(8), torch.arange(12), torch.tensor([3, 3, 0])):
        assert same(teacher(X[order]), model.inner(X[order]))
    assert model.seen[0] == checked + 10 and teacher.asked == 12 and teacher.bytes == 12 * 12


def test_few_numbers_are_kept_of_much() -> None:
    teacher = surgery.cached(lambda x: x.repeat(1, 1000)[:, -1:])
    said = teacher(X)
    kept = next(iter(teacher._rows.values())).leaves[0]
    assert kept.untyped_storage().nbytes() == 4 == teacher.bytes // 12 and same(said, X[:, -1:])


@pytest.mark.parametrize("mask", [-torch.inf, -1e9])
def test_masked_outputs_hide_no_dependence(mask: float) -> None:
    norm = nn.BatchNorm1d(6)
    norm.train()

    def says(x: Tensor, of: Any) -> Tensor:
        return torch.cat([of(x), torch.full((len(x), 1), mask)], 1)

    with pytest.raises(surgery.InputError, match="depends on the other rows"):
        surgery.cached(lambda x: says(x, norm))(X)
    surgery.cached(lambda x: says(x, torch.sin))(X)


def test_changes_of_a_module_are_noticed() -> None:
    model, wrapped = net(1).eval(), surgery.wrap(net(2), X).eval()
    teacher, twin = surgery.cached(model), surgery.cached(wrapped)
    teacher(X), twin(X)
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(model.parameters()) * 2, model.parameters())
    assert same(teacher(X), model(X))
    assert surgery.cached(model.double())(X.double()).dtype is torch.float64
    surgery.set_widths(wrapped, 0.25)
    assert same(twin(X), wrapped(X))


def test_other_arguments_are_known_by_their_contents() -> None:
    first = np.random.default_rng(0).normal(size=(6, 400)).astype("f")
    second = first.copy()
    second[2, 200] = 99.0  # the middle, which a printed array leaves out
    teacher = surgery.cached(lambda x, table: x @ torch.from_numpy(table))
    teacher(X, first)
    assert same(teacher(X, second), X @ torch.from_numpy(second))
    with pytest.raises(surgery.InputError, match="no contents to know it by"):
        teacher(X, lambda: 0)


def test_odd_batches_are_fine() -> None:
    teacher = surgery.cached(lambda x: x.abs())
    assert teacher(X[:0]).shape == (0, 6)
    pairs = torch.complex(X, -X).conj()
    assert same(teacher(pairs), pairs.abs())


def test_parts_in_training_mode_are_put_into_eval_mode() -> None:
    model = nn.Sequential(nn.Linear(6, 3), nn.Dropout(0.9)).eval()
    model[1].train()
    assert same(surgery.cached(model)(X), model[0](X)) and model[1].training


WAYS = {
    "by its name, with a default": lambda n, f, inputs=None: F.mse_loss(n * inputs.mean(), f),
    "by keyword": lambda n, f, *, inputs: F.mse_loss(n * inputs.mean(), f),
    "third": lambda n, f, x: F.mse_loss(n * x.mean(), f),
}


@pytest.mark.parametrize("name", WAYS)
def test_inputs_come_in_every_way(name: str) -> None:
    teacher, wrapped = net(1).eval(), surgery.wrap(net(), X).train()
    expected = gradients(wrapped, teacher=teacher, distil=lambda n, f: F.mse_loss(n * X.mean(), f))
    found = gradients(wrapped, teacher=teacher, distil=WAYS[name])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_what_others_learn_from_is_not_written_to() -> None:
    wrapped = surgery.wrap(net(), X).train()
    with pytest.raises(surgery.InputError, match="distil changes the full output in place"):
        gradients(wrapped, teacher=net(1), distil=lambda n, f: F.mse_loss(n, f.sub_(1.0)), full=False)


def test_a_teacher_does_not_change_as_it_is_learnt_from() -> None:
    model = net()
    wrapped = surgery.wrap(model, X).train()
    for teacher in (model, surgery.cached(model)):
        with pytest.raises(surgery.InputError, match="shares its parameters with the wrapped model"):
            surgery.train_step(wrapped, X, teacher=teacher, distil=surgery.kl(), full=False)


@pytest.mark.parametrize("given", [{"teacher": X, "distil": surgery.kl()}, {"teacher": net(), "distil": "kl"}])
def test_what_is_no_function_is_said(given: dict[str, Any]) -> None:
    with pytest.raises(surgery.InputError, match="is a model or a function, got"):
        surgery.train_step(surgery.wrap(net(), X).train(), X, **given)


def test_a_kind_of_loss_is_known_by_what_it_closes_over() -> None:
    def made(kind: Any) -> Any:
        return lambda output: kind(output)

    def hard(output: Tensor) -> Tensor:
        return F.cross_entropy(output, torch.arange(12) % 3)

    def near(output: Tensor) -> Tensor:
        return F.mse_loss(output, X[:, :3])

    wrapped, fresh = surgery.wrap(net(), X).train(), surgery.wrap(net(), X).train()
    gradients(wrapped, loss=made(hard))
    found, expected = gradients(wrapped, loss=made(near)), gradients(fresh, loss=made(near))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
