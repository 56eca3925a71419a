"""A small model's configuration tells its sizes, or nothing can be written that would not be read."""

from __future__ import annotations

import copy
import io
import types
from typing import Any

import pytest
import torch
from torch import nn

import surgery


class Block(nn.Module):
    def __init__(self, config, inner):
        super().__init__()
        self.config, self.head = config, config.width // config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width)
        self.out = nn.Linear(config.width, config.width)
        self.up, self.down = nn.Linear(config.width, inner), nn.Linear(inner, config.width)

    def forward(self, x):
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, -1, self.head).permute(2, 0, 3, 1, 4)
        y = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.out(y)
        return x + self.down(torch.relu(self.up(x)))


class Decoder(nn.Module):
    """Built from a configuration: `inner` is a list by layer, one number, or four times the width if it is absent."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        inner = config.inner or 4 * config.width
        inner = inner if isinstance(inner, list) else [inner] * config.layers
        self.embed = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList([Block(config, size) for size in inner])
        self.head = nn.Linear(config.width, config.vocabulary)

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def save_pretrained(self, path):
        torch.save((vars(self.config), self.state_dict()), path)

    @classmethod
    def from_pretrained(cls, path):
        values, state = torch.load(path)
        model = cls(types.SimpleNamespace(**values))
        model.load_state_dict(state)
        return model


def config(**values: Any) -> Any:
    return types.SimpleNamespace(**{"vocabulary": 31, "width": 24, "heads": 4, "layers": 2, "inner": 40, **values})


IDS = torch.randint(31, (2, 7), generator=torch.Generator().manual_seed(0))
EXPRESSED = {
    "inner": (40, {"*.up.o": 0.5}, {"inner": 20}),
    "absent inner": (None, {"*.up.o": 0.5}, {"inner": 48}),
    "inner by layer": ([40, 28], {"blocks.0.up.o": 10, "blocks.1.up.o": 7}, {"inner": [10, 7]}),
    "width and heads": (40, {"embed.d": 12, "*.qkv.o.0": 2}, {"width": 12, "heads": 2}),
    "width and width of heads": (40, {"embed.d": 12, "*.qkv.o.1": 3, "*.up.o": 5}, {"width": 12, "inner": 5}),
}


@pytest.mark.parametrize("name", EXPRESSED)
def test_the_config_tells_the_sizes(name: str, tmp_path: Any) -> None:
    inner, widths, told = EXPRESSED[name]
    model = Decoder(config(inner=inner))
    before = copy.deepcopy(vars(model.config))
    state = torch.random.get_rng_state()
    small = surgery.shrink(model, widths, IDS)
    assert torch.equal(state, torch.random.get_rng_state())
    assert vars(model.config) == before and model.blocks[0].config is model.config
    assert vars(small.config) == {**before, **told}
    assert all(block.config is small.config for block in small.blocks), "one object, as its class makes it"
    assert "config" not in small.surgery_record
    small.save_pretrained(tmp_path / "small")
    surgery.verify(small, Decoder.from_pretrained(tmp_path / "small"), IDS)


REFUSED = {
    "layers disagree": ({"blocks.0.up.o": 10}, r"blocks\.0\.up\.weight \[10, 24\]"),
    "heads times width": ({"*.qkv.o.0": 2}, r"blocks\.0\.qkv\.weight \[36, 24\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_config_tells_is_not_written(name: str, tmp_path: Any) -> None:
    widths, message = REFUSED[name]
    model = Decoder(config())
    wrapped = surgery.wrap(model, IDS)
    small = surgery.shrink(wrapped, widths)
    assert vars(small.config) == vars(model.config) and "no config of Decoder" in small.surgery_record["config"]
    stored = io.BytesIO()
    torch.save(small, stored)
    stored.seek(0)
    surgery.save(small, tmp_path / "small")
    loaded = surgery.load(tmp_path / "small", Decoder(config()), IDS)
    for other in (small, copy.deepcopy(small), torch.load(stored, weights_only=False), loaded):
        with pytest.raises(surgery.InputError, match=message):
            other.save_pretrained(tmp_path / "other")
        surgery.verify(small, other, IDS)
    uniform = surgery.shrink(small, {"blocks.1.up.o": 10} if "layers" in name else {"embed.d": 12}, IDS)
    assert "save_pretrained" not in vars(uniform) and "config" not in uniform.surgery_record
    model.save_pretrained(tmp_path / "full")


class Pooled(Decoder):
    """A part of it is made or not, and another one instead, as arguments beside the configuration say."""

    def __init__(self, config, pooler=True, gated=False):
        super().__init__(config)
        self.pooler = nn.Linear(config.width, config.width) if pooler else None
        self.gate = nn.Parameter(torch.ones(config.width)) if gated else None

    def forward(self, ids):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        x = x if self.pooler is None else self.pooler(x)
        return self.head(x if self.gate is None else x * self.gate)


@pytest.mark.parametrize("switched", [{}, {"pooler": False}, {"gated": True}])
def test_arguments_beside_the_config_may_switch_parts(switched: dict[str, bool]) -> None:
    small = surgery.shrink(Pooled(config(), **switched), {"*.up.o": 10}, IDS)
    assert "config" not in small.surgery_record and small.config.inner == 10


def test_values_that_a_checkpoint_does_not_hold_are_compared() -> None:
    class Positions(Decoder):
        def __init__(self, config):
            super().__init__(config)
            table = torch.linspace(0, 1, config.width)  # cut, it is another table than that of a smaller model
            self.register_buffer("table", table, persistent=False)

        def forward(self, ids):
            x = self.embed(ids) + self.table
            for block in self.blocks:
                x = block(x)
            return self.head(x)

    small = surgery.shrink(Positions(config()), {"embed.d": 12, "*.qkv.o.1": 3}, IDS)
    assert "table, which no checkpoint holds, has other values" in small.surgery_record["config"]


def test_a_model_that_is_not_built_from_its_config_alone_is_not_written() -> None:
    class Model(Decoder):
        def __init__(self, config, name):
            super().__init__(config)

    small = surgery.shrink(Model(config(), "a"), {"*.up.o": 0.5}, IDS)
    with pytest.raises(surgery.InputError, match="not built from a config alone"):
        small.save_pretrained("anywhere")


class Options(nn.Sequential):
    """What it calls its configuration says nothing about its layers."""

    config = None


def test_other_objects_named_config_are_left_alone() -> None:
    model = Options(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    model.config = options = types.SimpleNamespace(epochs=8)
    small = surgery.shrink(model, 0.5, torch.randn(2, 4))
    assert vars(small.config) == vars(options) == {"epochs": 8} and "config" not in small.surgery_record


class Labelled(Decoder):
    """A number beside the configuration, without a default, that the model keeps under its name."""

    def __init__(self, config, labels, scale=1.0):
        super().__init__(config)
        self.labels, self.scale = labels, scale
        self.classes = nn.Linear(config.vocabulary, labels)

    def forward(self, ids):
        return self.classes(super().forward(ids)) * self.scale


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_arguments_beside_the_config_are_what_the_model_keeps(scale: float) -> None:
    """A scale that were left out would give other outputs, which are compared."""
    small = surgery.shrink(Labelled(config(), 5, scale=scale), {"*.up.o": 10}, IDS)
    assert "config" not in small.surgery_record and small.config.inner == 10


class Around(nn.Module):
    """A model that is no configuration's, around one that is; and around two, of one configuration."""

    def __init__(self, config, towers=1):
        super().__init__()
        self.config = config
        self.towers = nn.ModuleList(Decoder(config) for _ in range(towers))
        self.head = nn.Linear(config.vocabulary, 3)

    def forward(self, ids):
        return self.head(sum(tower(ids).relu() for tower in self.towers))


def test_the_config_of_a_part_tells_its_sizes(tmp_path: Any) -> None:
    model = Around(config())
    small = surgery.shrink(model, {"*.up.o": 10, "*.embed.d": 12, "*.qkv.o.1": 3}, IDS)
    part = small.towers[0]
    assert (part.config.inner, part.config.width, model.config.width) == (10, 12, 24)
    assert small.config is part.config and part.blocks[1].config is part.config
    part.save_pretrained(tmp_path / "part")
    surgery.verify(part, Decoder.from_pretrained(tmp_path / "part"), IDS)


def test_parts_of_one_config_get_one_each() -> None:
    model = Around(config(), towers=2)
    small = surgery.shrink(model, {"towers.0.*.up.o": 10, "towers.1.*.up.o": 7}, IDS)
    assert [tower.config.inner for tower in small.towers] == [10, 7]
    assert small.config.inner == 40, "it told of both, and can tell of neither"


def test_a_part_that_no_config_tells_of_is_not_written() -> None:
    small = surgery.shrink(Around(config()), {"towers.0.blocks.0.up.o": 10}, IDS)
    with pytest.raises(
        surgery.InputError, match=r"no config of Decoder gives this small model: .*blocks\.0\.up\.weight"
    ):
        small.towers[0].save_pretrained("anywhere")


class Told(Labelled):
    """A width that is an argument beside the configuration: no file tells it."""

    def __init__(self, config, labels, hidden):
        super().__init__(config, labels)
        self.hidden, self.more = hidden, nn.Sequential(nn.Linear(labels, hidden), nn.ReLU(), nn.Linear(hidden, labels))

    def forward(self, ids):
        return self.more(super().forward(ids).unflatten(-1, (-1,))) + 0 * self.hidden


def test_a_width_that_only_an_argument_tells_is_not_believed() -> None:
    model = Told(config(), 5, 16)
    (name,) = [n for n, group in surgery.inspect(model, IDS).groups.items() if group.size == 16]
    small = surgery.shrink(model, {name: 8}, IDS)
    with pytest.raises(surgery.InputError, match="no config of Told"):
        small.save_pretrained("anywhere")


def test_a_run_of_a_part_leaves_no_trace() -> None:
    class Counting(Around):
        def __init__(self, config):
            super().__init__(config)
            self.towers[0].register_buffer("calls", torch.zeros(()))

        def forward(self, ids):
            self.towers[0].calls += 1
            return super().forward(ids)

    assert surgery.shrink(Counting(config()), {"*.up.o": 10}, IDS).towers[0].calls == 0


class Kept(nn.Module):
    """Its class takes arguments one by one, and keeps them in a mapping, as classes of diffusers do."""

    def __init__(self, features: int = 4, hidden: int = 16, *, heads: int = 2, bias: bool = True, shift: float = 0.0):
        super().__init__()
        self._arguments = {"features": features, "hidden": hidden, "heads": heads, "bias": bias, "_version": "1"}
        self.up, self.down = nn.Linear(features, hidden, bias=bias), nn.Linear(hidden, features)
        self.heads, self.shift = heads, shift

    @property
    def config(self) -> dict[str, Any]:
        return self._arguments

    def forward(self, x):
        return self.down(self.up(x).unflatten(-1, (self.heads, -1)).softmax(-1).flatten(-2)) + self.shift


class Saved(Kept):
    def save_pretrained(self, path: Any) -> None:
        torch.save((self.config, self.state_dict()), path)


@pytest.mark.parametrize("cls", [Kept, Saved])
@pytest.mark.parametrize("widths", [{"up.o.0": 1}, {"up.o.1": 3}, {"up.o.0": 1, "up.o.1": 5}, 1.0])
def test_arguments_that_a_class_keeps_tell_the_sizes(cls: type[Kept], widths: Any, tmp_path: Any) -> None:
    model, x = cls(bias=False).eval(), torch.randn(3, 4)
    small = surgery.shrink(model, widths, x)
    told = {name: value for name, value in small.config.items() if name != "_version"}
    again = cls(**told).eval()
    again.load_state_dict(small.state_dict())
    assert surgery.verify(small, again, x) < 1e-6
    assert model.config == {"features": 4, "hidden": 16, "heads": 2, "bias": False, "_version": "1"}
    if isinstance(small, Saved):
        small.save_pretrained(tmp_path / "small.pt")


def test_a_config_that_leaves_out_an_argument_that_matters_is_not_written(tmp_path: Any) -> None:
    model, x = Saved(shift=1.0).eval(), torch.randn(3, 4)  # `shift` is not kept
    small: Any = surgery.shrink(model, {"up.o.1": 4}, x)
    with pytest.raises(surgery.InputError, match="one with the right shapes computes something else"):
        small.save_pretrained(tmp_path / "small.pt")
    assert small.config == model.config and not list(tmp_path.iterdir())


def test_ties_of_arguments_that_a_class_keeps() -> None:
    x = torch.randn(3, 4)
    wrapped = surgery.wrap(Saved(heads=4), x, tie="config")
    small = surgery.shrink(wrapped, 0.5)
    again = Saved(**{name: value for name, value in small.config.items() if name != "_version"}).eval()
    again.load_state_dict(small.state_dict())
    assert surgery.verify(small, again, x) < 1e-6 and small.config != Saved(heads=4).config
