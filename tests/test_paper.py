"""The paper's experiments: the data that is made for them, what is counted, and a whole one in small."""

import importlib.util
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import surgery
from tests.benchmarks.cells import Cells
from tests.benchmarks.paper import compared, furniture, liif, photographs, pointnet
from tests.benchmarks.paper.cells import climbed, trained
from tests.benchmarks.paper.experiment import Experiment, Mode, Task
from tests.benchmarks.run import Run


def test_points_are_on_the_faces_of_boxes_by_their_area():
    points = furniture.surface([(1.0, 2.0, 3.0, 2.0, 1.0, 1.0)], 20_000, torch.Generator().manual_seed(0))
    inside = (points - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([2.0, 1.0, 1.0])
    assert torch.allclose(inside.abs().amax(1), torch.tensor(0.5), atol=1e-6)
    ends = (inside[:, 0].abs() > 0.5 - 1e-6).float().mean().item()
    assert abs(ends - 2 / 10) < 0.02  # two faces of area 1, of 10 in all; 0.02 is seven deviations


def test_furniture_turns_about_the_vertical_axis_alone(monkeypatch):
    monkeypatch.setattr(furniture, "NOISE", 0.0)
    monkeypatch.setattr(furniture, "SCALE", (1.0, 1.0))
    clouds = torch.randn(5, 40, 3)
    moved = furniture.moved(clouds, torch.Generator().manual_seed(0))
    assert torch.allclose(moved[..., 1], clouds[..., 1])
    assert torch.allclose(moved.norm(dim=2), clouds.norm(dim=2), atol=1e-5)
    assert torch.allclose(moved @ moved.transpose(1, 2), clouds @ clouds.transpose(1, 2), atol=1e-4)
    assert not torch.allclose(moved, clouds, atol=0.1)


def test_every_kind_of_furniture_is_made_anew_within_the_unit_ball():
    generator = torch.Generator().manual_seed(0)
    for kind in range(len(furniture.CLASSES)):
        one, other = (furniture.piece(kind, generator) for _ in range(2))
        assert one.shape == (furniture.POINTS, 3) and not torch.allclose(one, other)
        assert one.norm(dim=1).max() <= 1 + 1e-6


class Known(nn.Module):
    """Says the colours of one image."""

    def __init__(self, image):
        super().__init__()
        self.image = image

    def forward(self, small, where, cell):
        return liif.at(self.image[None], where, "nearest")


@pytest.mark.parametrize("times", liif.TIMES)
def test_colours_are_asked_where_the_pixels_are(times):
    image = torch.rand(3, 48, 36)
    assert torch.equal(liif.enlarged(Known(image), image, times), image)
    small, _, cell = photographs.asked(image[None], times)
    assert small.shape == (1, 3, 48 // times, 36 // times)
    assert torch.allclose(cell[0, 0], torch.tensor([2 / 48, 2 / 36]))


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed")
def test_photographs_are_read_and_cut():
    (small, where, cell), colours = next(photographs.batches(0, 3))
    assert small.shape == (3, 3, photographs.PATCH, photographs.PATCH)
    assert where.shape == cell.shape == (3, photographs.QUERIES, 2) and colours.shape == (3, photographs.QUERIES, 3)
    assert colours.min() >= 0 and colours.max() <= 1
    assert all(image.shape == (3, photographs.SIDE, photographs.SIDE) for image in photographs.photographs("test"))


@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (pointnet.PointNet(), (torch.randn(4, 3, 20),)),
        (liif.Liif(), (torch.randn(2, 3, 6, 6), 2 * torch.rand(2, 9, 2) - 1, torch.full((2, 9, 2), 0.1))),
    ],
    ids=["pointnet", "liif"],
)
def test_all_axes_but_those_of_inputs_and_outputs_are_elastic(model, inputs):
    plan = surgery.inspect(model, inputs)
    outputs = {"fc3.bias", "turn.cloud.2.bias", "mlp.colour.bias"}  # three numbers or ten
    assert {fixed.tensor for fixed in plan.fixed} <= outputs
    wrapped = surgery.wrap(model, inputs).eval()
    small = surgery.shrink(wrapped, 0.25, recalibrate=False)
    assert sum(p.numel() for p in small.parameters()) < 0.1 * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("joined", ["apart", "interleaved"])
def test_a_skip_connection_is_cut_to_prefixes_of_both_parts(joined):
    """The paper interleaves features by hand, so that a prefix holds both."""

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(32, 3)

        def forward(self, x):
            first = F.relu(self.first(x))
            parts = F.relu(self.second(first)), first
            return self.third(torch.cat(parts, -1) if joined == "apart" else torch.stack(parts, -1).flatten(-2))

    model, x = Skip(), torch.randn(5, 2)
    small = surgery.shrink(model, {"*": 4}, x)
    columns = torch.tensor([0, 1, 2, 3, 16, 17, 18, 19] if joined == "apart" else range(8))
    assert torch.equal(small.third.weight, model.third.weight[:, columns])
    assert torch.equal(small.second.weight, model.second.weight[:4, :4])


GONE = {
    # validation and test scores by width, those of the plain model, and what can go
    "a half": ([90.0, 89.5, 88.9], [80.0, 79.0, 78.5], (90.5, 79.5), (0.5, -0.5, True)),
    "nothing": ([90.0, 88.5, 88.9], [80.0, 79.0, 78.5], (90.5, 79.5), (0.0, 0.5, True)),
    "not behind a width that fails": ([90.0, 88.5, 89.9], [80.0, 79.0, 78.5], (90.5, 79.5), (0.0, 0.5, True)),
    "not even nothing": ([90.0, 89.5, 88.9], [80.0, 79.0, 78.5], (95.0, 79.5), (0.0, 0.5, False)),
}


@pytest.mark.parametrize("name", GONE)
def test_how_many_features_can_go(name):
    validation, test, plain, expected = GONE[name]
    assert compared.gone(1.0, (1.0, 0.5, 0.25), validation, test, *plain) == expected


def test_rates_climb_while_the_best_is_the_last():
    rates = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0)
    for best in rates:
        assert climbed(rates, rates[2:4], lambda rate, best=best: -abs(rate - best)) == best
    tried = []
    climbed(rates, rates[2:4], lambda rate: tried.append(rate) or -abs(rate - 1e-2))
    assert {1e-4, 1.0, 10.0}.isdisjoint(tried)


def toy(normed=False):
    """An experiment of seconds: the sign of a sum."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 6, generator=generator)
    y = (x.sum(1) > 0).long()

    def build(fraction=1.0):
        width = round(16 * fraction)
        norm = nn.BatchNorm1d(width) if normed else nn.Identity()
        return nn.Sequential(nn.Linear(6, width), norm, nn.ReLU(), nn.Linear(width, 2))

    def batches(seed):
        while True:
            yield x[:80], y[:80]

    def scores(model, part):
        rows = slice(80, 100) if part == "validation" else slice(100, 120)
        return [100 * (model(x[rows]).argmax(1) == y[rows]).float().mean().item()]

    task = Task(
        build, lambda: x[:2], batches, F.cross_entropy, scores, ("accuracy",), "%", 1.0,
        lambda: [x[:40], x[40:80]], normed,
    )  # fmt: skip
    modes = {
        "plain": Mode("plain", "hidden"),
        "paper": Mode("paper", "hidden", 1e-2),
        "default": Mode("default", "hidden"),
    }
    return Experiment(
        task, steps=(30, 12), p=1.0, lower=1, scopes={"hidden": ()}, modes=modes,
        widths=(16, 8, 4, 1), few=(16, 8, 4), alone=build,
    )  # fmt: skip


def test_weights_are_kept_as_the_training_left_them():
    """Scores at a width calibrate BatchNorm; what is told of statistics that are mixed is told of these."""
    experiment = toy(normed=True)
    settings = {"mode": "paper", "rate": 1e-2, "share": 1.0, "seed": 0, "quick": False}
    kept = trained("toy", fraction=1.0, experiment=experiment, **settings)["weights"]
    torch.manual_seed(0)
    model = experiment.task.build()
    experiment.fit(experiment.wrapped(model, experiment.modes["paper"]), experiment.modes["paper"], 1e-2, 1.0, 0, False)
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("normed", [False, True])
def test_a_whole_experiment(tmp_path, normed):
    experiment, file = toy(normed), tmp_path / "toy.json"
    rows = compared.main(Run(False, 2, Cells(file, "toy")), "toy", experiment)
    plain, *others = rows
    assert plain["method"] == "plain training" and plain["accuracy"][0] > 50
    names = [row["method"] for row in others]
    assert {"paper", "default", "each width alone", "trained plainly, cut"} < set(names)
    assert (f"paper, {compared.MIXED}" in names) == normed
    for row in others:
        assert row["widths"][0] == 1 and len(row["accuracy"]) == len(row["widths"]) in (3, 4)
    assert [row["rate, share"] for row in others if row["method"] == "paper"] == [[1e-2, 1.0]]
    again = compared.main(Run(False, 2, Cells(file, "toy")), "toy", replace(experiment, steps=(0, 0)))
    assert again == rows  # nothing is trained again
    compared.plot(rows, tmp_path / "toy.png", experiment, "toy", 20.0)
    assert (tmp_path / "toy.png").stat().st_size > 5_000
