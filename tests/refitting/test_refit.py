"""Least-squares refits: exact where nothing is lost, never worse than the slice, the same as a solution by hand."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.modules.inputs import Inputs
from surgery.refitting.lockstep import Pause, together
from surgery.refitting.refit import RIDGES, Member, refit
from surgery.refitting.sites import Listener, Site, Visit
from surgery.refitting.statistics import whole
from tests.models import BY_NAME, REPRESENTATIVE
from tests.small_models import mlp

X = torch.randn(512, 6, generator=torch.Generator().manual_seed(0)).double()
BATCHES = list(X.split(128))


def redundant(hidden: int = 16) -> nn.Sequential:
    """Every feature is there twice, so that a half of them says all."""
    model, half = mlp(6, hidden, 3).double(), hidden // 2
    with torch.no_grad():
        model[0].weight[half:] = model[0].weight[:half]
        model[0].bias[half:] = model[0].bias[:half]
    return model


CALLS: dict[str, tuple[Callable[..., Tensor], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "linear": (F.linear, (4, 5, 6), (7, 6), {}),
    "conv1d": (F.conv1d, (2, 3, 9), (4, 3, 3), {"stride": 2, "padding": 1}),
    "conv2d": (F.conv2d, (2, 3, 9, 8), (4, 3, 3, 2), {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2)}),
    "conv2d, one image": (F.conv2d, (3, 9, 8), (4, 3, 3, 3), {"padding": 1}),
    "conv2d same": (F.conv2d, (2, 3, 6, 7), (4, 3, 3, 4), {"padding": "same"}),
    "conv3d": (F.conv3d, (2, 3, 4, 5, 6), (4, 3, 2, 3, 1), {"padding": (0, 1, 0), "stride": (1, 2, 3)}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("name", CALLS)
def test_rows_times_the_weight_are_the_outputs(name: str) -> None:
    call, size, shape, options = CALLS[name]
    x, weight, bias = torch.randn(size), nn.Parameter(torch.randn(shape)), nn.Parameter(torch.randn(shape[0]))
    seen: list[Visit] = []
    with Listener({id(weight): "w", id(bias): "b"}, seen.append), torch.no_grad():
        made = call(x, weight, bias, **options)
    (visit,) = seen
    assert visit.site.group == 0 and weight[visit.outputs].shape == weight.shape
    outputs = made.movedim(-1 if name == "linear" else made.dim() - weight.dim() + 1, -1)
    rows = visit.rows(torch.arange(visit.count)) @ visit.site.matrix(weight.detach()).T + bias.detach()
    assert torch.allclose(rows, outputs.reshape(-1, shape[0]), atol=1e-5)
    assert torch.equal(visit.site.weight_of(visit.site.matrix(weight.detach()), weight), weight)


def test_each_group_of_a_convolution_is_a_site() -> None:
    x, weight, bias = torch.randn(2, 6, 9, 8), nn.Parameter(torch.randn(12, 2, 3, 3)), nn.Parameter(torch.randn(12))
    seen: list[Visit] = []
    with Listener({id(weight): "w", id(bias): "b"}, seen.append), torch.no_grad():
        made = F.conv2d(x, weight, bias, padding=1, groups=3).movedim(1, -1).reshape(-1, 12)
        F.conv2d(x, torch.randn(6, 1, 3, 3), groups=6)
        F.conv2d(x, nn.Parameter(torch.randn(6, 1, 3, 3)), groups=6)
    assert [visit.site.group for visit in seen] == [0, 1, 2]
    for visit in seen:
        rows = visit.rows(torch.arange(visit.count)) @ visit.site.matrix(weight.detach()[visit.outputs]).T
        assert torch.allclose(rows + bias.detach()[visit.outputs], made[:, visit.outputs], atol=1e-5)


RECURRENCES: dict[str, Callable[[], nn.Module]] = {
    "lstm": lambda: nn.LSTM(6, 8, batch_first=True),
    "two layers, both ways": lambda: nn.LSTM(6, 8, 2, bidirectional=True, batch_first=True),
    "with projections": lambda: nn.LSTM(6, 8, proj_size=3, batch_first=True),
    "gru without biases": lambda: nn.GRU(6, 8, bias=False, batch_first=True),
    "rnn": lambda: nn.RNN(6, 8, batch_first=True),
}


@pytest.mark.filterwarnings("ignore:LSTM with projections")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", RECURRENCES)
def test_the_first_layer_of_a_recurrence_is_a_site(name: str, packed: bool) -> None:
    layer, x = RECURRENCES[name](), torch.randn(3, 5, 6)
    names = {id(parameter): name for name, parameter in layer.named_parameters()}
    seen: list[Visit] = []
    given = nn.utils.rnn.pack_padded_sequence(x, torch.tensor([5, 4, 2]), batch_first=True) if packed else x
    with Listener(names, seen.append) as listener, torch.no_grad():
        layer(given)
    found = {visit.site.weight: visit.site.bias for visit in seen}
    biases = {n: n.replace("weight", "bias") if layer.bias else None for n in names.values() if "weight_ih_l0" in n}
    assert found == biases and not listener.others & {*found, *found.values()}
    assert all(torch.equal(visit.input.reshape(-1, 6), given.data.reshape(-1, 6)) for visit in seen)


class Grouped(nn.Module):
    """Groups whose channels are there twice, each followed by the same."""

    def __init__(self, groups: int = 2) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 8 * groups, 1), nn.Conv1d(8 * groups, 4 * groups, 3, padding=1, groups=groups)
        self.c = nn.Conv1d(4 * groups, 3, 1)
        with torch.no_grad():
            for part in self.a.weight, self.a.bias:
                channels = part.view(groups, 2, 4, -1)
                channels[:, 1] = channels[:, 0]

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(self.a(x).relu()).relu())


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_groups_of_a_convolution_absorb_what_is_said_twice(groups: int) -> None:
    torch.manual_seed(0)
    model, x = Grouped(groups).double(), torch.randn(40, 4, 9).double()
    (name,) = [n for n, group in surgery.inspect(model, x).groups.items() if group.size == 8]
    batches = list(x.split(8))
    raw, fitted = (surgery.shrink(model, {name: 4}, x, refit=b) for b in (None, batches))
    scale = model(x).abs().max()
    assert (raw(x) - model(x)).abs().max() > 0.1 * scale
    assert (fitted(x) - model(x)).abs().max() < 2e-2 * scale  # the ridge keeps it from 0
    nested = surgery.nest(model, batches, x, widths=[1.0, {name: 4}])
    errors = [(surgery.shrink(one, {name: 4}, x)(x) - model(x)).norm() for one in (nested, model)]
    assert errors[0] < 0.1 * errors[1] and (nested(x) - model(x)).abs().max() < 1e-2 * scale


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = nn.Linear(6, 16), nn.GRU(16, 8, batch_first=True), nn.Linear(8, 3)
        with torch.no_grad():
            self.embed.weight[8:], self.embed.bias[8:] = self.embed.weight[:8], self.embed.bias[:8]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(self.embed(x).relu())[0])


def test_recurrences_absorb_what_is_said_twice() -> None:
    torch.manual_seed(0)
    model, x = Tagger().double(), torch.randn(40, 5, 6).double()
    raw, fitted = (surgery.shrink(model, {"embed.o": 8}, x, refit=b) for b in (None, list(x.split(8))))
    scale = model(x).abs().max()
    assert (raw(x) - model(x)).abs().max() > 0.1 * scale
    assert (fitted(x) - model(x)).abs().max() < 1e-2 * scale
    order = surgery.order(model, x, by=surgery.absorbed(list(x.split(8))))["embed.o"]
    assert {i % 8 for i in order[:8].tolist()} == set(range(8)), "one of each pair"


def test_a_site_that_is_too_wide_stays_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = redundant()
    monkeypatch.setattr("surgery.refitting.refit.WIDEST", 16)  # 16 features and a one
    plain, fitted = (surgery.shrink(model, 0.5, X, refit=b) for b in (None, BATCHES))
    assert torch.equal(plain[2].weight, fitted[2].weight)


@pytest.mark.slow
def test_an_axis_of_4096_is_fitted() -> None:
    model = redundant(4096).float()
    batches = [x.float() for x in torch.randn(8192, 6).split(1024)]
    raw, fitted = (surgery.shrink(model, 0.5, batches[0], refit=b) for b in (None, batches))
    error = [F.mse_loss(one(batches[0]), model(batches[0])) for one in (raw, fitted)]
    assert error[1] < 0.01 * error[0]


def test_a_layer_that_holds_its_weight_the_other_way_round_is_a_site() -> None:
    x, weight, bias = torch.randn(4, 6), nn.Parameter(torch.randn(6, 7)), nn.Parameter(torch.randn(7))
    seen: list[Visit] = []
    with Listener({id(weight): "w", id(bias): "b"}, seen.append), torch.no_grad():
        made = torch.addmm(bias, x, weight)
    assert seen[0].site == Site("w", "b", 1, 0)
    assert torch.allclose(seen[0].rows(torch.arange(4)) @ seen[0].site.matrix(weight).T + bias, made, atol=1e-5)
    assert torch.equal(seen[0].site.weight_of(seen[0].site.matrix(weight), weight), weight)


def test_nothing_changes_where_nothing_is_cut() -> None:
    model = mlp(6, 16, 8, 3).double()
    plan = surgery.inspect(model, X)
    small = copy.deepcopy(model)
    refit(copy.deepcopy(model), [Member(small, plan.full())], plan, [Inputs((x,)) for x in BATCHES])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), small.parameters(), strict=True))


def test_what_is_said_twice_is_absorbed() -> None:
    model = redundant()
    sorted_ = surgery.sort(model, X, by=surgery.absorbed(BATCHES))
    raw, fitted = (surgery.shrink(sorted_, 0.5, X, refit=batches) for batches in (None, BATCHES))
    scale = model(X).abs().max()
    assert (raw(X) - model(X)).abs().max() > 0.1 * scale
    assert (fitted(X) - model(X)).abs().max() < 1e-2 * scale  # the ridge keeps it from 0


def test_one_site_by_hand() -> None:
    model = mlp(6, 16, 3).double()
    small = surgery.shrink(model, 0.25, X, refit=BATCHES)
    inputs = torch.cat([F.relu(small[0](X)), torch.ones(len(X), 1)], 1)
    cut = torch.cat([model[2].weight[:, :4], model[2].bias[:, None]], 1)
    ridge = inputs.square().sum(0).mean() * torch.eye(5)
    lacks, gram = (model(X) - inputs @ cut.T).T @ inputs, inputs.T @ inputs
    by_hand = [cut + lacks @ torch.linalg.inv(gram + share * ridge) for share in RIDGES]
    parameters = {"2.weight": small[2].weight, "2.bias": small[2].bias}
    found = whole(Visit(Site("2.weight", "2.bias", 0, 1), X), parameters)
    assert any(torch.allclose(found, one, atol=1e-5) for one in by_hand)  # sums are float32
    assert torch.equal(small[0].weight, model[0].weight[:4])


def test_rows_that_say_nothing_of_others_change_little() -> None:
    """Eight rows cannot tell sixteen weights: what is fitted on them must not be worse on other rows than the slice."""
    model = mlp(6, 32, 3).double()
    small = surgery.shrink(model, 0.5, X, refit=list(X[:10].split(1)))
    plain = surgery.shrink(model, 0.5, X)
    errors = [F.mse_loss(one(X[10:]), model(X[10:])).item() for one in (small, plain)]
    assert errors[0] < 1.1 * errors[1]


@pytest.mark.parametrize("name", REPRESENTATIVE)
def test_fitted_models_run_and_their_model_stays(name: str) -> None:
    case = BY_NAME[name]
    torch.manual_seed(0)
    model, x = case.build(), case.inputs(0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fitted = surgery.shrink(model, 0.5, surgery.inputs(*x), refit=[x, case.inputs(1)])
    plain = surgery.shrink(model, 0.5, surgery.inputs(*x))
    assert fitted.state_dict().keys() == plain.state_dict().keys()
    assert all(v.isfinite().all() for v in fitted.state_dict().values() if v.is_floating_point())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert type(fitted) is type(plain) and threading.active_count() < 8


def test_tied_weights_stay_tied_and_as_they_were() -> None:
    case = BY_NAME["tied_embeddings"]
    model, x = case.build(), case.inputs(0)
    fitted, plain = (surgery.shrink(model, 0.5, surgery.inputs(*x), refit=b) for b in ([x], None))
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    (tied,) = [found for found in names.values() if len(found) > 1]
    assert all(torch.equal(fitted.state_dict()[name], plain.state_dict()[name]) for name in tied)
    assert fitted.get_parameter(tied[0]) is fitted.get_parameter(tied[1])


def test_runs_go_on_together_and_errors_end_them_all() -> None:
    site = Site("w", None, 0, 1)

    def goes(pause: Pause) -> None:
        for name in ("a", "b", "a"):
            pause(Visit(Site(name, None, 0, 1), torch.zeros(1, 1)))

    def skips(pause: Pause) -> None:
        pause(Visit(Site("b", None, 0, 1), torch.zeros(1, 1)))

    met = [
        (next(visit for visit in visits if visit).site.weight, [visit is not None for visit in visits])
        for visits in together([goes, skips])
    ]
    assert met == [("a", [True, False]), ("b", [True, True])]

    def fails(pause: Pause) -> None:
        pause(Visit(site, torch.zeros(1, 1)))
        raise ZeroDivisionError

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(together([goes, fails]))
    assert threading.active_count() == before


def test_no_batches_is_an_error_that_says_so() -> None:
    model = mlp(6, 16, 3).double()
    for given in ([], X):
        with pytest.raises(surgery.InputError, match="batches"):
            surgery.shrink(model, 0.5, X, refit=given)
        with pytest.raises(surgery.InputError, match="batches"):
            surgery.nest(model, given, X)


def test_norms_are_those_of_the_full_model_while_what_is_before_them_is_fitted() -> None:
    """Statistics of the slice would hand on other inputs than those that the fitted layers give."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in ((6, 32), (32, 32), (32, 32), (32, 32)):
        layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(32, 3)).double()
    surgery.recalibrate(model, BATCHES)
    model = surgery.sort(model.eval(), X, by=surgery.absorbed(BATCHES))
    errors = [
        F.mse_loss(surgery.shrink(model, 0.5, X, recalibrate=BATCHES, refit=refit)(X), model(X)).item()
        for refit in (None, BATCHES)
    ]
    assert errors[1] < 0.3 * errors[0]
