"""A tensor at widths is its first units of each group, wherever they lie; gradients flow back into the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from surgery.axes.layout import Layout, Sum, Unit
from surgery.plan.cutting import Scale, cut

X = torch.arange(1.0, 97.0, dtype=torch.float64).view(12, 8)
A, B, C, D = Unit(12, "a"), Unit(8, "b"), Unit(4, "c"), Unit(2, "d")

CUT: dict[str, tuple[tuple[Layout, ...], dict[str, int], Scale | None, Tensor]] = {
    # layouts of the two dimensions, widths, what is rescaled, and what is left
    "nothing": (((A,), (B,)), {}, None, X),
    "full widths": (((A,), (B,)), {"a": 12, "b": 8}, None, X),
    "rows": (((A,), (B,)), {"a": 5}, None, X[:5]),
    "rows and columns": (((A,), (B,)), {"a": 5, "b": 2}, None, X[:5, :2]),
    "the minor part of a product": (((Unit(3), C), (B,)), {"c": 2}, None, X[[0, 1, 4, 5, 8, 9]]),
    "both": (((Unit(3), C), (B,)), {"c": 1, "b": 3}, None, X[::4, :3]),
    "one dimension twice": (((C, Unit(3)), (C, Unit(2))), {"c": 2}, None, X[:6, :4]),
    "a sum": (((Sum(((B,), (C,))),), (B,)), {"b": 3, "c": 2}, None, X[[0, 1, 2, 8, 9]][:, :3]),
    "rescaled": (((A,), (B,)), {"a": 4}, (0, frozenset({"a"})), X[:4] * 3),
    "rescaled by one group of two": (((A,), (B,)), {"a": 4, "b": 4}, (0, frozenset({"a"})), X[:4, :4] * 3),
    "rescaled in a sum": (
        ((Sum(((B,), (C,))),), (B,)), {"c": 2}, (0, frozenset({"b", "c"})), torch.cat([X[:8], X[8:10] * 2]),
    ),
    "a map from a group to itself": (((Unit(3), D, D), (B,)), {"d": 1}, (0, frozenset({"d"})), X[::4] * 2),
    "a map from a group to a sum with it": (
        ((Sum(((D,), (Unit(1),))), D, Unit(2)), (B,)), {"d": 1}, (0, frozenset({"d"})),
        torch.cat([X[[0, 1]] * 2, X[[8, 9]]]),
    ),
    "nothing to rescale": (((A,), (B,)), {"b": 4}, (0, frozenset({"a"})), X[:, :4]),
}  # fmt: skip


@pytest.mark.parametrize("name", CUT)
def test_a_tensor_is_cut_and_rescaled(name: str) -> None:
    layouts, widths, scale, expected = CUT[name]
    assert torch.equal(cut(X, layouts, widths, scale), expected)


@pytest.mark.parametrize("name", CUT)
def test_gradients_are_the_factors_in_the_part_and_zero_elsewhere(name: str) -> None:
    layouts, widths, scale, expected = CUT[name]
    whole = X.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(cut(whole, layouts, widths, scale).sum(), whole)
    assert torch.allclose(cut(gradient * X, layouts, widths), expected)
    assert int((gradient != 0).sum()) == expected.numel()
