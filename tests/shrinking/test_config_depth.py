"""A small model with fewer modules is what its configuration says, or nothing is written that would not be read."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.twin.orders import set_depth_order

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))


class Checked(types.SimpleNamespace):
    """A configuration that checks itself when it is read."""

    def to_dict(self) -> dict[str, Any]:
        return dict(vars(self))

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Checked:
        made = cls(**values)
        if "kinds" in values and len(made.kinds) != made.layers:
            raise ValueError(f"{len(made.kinds)} kinds for {made.layers} layers")
        return made


class Saved(nn.Module):
    """Keeps its configuration, and is written and read with it."""

    config: Any

    def __init__(self, config: Any):
        super().__init__()
        self.config = config

    def save_pretrained(self, path: Path) -> None:
        torch.save((self.config.to_dict(), self.state_dict()), path)

    @classmethod
    def from_pretrained(cls, path: Path) -> Saved:
        values, state = torch.load(path)
        model = cls(Checked.from_dict(values))
        model.load_state_dict(state)
        return model.eval()


class Block(nn.Module):
    def __init__(self, config: Any, inner: int, sign: float = 1.0, rate: float = 0.0):
        super().__init__()
        self.config, self.sign, self.rate = config, sign, rate
        self.up, self.down = nn.Linear(config.width, inner), nn.Linear(inner, config.width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.down(torch.relu(self.up(x)))
        if self.training:
            y = nn.functional.dropout(y, self.rate)
        return x + self.sign * y


class Stack(nn.Module):
    def __init__(self, blocks: list[Block]):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Plain(Saved):
    """As many blocks as a number says."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.stack = Stack([self.block(i) for i in range(config.layers)])
        self.head = nn.Linear(config.width, 5)

    def block(self, i: int) -> Block:
        return Block(self.config, self.config.inner)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stack(x))


class Listed(Plain):
    """A width for each block."""

    def block(self, i: int) -> Block:
        return Block(self.config, self.config.inner[i])


class Kinds(Plain):
    """A word for each block."""

    def block(self, i: int) -> Block:
        return Block(self.config, self.config.inner, {"plus": 1.0, "minus": -1.0}[self.config.kinds[i]])


class Alternating(Plain):
    """What a block does is told by its place."""

    def block(self, i: int) -> Block:
        return Block(self.config, self.config.inner, 1.0 - 2 * (i % 2))


class Dropping(Plain):
    """The later, the more of a block is dropped in training, which no output tells."""

    def block(self, i: int) -> Block:
        return Block(self.config, self.config.inner, rate=0.1 * i)


class CountingBlock(Block):
    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


class Counting(Plain):
    """What forwards leave on a module is no part of how it is made."""

    def block(self, i: int) -> Block:
        return CountingBlock(self.config, self.config.inner)


class Two(Saved):
    """Two stacks, each with a number of its own."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.first = Stack([Block(config, config.inner) for _ in range(config.layers)])
        self.second = Stack([Block(config, config.inner) for _ in range(config.others)])

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x).tanh())


class Stages(Saved):
    """A number for each stage, in a list; the last block of each makes its width."""

    def __init__(self, config: Any):
        super().__init__(config)
        self.stages = nn.ModuleList(Stack([Block(config, config.inner) for _ in range(n)]) for n in config.depths)
        self.between = nn.ModuleList(nn.Linear(config.width, config.width) for _ in config.depths)

    def forward(self, x: Tensor) -> Tensor:
        for stage, linear in zip(self.stages, self.between, strict=True):
            x = linear(stage(x)).tanh()
        return x


def made(cls: type[Saved], **values: Any) -> Any:
    torch.manual_seed(0)
    given = {"width": 8, "inner": 12, "layers": 4, **values}
    if cls is Stages:
        del given["layers"]
    return cls(Checked(**given)).eval()


KINDS = ["plus", "plus", "minus", "minus"]
STACK = "stack.blocks.depth"
FOLLOWED: dict[str, tuple[Any, dict[str, Any], dict[str, list[int]], dict[str, Any], dict[str, Any]]] = {
    "a number": (Plain, {}, {}, {STACK: 3}, {"layers": 3}),
    "a number, with widths": (Plain, {"heads": 4}, {}, {STACK: 1, "*.up.o": 5}, {"layers": 1, "inner": 5}),
    "a number, the last ones": (Plain, {}, {STACK: [3, 2, 1, 0]}, {STACK: 2}, {"layers": 2}),
    "widths in a list": (
        Listed, {"inner": [12, 11, 10, 9]}, {STACK: [3, 1, 0, 2]}, {STACK: 2, "*.3.up.o": 4},
        {"layers": 2, "inner": [11, 4]},
    ),
    "words in a list": (
        Kinds, {"kinds": KINDS, "tokens": [1, 2, 3, 4]}, {STACK: [3, 0, 1, 2]}, {STACK: 2},
        {"layers": 2, "kinds": ["plus", "minus"]},
    ),
    "equal numbers": (
        Two, {"others": 4}, {"first.blocks.depth": [2, 0, 1, 3]}, {"first.blocks.depth": 2, "second.blocks.depth": 1},
        {"layers": 2, "others": 1},
    ),
    "the second of equal numbers": (Two, {"others": 4}, {}, {"second.blocks.depth": 3}, {"others": 3}),
    "numbers in a list": (
        Stages, {"depths": [2, 2, 3]}, {"stages.2.blocks.depth": [2, 0, 1]},
        {"stages.1.blocks.depth": 1, "stages.2.blocks.depth": 2}, {"depths": [2, 1, 2]},
    ),
    "a pattern that stays": (Alternating, {}, {STACK: [2, 3, 0, 1]}, {STACK: 2}, {"layers": 2}),
    "counts of calls": (Counting, {}, {STACK: [0, 2, 1, 3]}, {STACK: 2}, {"layers": 2}),
    "rates of the first ones": (Dropping, {}, {}, {STACK: 2}, {"layers": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWED)
def test_the_config_tells_which_modules_there_are(name: str, tmp_path: Path) -> None:
    cls, values, orders, widths, told = FOLLOWED[name]
    model = made(cls, **values)
    before = dict(vars(model.config))
    next(module for module in model.modules() if isinstance(module, Block))(X)
    wrapped = surgery.wrap(model, X, depth=True)
    set_depth_order(wrapped, orders)
    small: Any = surgery.shrink(wrapped, widths)
    assert "config" not in small.surgery_record, small.surgery_record["config"]
    assert vars(model.config) == before and vars(small.config) == before | told
    blocks = [module for module in small.modules() if isinstance(module, Block)]
    assert all(block.config is small.config for block in blocks), "one object, as its class makes it"
    small.save_pretrained(tmp_path / "small.pt")
    assert surgery.verify(small, cls.from_pretrained(tmp_path / "small.pt"), X) < 1e-6
    surgery.save(small, tmp_path / "small")
    loaded: Any = surgery.load(tmp_path / "small", made(cls, **values), X)
    assert vars(loaded.config) == vars(small.config) and "config" not in loaded.surgery_record


REFUSED = {
    "a pattern by place": (Alternating, [1, 2, 0, 3], "computes something else"),
    "rates by place": (Dropping, [0, 2, 1, 3], r"stack\.blocks\.1\.rate is 0\.1 in it, and 0\.2 here"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_class_makes_by_place_must_be_what_is_there(name: str, tmp_path: Path) -> None:
    cls, order, message = REFUSED[name]
    wrapped = surgery.wrap(made(cls), X, depth=True)
    set_depth_order(wrapped, {STACK: order})
    small: Any = surgery.shrink(wrapped, {STACK: 2})
    kept = ", ".join(map(str, sorted(order[:2])))
    assert small.config.layers == 2
    surgery.save(small, tmp_path / "small")
    for one in (small, surgery.load(tmp_path / "small", made(cls), X)):
        with pytest.raises(surgery.InputError, match=rf"{message}.*stack\.blocks\.depth \(2 of 4: {kept}\).*an order"):
            one.save_pretrained(tmp_path / "small.pt")
        surgery.verify(small, one, X)


def test_a_list_that_no_number_bounds_is_named(tmp_path: Path) -> None:
    class Fixed(Plain):
        def __init__(self, config: Any):
            super().__init__(Checked(**{**vars(config), "layers": 3}))
            self.config = config

    small: Any = surgery.shrink(surgery.wrap(made(Fixed, layers=7), X, depth=True), {STACK: 2})
    with pytest.raises(surgery.InputError, match=r"leave out modules as in stack\.blocks\.depth \(2 of 3: 0, 1\)"):
        small.save_pretrained(tmp_path / "small.pt")


class Around(nn.Module):
    """A model that no configuration tells of, around two that one tells of each."""

    def __init__(self) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({"a": made(Plain), "b": made(Kinds, kinds=KINDS)})

    def forward(self, x: Tensor) -> Tensor:
        return self.towers["a"](x) + self.towers["b"](x).tanh()


def test_parts_follow(tmp_path: Path) -> None:
    wrapped = surgery.wrap(Around().eval(), X, depth=["towers.*.stack.blocks.depth"])
    set_depth_order(wrapped, {"towers.b.stack.blocks.depth": [0, 2, 1, 3]})
    small: Any = surgery.shrink(wrapped, {"towers.a.stack.blocks.depth": 1, "towers.b.stack.blocks.depth": 2})
    assert small.towers["a"].config.layers == 1
    assert (small.towers["b"].config.layers, small.towers["b"].config.kinds) == (2, ["plus", "minus"])
    for part in small.towers.values():
        part.save_pretrained(tmp_path / "part.pt")
        assert surgery.verify(part, type(part).from_pretrained(tmp_path / "part.pt"), X) < 1e-6


@pytest.mark.parametrize("cls, step, free", [(Plain, 1, True), (Alternating, 1, False), (Alternating, 2, True)])
def test_a_tie_of_the_config_leaves_depths_that_it_can_say(
    cls: type[Plain], step: int, free: bool, tmp_path: Path
) -> None:
    wrapped = surgery.wrap(made(cls), X, depth=True, tie="config", granularity={STACK: step})
    plan = surgery.inspect(wrapped)
    assert (plan.groups[STACK].granularity == step) is free
    assert any(STACK in note for note in plan.notes) is not free
    for depth in {*range(step, 4, step)} if free else ():
        small: Any = surgery.shrink(wrapped, {"*": 0.5, STACK: depth})
        assert (small.config.layers, small.config.inner, small.config.width) == (depth, 6, 8)
        small.save_pretrained(tmp_path / "small.pt")
        assert surgery.verify(small, cls.from_pretrained(tmp_path / "small.pt"), X) < 1e-6


def test_a_tied_width_of_one_layer_goes_with_it() -> None:
    values = {"inner": [12, 12, 8, 8]}
    wrapped = surgery.wrap(made(Listed, **values), X, depth=True, tie="config")
    set_depth_order(wrapped, {STACK: [3, 0, 1, 2]})
    small: Any = surgery.shrink(wrapped, {"*.up.o": 0.5, STACK: 2})
    assert small.config.inner == [6, 4] and "config" not in small.surgery_record
