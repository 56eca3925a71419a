"""Arguments that people give in another form: an error says what is taken, before anything has run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from surgery import InputError, WidthError
from tests.small_models import Net, X
from tests.unchanged import unchanged

OPTIONS: dict[str, Any] = {"progress": False, "measure_latency": False}
POINT = surgery.Point({"fc1.o": 4, "fc2.o": 8}, 0.5, 1, 1, 1)


def never(model: nn.Module) -> float:
    raise AssertionError("nothing is to be run")


ALONE = [0.5, 4, "0.5", None, {"fc1.o": 4}, POINT]
LISTS: dict[str, Callable[..., Any]] = {
    "sweep: widths": lambda m, v: surgery.sweep(m, never, widths=v, **OPTIONS),
    "sensitivity: fractions": lambda m, v: surgery.sensitivity(m, never, fractions=v, **OPTIONS),
    "search: budgets": lambda m, v: surgery.search(m, never, budgets=v, **OPTIONS),
    "progress: widths": lambda m, v: surgery.progress(m, never, widths=v),
}


@pytest.mark.parametrize("value", ALONE, ids=repr)
@pytest.mark.parametrize("what", LISTS)
def test_one_entry_is_no_list(wrapped: Any, what: str, value: Any) -> None:
    name = what.partition(": ")[2]
    with (
        unchanged(wrapped),
        pytest.raises(InputError, match=rf"{what} is a list of entries, got .*{name}="),
    ):
        LISTS[what](wrapped, value)


@pytest.mark.parametrize("validate", [None, 0.5, [1.0, 0.5], nn.Linear(2, 2)], ids=repr)
@pytest.mark.parametrize("use", [surgery.sweep, surgery.sensitivity, surgery.search, surgery.progress])
def test_validate_is_a_function(wrapped: Any, use: Callable, validate: Any) -> None:
    with unchanged(wrapped), pytest.raises(InputError, match=r"validate is a function that takes a model and returns"):
        use(wrapped, validate)


@pytest.mark.parametrize("entry", [4, "0.5", None, [0.5]])
def test_entries_are_widths(wrapped: Any, entry: Any) -> None:
    for use in (surgery.sweep, surgery.progress):
        with unchanged(wrapped), pytest.raises(WidthError):
            use(wrapped, never, [1.0, entry])


@pytest.mark.parametrize("groups", [3, None])
def test_groups_are_patterns(wrapped: Any, groups: Any) -> None:
    with pytest.raises(InputError, match="sensitivity: groups is a list of entries, got"):
        surgery.sensitivity(wrapped, never, groups=groups, **OPTIONS)


def test_other_things_that_are_given_in_another_form(wrapped: Any) -> None:
    with pytest.raises(InputError, match="resume is the path of a file, got 5"):
        surgery.sweep(wrapped, never, resume=5, **OPTIONS)  # type: ignore[arg-type]
    for given in ({"tolerance": "0.1"}, {"lower": None}, {"most": "many"}):
        with pytest.raises(InputError, match="tolerance is above 0, lower between 0 and 1"):
            surgery.adaptive(**given)


SEVERAL: dict[str, Callable[..., Any]] = {
    "wrap": lambda model: surgery.wrap(model, X, X),
    "inspect": lambda model: surgery.inspect(model, X, X),
    "shrink": lambda model: surgery.shrink(model, 0.5, X, X),
    "cost": lambda model: surgery.cost(model, 0.5, X, X),
    "sort": lambda model: surgery.sort(model, X, X),
    "reorder": lambda model: surgery.reorder(model, {}, X, X),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_inputs_are_one_tuple(model: Net, name: str) -> None:
    message = (
        rf"{name} takes model.* by place, got \d arguments: .* is a Tensor\. Several inputs of one call are a tuple"
    )
    with unchanged(model), pytest.raises(InputError, match=message):
        SEVERAL[name](model)


@pytest.mark.parametrize(("score", "loss"), [(0.93, 0.21), (0.5, 0.7), (torch.tensor(0.98), torch.tensor(0.3)), (0, 2)])
def test_an_accuracy_and_a_loss_are_no_score_with_its_error(wrapped: Any, score: Any, loss: Any) -> None:
    with pytest.raises(
        InputError, match=r"is read as a score and its standard error.* If the second is a loss, return"
    ):
        surgery.progress(wrapped, lambda model: (score, loss))
    with pytest.raises(surgery.SweepError, match="is read as a score and its standard error"):
        surgery.sweep(wrapped, lambda model: (score, loss), [1.0], **OPTIONS)


@pytest.mark.parametrize("count", [12, 100, 10_000])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.93, 1.0])
def test_errors_of_shares_are_taken(wrapped: Any, share: float, count: int) -> None:
    error = math.sqrt(share * (1 - share) / count)
    assert surgery.progress(wrapped, lambda model: (share, error), [1.0]).scores == (share,)
    assert surgery.progress(wrapped, lambda model: (-2.3, 0.4), [1.0]).scores == (-2.3,), "in any other unit"


def test_a_step_in_eval_mode_is_refused(wrapped: Any) -> None:
    wrapped.eval()
    y = torch.zeros(5).long()
    with unchanged(wrapped), pytest.raises(InputError, match=r"train_step: Net is in eval mode.* call \.train\(\)"):
        surgery.train_step(wrapped, X, lambda output: F.cross_entropy(output, y))
    wrapped.train().norm.eval()  # a part of it may be
    surgery.train_step(wrapped, X, lambda output: F.cross_entropy(output, y))


class Keeping(nn.Module):
    """Leaves a loss, a counter and a list behind, as research code does."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 3)
        self.kl, self.calls, self.seen = 0.0, 0, []

    def forward(self, x: Any) -> Any:
        h = self.a(x).relu()
        self.kl = h.pow(2).mean()
        self.calls += 1
        self.seen.append(self.calls)
        return self.b(h)


KEEPING: dict[str, Callable[..., Any]] = {
    "sweep": lambda m, score: surgery.sweep(m, score, (1.0, 0.5), progress=False),
    "sensitivity": lambda m, score: surgery.sensitivity(m, score, (0.5,), **OPTIONS),
    "search": lambda m, score: surgery.search(m, score, (0.5,), evaluations=8, **OPTIONS),
    "progress": lambda m, score: surgery.progress(m, score, (1.0, 0.5)),
}


@pytest.mark.parametrize("use", KEEPING)
def test_what_a_training_forward_has_left_is_there_after_measuring(use: str) -> None:
    wrapped = surgery.wrap(Keeping(), X).train()
    output = wrapped(X)
    kept, seen = wrapped.kl, wrapped.seen
    KEEPING[use](wrapped, lambda model: (float(model(X).sum()) + float(model.kl), 0.0))
    assert wrapped.kl is kept and wrapped.seen is seen and (wrapped.calls, seen) == (1, [1])
    (output.sum() + wrapped.kl).backward()
    assert wrapped.a.weight.grad is not None
