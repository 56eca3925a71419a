"""Models that a careless reading gets wrong: every axis that the plan calls free is free, or it is not called free."""

from __future__ import annotations

import dataclasses
import functools
import types
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from tests.laws.laws import order_is_free, shrunk_is_wrapped, smallest
from tests.small_models import Given, weights

Net = functools.partial(Given, inputs=5)


class MaskedConv(nn.Conv2d):
    """Overrides what the base's forward calls."""

    def __init__(self, *args: int):
        super().__init__(*args)
        self.register_buffer("mask", (torch.rand(self.weight.shape) > 0.5).float())

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight * self.mask, bias)


class Unbatched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.e, self.c, self.o = nn.Embedding(9, 6), nn.Conv1d(6, 6, 3, padding=1), nn.Linear(6, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.o(self.c(self.e(ids).t()).t())


class Lists(nn.Module):
    """Parameters in modules that have no forward."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.ParameterList([nn.Parameter(torch.randn(5, 8)), nn.Parameter(torch.randn(8, 2))])

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.w[0]).relu() @ self.w[1]


X = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
IDS = torch.arange(6) % 4


def buffer(x: Tensor, n: int) -> Tensor:
    return torch.zeros(*x.shape[:-1], n, dtype=x.dtype)


def written_out(s: nn.Module, x: Tensor) -> Tensor:
    both = buffer(x, 16)
    torch.add(s.a(x), 1, out=both[..., :8])
    torch.mul(s.a(x), s.w, out=both.view(*x.shape[:-1], 2, 8)[..., 1, :])
    return s.b(both[..., :8] * both[..., 8:].flip(-1))


def written_in_place(s: nn.Module, x: Tensor) -> Tensor:
    y = buffer(x, 8).copy_(s.a(x))
    y.chunk(2, -1)[0].add_(s.w[:4])
    y.view(-1, 8)[:, 4:].mul_(s.w[4:])
    y.narrow(-1, 2, 3).cumsum_(-1)
    return s.b(y)


def overlapping(s: nn.Module, x: Tensor) -> Tensor:
    """Windows of four rows, every second one, of features whose rows lie outermost in memory."""
    h = s.a(x.transpose(0, 1)).transpose(0, 1)
    outer, row, feature = h.stride()
    return s.b(h.as_strided((h.shape[0], 2, 4, h.shape[2]), (outer, 2 * row, row, feature)))


def beside_pairs(s: nn.Module, x: Tensor) -> Tensor:
    """Features, and pairs of others behind them in memory."""
    plain, pairs = s.c(x).split((6, 4), -1)
    return torch.view_as_complex(pairs.unflatten(-1, (-1, 2))).abs().sum(-1, keepdim=True) + s.o(plain[:, ::2])


TRAPS: dict[str, Callable[[], tuple[nn.Module, tuple]]] = {
    "rows meet columns": lambda: (
        Net(lambda s, x: s.b(F.linear(s.a(x), s.w.clone().fill_diagonal_(0))), w=weights(8, 8)), (X,)),
    "inner": lambda: (Net(lambda s, x: s.b(torch.inner(s.a(x), s.w)), w=weights(8, 8)), (X,)),
    "layers of a state": lambda: (
        Net(lambda s, x: s.b(s.g(x, s.h.expand(-1, x.shape[0], -1).contiguous())[0]),
            g=nn.GRU(5, 8, 2, batch_first=True), h=weights(2, 1, 8)), (X,)),
    "batch of a state": lambda: (
        Net(lambda s, x: s.b(s.c(s.a(x).t() @ x[:, :3], (s.h, s.h))[0]).sum(0), c=nn.LSTMCell(3, 8), h=weights(8, 8)),
        (torch.randn(3, 5),)),
    "weights of samples": lambda: (
        Net(lambda s, i, z: s.b(s.e(i, per_sample_weights=s.p(z))), e=nn.EmbeddingBag(9, 8, mode="sum"),
            p=nn.Linear(5, 4)), (torch.randint(0, 9, (3, 4)), torch.randn(3, 5))),
    "coordinates": lambda: (
        Net(lambda s, x: s.o(F.grid_sample(s.c(x), s.g(s.c(x)).permute(0, 2, 3, 1), align_corners=False)),
            c=nn.Conv2d(3, 6, 3), g=nn.Conv2d(6, 2, 1), o=nn.Conv2d(6, 2, 1)), (torch.randn(2, 3, 7, 7),)),
    "no batch": lambda: (Unbatched(), (IDS,)),
    "overridden helper": lambda: (
        nn.Sequential(nn.Conv2d(3, 6, 3), MaskedConv(6, 8, 3), nn.Conv2d(8, 2, 1)), (torch.randn(2, 3, 9, 9),)),
    "kthvalue": lambda: (Net(lambda s, x: s.o(s.l(x).view(-1, 8, 8).kthvalue(1)[0]), l=nn.Linear(5, 64),
                             o=nn.Linear(8, 3)), (torch.randn(3, 5),)),
    "vmap": lambda: (Net(lambda s, x: s.b(torch.vmap(lambda r: r.cumsum(0))(s.a(x)))), (torch.randn(3, 5),)),
    "random mask": lambda: (Net(lambda s, x: s.b(s.a(x) * torch.bernoulli(torch.full_like(s.a(x), 0.5)))), (X,)),
    "parameter list": lambda: (Lists(), (torch.randn(3, 5),)),
    "cosine": lambda: (Net(lambda s, x: s.b(s.a(x)) * F.cosine_similarity(s.a(x), s.a(x) + 1)[:, :3, None].mean(),),
                       (torch.randn(2, 8, 5),)),
    "written by out=": lambda: (Net(written_out, w=weights(8)), (X,)),
    "written through views": lambda: (Net(written_in_place, w=weights(8)), (X,)),
    "an empty tensor to write into": lambda: (
        Net(lambda s, x: s.b(torch.add(s.a(x), 1, out=x.new_empty(0)))), (X,)),
    "random through a view": lambda: (
        Net(lambda s, x: s.b((h := s.a(x), h[..., :4].uniform_())[0])), (torch.randn(3, 5),)),
    "behind a view": lambda: (
        Net(lambda s, x: s.b(s.a(x)) + s.a(x)[:, :2].as_strided((3, 3), (8, 2))), (torch.randn(3, 5),)),
    "overlapping windows": lambda: (Net(overlapping), (torch.randn(2, 6, 5),)),
    "windows of a table": lambda: (
        Net(lambda s, x: s.b(s.a(x) + s.w.as_strided((2, 2, 8), (8, 8, 1)).sum(1)), w=weights(3, 8)),
        (torch.randn(2, 5),)),
    "strides of pairs": lambda: (Net(beside_pairs, c=nn.Linear(5, 10), o=nn.Linear(3, 2)), (torch.randn(2, 5),)),
    "an axis of numpy": lambda: (Net(lambda s, x: s.b(s.a(x.mT @ x).cumsum(axis=-1))), (X,)),
    "indices that go out": lambda: (Net(lambda s, x: tuple(s.a(x).max(-1))), (X,)),
    "noise like it": lambda: (Net(lambda s, x: s.b(torch.randn_like(s.a(x)) + 1)), (X,)),
    "the same tensor": lambda: (Net(lambda s, x: s.b(torch.as_tensor(s.a(x)))), (X,)),
    "a computed number of chunks": lambda: (
        Net(lambda s, x: s.o(torch.stack((y := s.a(x)).chunk(y.shape[1] // 4, 1)).softmax(0).prod(0).amax(1, True)),
            o=nn.Linear(1, 2)), (torch.randn(5, 5),)),
    "a computed stride": lambda: (
        Net(lambda s, x: s.o((y := s.a(x))[:, :: y.shape[1] // 4].softmax(1).amax(1, True)), o=nn.Linear(1, 2)),
        (torch.randn(5, 5),)),
    "a stride from behind": lambda: (Net(lambda s, x: s.o(s.a(x)[:, -7::2]), o=nn.Linear(4, 2)), (torch.randn(5, 5),)),
    "a triangle on the right": lambda: (
        Net(lambda s, x: torch.linalg.solve_triangular(s.w.triu() + 9 * torch.eye(8), s.a(x), upper=True, left=False),
            w=weights(8, 8)), (torch.randn(5, 5),)),
    "statistics of features": lambda: (
        Net(lambda s, x: s.b(s.n(s.a(x))), n=nn.InstanceNorm1d(4)), (torch.randn(2, 4, 5),)),
    "statistics of a batch of features": lambda: (
        Net(lambda s, x: s.b(s.n(s.a(x).mT).mT), n=nn.BatchNorm1d(5, track_running_stats=False)), (torch.randn(5, 5),)),
    "sorted rows": lambda: (Net(lambda s, x: s.b(s.a(x).mT.msort().mT)), (torch.randn(3, 5),)),
    "all dimensions reversed": lambda: (Net(lambda s, x: s.b(s.a(x).permute(2, 1, 0).permute(2, 1, 0))), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS.keys())
def test_what_is_called_free_is_free(trap: Callable[[], tuple[nn.Module, tuple]]) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model, inputs = trap()
        inputs = tuple(x.double() if x.is_floating_point() else x for x in inputs)
        model = model.double().eval()
        plan = surgery.inspect(model, inputs)
        for group in plan.groups.values():
            order_is_free(model, dataclasses.replace(plan, groups={group.name: group}), inputs, torch.Generator())
        if plan.groups:
            shrunk_is_wrapped(surgery.wrap(model, inputs), smallest(plan), inputs)


class Noisy(Given):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.b(self.function(self, h) if self.training else h)


@pytest.mark.parametrize("noise", [
    lambda h: h + torch.randn_like(h), lambda h: h * torch.empty_like(h).bernoulli_(0.5),
    lambda h: h + torch.rand(h.shape, dtype=h.dtype), lambda h: h * torch.bernoulli(torch.full_like(h, 0.5)),
])  # fmt: skip
def test_noise_in_training_leaves_features_free(noise: Callable[[Tensor], Tensor]) -> None:
    model = Noisy(lambda s, x: noise(x), inputs=5)
    assert list(surgery.inspect(model, X).groups) == ["a.o"]
    wrapped = surgery.wrap(model, X)
    wrapped.train()(X).sum().backward()
    assert not surgery.inspect(Net(lambda s, x: s.b(noise(s.a(x)))), X).groups


def test_a_parameter_without_elements_is_no_group() -> None:
    """As register tokens of which there are none."""

    def forward(s: nn.Module, x: Tensor) -> Tensor:
        return s.b(torch.cat([s.w.expand(x.shape[0], -1, -1), s.a(x)], 1))

    model = Net(forward, w=weights(1, 0, 8))
    assert [group.size for group in surgery.inspect(model, X).groups.values()] == [8]
    assert surgery.shrink(model, 0.5, X).w.shape == (1, 0, 4)


def test_windows_leave_features_free() -> None:
    model = Net(overlapping)
    plan = surgery.inspect(model, torch.randn(2, 6, 5))
    assert plan.elastic_share > 0.9 and not plan.rewrites


def test_features_beside_complex_pairs_go_in_pairs() -> None:
    model = Net(
        lambda s, x: s.b(s.c(x)[:, :8]) + torch.view_as_complex(s.c(x)[:, 8:].unflatten(-1, (-1, 2))).abs().sum(),
        c=nn.Linear(5, 14),
    )
    plan = surgery.inspect(model, torch.randn(2, 5))
    sizes = sorted(group.size for group in plan.groups.values())
    assert sizes == [3, 4]  # three pairs, and eight features in twos
    surgery.shrink(model, {"*": 1}, torch.randn(2, 5))


def test_features_whose_spread_is_taken_go_in_twos() -> None:
    """Weights that are standardised over their inputs, as in NFNets: the spread of one value is an error."""
    standardised = Net(
        lambda s, x: s.b(F.linear(s.a(x), F.batch_norm(s.w[None], None, None, training=True)[0])), w=weights(8, 8)
    )
    plan = surgery.inspect(standardised, X)
    assert {name: group.granularity for name, group in plan.groups.items()} == {"w.0": 1, "w.1": 2}
    assert surgery.shrink(standardised, 0.1, X).a.out_features == 2


def test_results_in_objects_are_compared_and_pinned() -> None:
    def make(factor: float) -> nn.Module:
        torch.manual_seed(0)
        return Net(lambda s, x: types.SimpleNamespace(y=s.b(s.a(x)) * factor))

    with torch.random.fork_rng(devices=[]):
        assert list(surgery.inspect(make(1), X).groups) == ["a.o"]
        with pytest.raises(surgery.ProofError, match="differs"):
            surgery.verify(make(1), make(9), X)


def test_tables_that_renormalise_their_rows_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Embedding(10, 6, max_norm=0.5), nn.Linear(6, 2))
    before = model[0].weight.detach().clone()
    surgery.shrink(model, 0.5, IDS)
    assert torch.equal(model[0].weight, before)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm])
def test_weights_computed_by_hooks(norm: Callable[[nn.Module], nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(5, 8), norm(nn.Linear(8, 6)), nn.Linear(6, 2)).double().eval()
    x = torch.randn(3, 5, dtype=torch.float64)
    order_is_free(model, surgery.inspect(model, x), (x,), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "trap, groups", [("written by out=", []), ("an empty tensor to write into", ["a.o"]), ("the same tensor", ["a.o"])]
)
def test_what_is_written_is_linked(trap: str, groups: list[str]) -> None:
    """A flip of the second half pins what the first half was made from; nothing else does."""
    assert list(surgery.inspect(*TRAPS[trap]()).groups) == groups


def test_a_mask_that_is_alike_for_all_features_leaves_them_free() -> None:
    def fill(s: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
        h = s.a(x)
        return s.b(h.masked_scatter(mask.unsqueeze(-1).expand_as(h), s.w))

    mask = torch.tensor([[True, False, True, False]] * 2)
    model = Net(fill, w=weights(4, 8))
    plan = surgery.inspect(model, (X, mask))
    assert [group.size for group in plan.groups.values()] == [8]
    order_is_free(model.double(), plan, (X.double(), mask), torch.Generator().manual_seed(0))


class Normal(nn.Module):
    """Noise whose mean and deviation are whole numbers, as its sizes are."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.training:
            h = h + torch.normal(0, 1, (h.shape[0], h.shape[1]))
        return self.b(h)


def test_the_mean_of_noise_is_no_size() -> None:
    plan = surgery.inspect(Normal(), torch.randn(4, 6))
    assert not plan.groups and not plan.rewrites
