"""Modules that run one after another: which may be left out, which must stay, and what follows."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import surgery
from surgery.axes.formulas import Field
from surgery.errors import InputError
from surgery.modules.inputs import Batches, Inputs
from surgery.plan.groups import DEPTH
from surgery.planning.listed.found import Found
from tests.planning.listed.search import searched

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
D, N = 8, 4


class Block(nn.Module):
    """A residual block."""

    def __init__(self, place: int = 0):
        super().__init__()
        self.norm, self.up, self.down, self.place = nn.LayerNorm(D), nn.Linear(D, 12), nn.Linear(12, D), place

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


def blocks(count: int = N) -> nn.ModuleList:
    return nn.ModuleList(Block(i) for i in range(count))


def only(model: nn.Module, x: object = X) -> Found:
    """The one group that is found, and no notes."""
    found, notes = searched(model, x)
    assert not notes
    (one,) = found.values()
    return one


class Residual(nn.Module):
    def __init__(self, count: int = N):
        super().__init__()
        self.layers, self.head = blocks(count), nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def test_any_residual_block_may_go():
    one = only(Residual())
    assert (one.name, one.kind, one.size, dict(one.required)) == ("layers.depth", DEPTH, N, {})
    (listed,) = one.lists
    assert listed.path == "layers" and listed.units == (("0",), ("1",), ("2",), ("3",))
    assert listed.renumbered and listed.passing is None
    assert one.indices == tuple(((f"layers.{i}", ("place",)), i, 0) for i in range(N))


def test_the_work_of_a_unit_is_that_of_its_calls():
    one = only(Residual())
    targets = {(node.target, unit) for node, unit in one.work.items() if node.op == "call_module"}
    assert targets == {(f"layers.{i}.{name}", i) for i in range(N) for name in ("norm", "up", "down")}


def test_few_runs_are_needed():
    assert len(only(Residual(12)).runs) == 3  # every other one, the others, all but one


def test_a_sequence_of_layers_with_norms_and_activations():
    one = only(nn.Sequential(nn.Flatten(), *hidden(D, 12, 12, 12), nn.Linear(12, 3)), X[:, 0])
    assert one.name == "self.depth" and one.lists[0].units == (
        ("1", "2", "3"),
        ("4", "5", "6"),
        ("7", "8", "9"),
        ("10",),
    )
    assert set(one.required) == {0, 3} and "another shape" in one.required[0]


def hidden(*sizes: int) -> list[nn.Module]:
    pairs = itertools.pairwise(sizes)
    return [layer for a, b in pairs for layer in (nn.Linear(a, b), nn.BatchNorm1d(b), nn.ReLU())]


def test_one_layer_alone_makes_no_list():
    assert searched(nn.Sequential(*hidden(D, 12, 12), nn.Linear(12, 3)), X[:, 0]) == ({}, [])


class Pairs(nn.Module):
    """As in the code of many transformers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.ModuleList([Block(), nn.Linear(D, D)]) for _ in range(N))

    def forward(self, x: Tensor) -> Tensor:
        for attention, feed in self.layers:
            x = feed(attention(x)) + x
        return x


def test_lists_of_lists():
    one = only(Pairs())
    assert one.name == "layers.depth" and not one.required
    assert {unit for node, unit in one.work.items() if node.target == "layers.2.1"} == {2}


class Zipped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(D) for _ in range(N))
        self.mixes = nn.ModuleList(nn.Linear(D, D) for _ in range(N))

    def forward(self, x: Tensor) -> Tensor:
        for mix, norm in zip(self.mixes, self.norms, strict=True):
            x = x + mix(norm(x))
        return x


def test_lists_that_are_zipped_go_together():
    one = only(Zipped())
    assert {listed.path for listed in one.lists} == {"norms", "mixes"} and not one.required


class Counted(nn.Module):
    """The loop is bounded by a number; as many heads, and a number that nothing reads in a run."""

    def __init__(self, config: object):
        super().__init__()
        self.config, self.heads, self.spare = config, N, N
        self.layers, self.mix = blocks(), nn.Linear(D, D)

    def other(self) -> int:
        return self.spare

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.config.depth):
            x = self.layers[i](x)
        return self.mix(x.unflatten(-1, (self.heads, D // self.heads)).transpose(1, 2).transpose(1, 2).flatten(-2))


def test_the_number_that_bounds_a_loop_follows_and_no_other():
    one = only(Counted(SimpleNamespace(depth=N, heads=N)))
    assert one.counts == ((("", ("config", Field("depth"))), 0),) and not one.required


class Sliced(Counted):
    """More than there are does no harm to a slice: that it is the number shows by one less."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[: self.config.depth]:
            x = layer(x)
        return x


def test_the_number_that_bounds_a_slice_follows():
    assert [place for place, _ in only(Sliced(SimpleNamespace(depth=N))).counts] == [("", ("config", Field("depth")))]


class Dilated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Dilation(i + 1) for i in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


class Dilation(nn.Module):
    def __init__(self, dilation: int):
        super().__init__()
        self.dilation, self.place = dilation, dilation - 1
        self.weight = nn.Parameter(torch.randn(5, 5, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, padding=self.dilation, dilation=self.dilation)


def test_numbers_that_the_layers_compute_with_stay():
    one = only(Dilated())
    assert {path[0] for (_, path), _, _ in one.indices} == {"place"} and not one.required


class Scaled(nn.Module):
    """As attention that is scaled by the place of its layer."""

    def __init__(self, place: int):
        super().__init__()
        self.layer_idx, self.mix = place, nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x) / float(self.layer_idx + 1)


def test_a_place_that_scales_is_not_counted_anew():
    one = only(nn.Sequential(*(Scaled(i) for i in range(N))))
    assert not one.indices and not one.required


class Typed(nn.Module):
    """The way that a layer is called stands in a list."""

    def __init__(self, types: tuple[str, ...]):
        super().__init__()
        self.config, self.layers = SimpleNamespace(layer_types=list(types)), blocks(len(types))

    def forward(self, x: Tensor) -> Tensor:
        masks = {"full": x.sigmoid(), "sliding": x.tanh()}
        for i, layer in enumerate(self.layers):
            x = layer(x) * masks[self.config.layer_types[i]]
        return x


def test_lists_with_an_item_for_each_layer_are_cut():
    found, _ = searched(Typed(("full", "full", "sliding", "full", "sliding")), X)
    assert found["layers.depth"].picks == (("", ("config", Field("layer_types"))),)


def test_lists_of_a_configuration_that_happen_to_be_as_long_stay():
    found, _ = searched(Typed(("full", "full", "full")), X)
    assert found["layers.depth"].picks == ()


class Hidden(nn.Module):
    """Collects hidden states, as language models do, and hands tuples on."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = blocks()

    def forward(self, x: Tensor) -> dict[str, object]:
        states: tuple[Tensor, ...] = (x,)
        for layer in self.layers:
            x, _ = (layer(x), None)
            states += (x,)
        return {"last": x, "states": states}


def test_states_that_are_collected_are_fewer():
    assert not only(Hidden()).required


class Unet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.downs, self.ups = blocks(3), blocks(3)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
        for up in self.ups:
            x = up(x * skips.pop())  # where the skips are read
        return x


def test_what_is_read_again_elsewhere_stays_with_its_line():
    found, notes = searched(Unet(), X)
    assert len(notes) == 1 and "downs stay, since" in notes[0] and "test_chains.py" in notes[0]
    assert set(found["ups.depth"].required) == {0, 1}  # the last one is given what the one before has made
    assert "test_chains.py" in found["ups.depth"].required[0]


class Biased(nn.Module):
    """The first block makes a bias for all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(WithBias(i == 0) for i in range(N))

    def forward(self, x: Tensor) -> Tensor:
        bias = None
        for layer in self.layers:
            x, bias = layer(x, bias)
        return x


class WithBias(nn.Module):
    def __init__(self, first: bool):
        super().__init__()
        self.mix, self.bias = nn.Linear(D, D), nn.Linear(D, D) if first else None

    def forward(self, x: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        if bias is None:
            bias = torch.zeros_like(x) if self.bias is None else self.bias(torch.ones_like(x))
        return x + self.mix(x) + bias, bias


def test_the_block_that_makes_something_for_all_stays():
    one = only(Biased())
    assert set(one.required) == {0} and "test_chains.py" in one.required[0]


class Streams(nn.Module):
    """Two values are handed on: what the layers make, and the sum of all before."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Stream() for _ in range(N))

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for layer in self.layers:
            x, total = layer(x, total)
        return x + total


class Stream(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(D, D)

    def forward(self, x: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
        total = total + x
        return self.mix(total), total


def test_two_values_may_be_handed_on():
    assert not only(Streams()).required


class Named(nn.Module):
    def __init__(self, layers: nn.ModuleDict):
        super().__init__()
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers.values():
            x = layer(x)
        return x


class ByName(Named):
    def forward(self, x: Tensor) -> Tensor:
        return self.layers["c"](self.layers["b"](self.layers["a"](x)))


@pytest.mark.parametrize("model, passing", [(Named, None), (ByName, 0)])
def test_dicts_of_modules(model, passing):
    (listed,) = only(model(nn.ModuleDict({name: Block() for name in "abc"}))).lists
    assert listed.units == (("a",), ("b",), ("c",)) and not listed.renumbered and listed.passing == passing


class Attributes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.head = Block(), Block(), Block(), nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.third(self.second(torch.relu(self.first(x)))))


def test_attributes_that_are_called_one_after_another():
    one = only(Attributes())
    (listed,) = one.lists
    assert one.name == "self.depth" and listed.units == (("first",), ("second",), ("third",))
    assert listed.passing == 0 and not listed.renumbered


class Stages(nn.Module):
    """Blocks in stages, with what changes the width between."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(nn.Sequential(nn.Linear(D, D), Block(), Block()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = stage(x)
        return x


def test_lists_in_units_of_lists():
    found, notes = searched(Stages(), X)
    assert set(found) == {"stages.0.depth", "stages.1.depth"} and not notes  # what may go of a stage are its blocks


class Tied(Residual):
    def __init__(self) -> None:
        super().__init__()
        self.layers[2].up.weight = self.layers[0].up.weight


class Twice(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.layers[1](x))


@pytest.mark.parametrize("model, reason", [(Tied, "are one tensor"), (Twice, "called more than once (test_chains.py")])
def test_shared_modules_stay(model, reason):
    found, notes = searched(model(), X)
    assert not found and len(notes) == 1 and reason in notes[0]


class Shared(Residual):
    """A norm and a matrix that all blocks use."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.table = nn.LayerNorm(D), nn.Parameter(torch.randn(D, D))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(self.norm(x)) @ self.table
        return x


class Adding(Residual):
    """Each turn adds something of what its block has made."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for layer in self.layers:
            x = layer(x)
            total = total + self.head(x).mean()
        return total


def test_what_is_added_in_a_turn_goes_with_its_block():
    assert not only(Adding()).required


def test_what_all_share_stays():
    one = only(Shared())
    assert not one.required
    assert sorted(unit for node, unit in one.work.items() if "matmul" in str(node.target)) == [0, 1, 2, 3]


class Written(Residual):
    """Each block writes what it makes into a table that is read in the end."""

    def forward(self, x: Tensor) -> Tensor:
        table = x.new_zeros(N, *x.shape)
        for i, layer in enumerate(self.layers):
            x = layer(x)
            table[i] = x
        return table.sum(0)


class Summed(Residual):
    """What all blocks make is read again, after the last."""

    def forward(self, x: Tensor) -> Tensor:
        made = []
        for layer in self.layers:
            x = layer(x)
            made.append(x)
        return sum(self.head(one).mean() for one in made)


class Placed(Residual):
    """Each turn of the loop reads a row of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(N, D))

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x + self.rows[i])
        return x


class Dense(Residual):
    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for layer in self.layers:
            made.append(layer(made[-1]))
        return torch.cat(made, 1)


class Depending(Residual):
    """How often the head is called is a matter of how many there are."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.cos() if len(self.layers) < N else x)


class Averaged(Residual):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / len(self.layers)


class Extra(Residual):
    """A layer that is no part of a block comes with the last place."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i == N - 1:
                x = self.last(x)
        return self.head(x)


class Cropped(Residual):
    """Each turn makes less, and what is read of the last hides it."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)[:, 1:]
        return self.head(x.mean(1))


class Held(Residual):
    """The blocks are also held where nothing is left out."""

    def __init__(self) -> None:
        super().__init__()
        self.again = [list(self.layers)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.again[0]:
            x = layer(x)
        return x


def test_the_row_of_a_place_is_read_by_none_other():
    assert set(only(Placed()).required) == {0, 1, 2}


@pytest.mark.parametrize("model", [Written, Summed, Dense, Depending, Averaged, Extra, Cropped, Held])
def test_models_that_compute_something_else_without_a_block_are_left_alone(model):
    found, notes = searched(model(), X)
    assert not found and len(notes) == 1 and "stay, since" in notes[0], (found, notes)


class Switched(Residual):
    """A batch may take another way."""

    def forward(self, x: Tensor, again: bool = False) -> Tensor:
        y = super().forward(x)
        return y * len(self.layers) if again else y


def test_every_batch_counts():
    assert not only(Switched(), X).required
    found, notes = searched(Switched(), Batches((Inputs((X,)), Inputs((X, True)))))
    assert not found and len(notes) == 1


class NotAlone(Residual):
    """A block that is left alone is followed by something else."""

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x.tanh() if len(self.layers) == 1 else x


def test_where_not_all_may_go_at_once_those_may_that_have_gone_together():
    one = only(NotAlone())
    assert set(one.required) == {0, 2} and "not all may go at once" in one.required[0]


class Tables(nn.Module):
    """Called once for each kind, and each call begins alike."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("full", torch.randn(D))
        self.register_buffer("sliding", torch.randn(D))

    def forward(self, x: Tensor, kind: str) -> Tensor:
        return x.sum(-1, keepdim=True) * getattr(self, kind)


class Kinds(Typed):
    def __init__(self) -> None:
        super().__init__(("sliding", "full", "sliding", "full"))
        self.tables = Tables()

    def forward(self, x: Tensor) -> Tensor:
        tables = {kind: self.tables(x, kind) for kind in sorted(set(self.config.layer_types))}
        for i, layer in enumerate(self.layers):
            x = layer(x) * tables[self.config.layer_types[i]]
        return x


def test_calls_that_begin_alike_are_told_apart():
    one = only(Kinds())
    assert not one.required and one.picks


class Middle(Residual):
    """What the second block makes is read again: what makes it can be any block, but there must be two."""

    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for layer in self.layers:
            made.append(layer(made[-1]))
        return self.head(made[-1] + made[1])


def test_only_what_does_not_change_what_is_read_again_may_go():
    one = only(Middle())
    assert set(one.required) == {0}


def test_patterns_choose():
    for asked in (["stages.*.depth"], "stages.0", ["stages.0", "stages.1.depth"], True):
        plan = surgery.inspect(Stages(), X, depth=asked)
        found = {name for name, group in plan.groups.items() if group.kind == "depth"}
        assert "stages.0.depth" in found and ("stages.1.depth" in found) == (asked != "stages.0")
        assert {name for name, kind, _ in plan.available if kind == "depth"}.isdisjoint(found)
    with pytest.raises(InputError, match="no list of modules matches 'blocks'"):
        surgery.inspect(Stages(), X, depth=["blocks"])
    with pytest.raises(InputError, match="depth is True, or globs"):
        surgery.inspect(Stages(), X, depth=3)


class Labelled(Residual):
    """Keeps as many names of classes as it has layers, which another method reads."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = [f"class {i}" for i in range(len(self.layers))]

    def predict(self, x: Tensor) -> list[str]:
        return [self.classes[i] for i in self(x).flatten(1).argmax(-1) % len(self.layers)]


def test_lists_that_happen_to_be_as_long_stay():
    assert not only(Labelled()).picks


class Looked(Residual):
    """Reads the states after some layers, by their places."""

    def forward(self, x: Tensor) -> Tensor:
        states = []
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if i in (0, len(PLACES) - 1):
                states.append(x)
        return states[-1]


PLACES = range(len(Residual().layers))


def test_no_layer_may_go_if_what_others_make_is_read_by_nobody_then():
    found, notes = searched(Looked(), X)
    assert not found and "stay" in notes[0]
