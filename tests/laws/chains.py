"""Random models with lists of modules, drawn by hypothesis.

Each piece knows by construction which of its modules may be left out, and computes without them in code of its own,
which skips the turns of those that are gone and leaves all other places as they are. Nothing of it knows of plans.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.laws import steps
from tests.models.init import randomise

WIDTH = 6
Gone = Collection[str]  # paths of modules that are left out, within a piece
BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "mlp": lambda i: steps.Residual(
        nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5), nn.GELU(), nn.Linear(5, WIDTH))
    ),
    "plain": lambda i: nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()),
    "attention": lambda i: steps.Residual(steps.Attention(WIDTH, 2, 3, "apart")),
    "placed": lambda i: Placed(i),
}


class Placed(nn.Module):
    """Knows its place, which nothing reads, and a factor that was made of it."""

    def __init__(self, place: int):
        super().__init__()
        self.layer_idx, self.scale, self.mix = place, 1 / (1 + place), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(x).tanh() * self.scale


class Piece(nn.Module):
    """A list of blocks, in a loop.

    Attributes:
        free: which of `n` units may go, by construction: a slice of them.
        unseen: why the library leaves all of them alone, where it does.
    """

    free = slice(None)
    unseen = ""

    def __init__(self, n: int, block: str):
        super().__init__()
        self.n, self.blocks = n, nn.ModuleList(BLOCKS[block](i) for i in range(n))
        self.more()

    def more(self) -> None:
        """What else a piece has."""

    def units(self) -> list[tuple[str, ...]]:
        """The paths of the modules of each unit, in order."""
        return [(f"blocks.{i}",) for i in range(self.n)]

    def may(self) -> set[str]:
        """The paths of the modules that may be left out."""
        return {path for unit in self.units()[self.free] for path in unit}

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    def turns(self, gone: Gone) -> Iterator[tuple[int, nn.Module]]:
        """The places and the blocks of those that stay."""
        return ((i, self.blocks[i]) for i, (first, *_) in enumerate(self.units()) if first not in gone)

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        for i, block in self.turns(gone):
            x = self.turn(x, i, block)
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        """What the turn of one block makes of what it gets."""
        made: Tensor = block(x)
        return made


class Numbered(Piece):
    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.n):
            x = self.blocks[i](x)
        return x


class Configured(Piece):
    def more(self) -> None:
        self.config = SimpleNamespace(depth=self.n, width=self.n)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks[: self.config.depth]:
            x = block(x)
        return x


class Enumerated(Piece):
    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            assert i < len(self.blocks)
            x = block(x)
        return x


class Reversed(Piece):
    def forward(self, x: Tensor) -> Tensor:
        for block in reversed(self.blocks):
            x = block(x)
        return x

    def turns(self, gone: Gone) -> Iterator[tuple[int, nn.Module]]:
        return reversed([*super().turns(gone)])


class Reduced(Piece):
    def forward(self, x: Tensor) -> Tensor:
        return functools.reduce(lambda y, block: block(y), self.blocks, x)


class Checkpointed(Piece):
    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.training else block(x)
        return x


class PreNorm(Piece):
    def more(self) -> None:
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(self.n))

    def units(self) -> list[tuple[str, ...]]:
        return [(f"blocks.{i}", f"norms.{i}") for i in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        for norm, block in zip(self.norms, self.blocks, strict=True):
            x = x + block(norm(x))
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        return x + block(self.norms[i](x))


class SharedNorm(Piece):
    def more(self) -> None:
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(self.norm(x))
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        return x + block(self.norm(x))


class Pairs(Piece):
    def more(self) -> None:
        self.blocks = nn.ModuleList(nn.ModuleList([block, nn.Linear(WIDTH, WIDTH)]) for block in self.blocks)

    def forward(self, x: Tensor) -> Tensor:
        for mix, feed in self.blocks:
            x = feed(mix(x)) + x
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        mix, feed = block.children()
        return feed(mix(x)) + x


class Scaled(Piece):
    """Numbers by place: those after a block that is gone would get another one."""

    free = slice(-1, None)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = x + block(x) * (i + 1)
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        return x + block(x) * (i + 1)


class Buffered(Piece):
    free = slice(-1, None)

    def more(self) -> None:
        self.register_buffer("scales", torch.linspace(0.5, 2, self.n))

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x) * self.scales[i]
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        return block(x) * self.scales[i]


class Flipped(Piece):
    free = slice(-1, None)

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i % 2:
                x = x.flip(-1)
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        return block(x).flip(-1) if i % 2 else block(x)


class Flagged(Piece):
    """A flag for each block, in a list."""

    def more(self) -> None:
        self.flags = [i % 3 == 1 for i in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = block(x).tanh() if self.flags[i] else block(x)
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        return block(x).tanh() if i % 3 == 1 else block(x)


class Rated(Piece):
    """A number for each block, in a list."""

    def more(self) -> None:
        self.rates = [0.5 + i for i in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        for block, rate in zip(self.blocks, self.rates, strict=True):
            x = x + rate * block(x)
        return x

    def turn(self, x: Tensor, i: int, block: nn.Module) -> Tensor:
        return x + (0.5 + i) * block(x)


class Named(Piece):
    def more(self) -> None:
        self.blocks = nn.ModuleDict({f"block{i}": block for i, block in enumerate(self.blocks)})

    def units(self) -> list[tuple[str, ...]]:
        return [(f"blocks.block{i}",) for i in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks.values():
            x = block(x)
        return x

    def turns(self, gone: Gone) -> Iterator[tuple[int, nn.Module]]:
        return ((i, self.blocks[f"block{i}"]) for i in range(self.n) if f"blocks.block{i}" not in gone)


class Attributes(Piece):
    """Blocks under names of their own."""

    def more(self) -> None:
        for i, block in enumerate(self.blocks):
            setattr(self, f"block{i}", block)
        del self.blocks

    def units(self) -> list[tuple[str, ...]]:
        return [(f"block{i}",) for i in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        for i in range(self.n):
            x = getattr(self, f"block{i}")(x)
        return x

    def turns(self, gone: Gone) -> Iterator[tuple[int, nn.Module]]:
        return ((i, getattr(self, f"block{i}")) for i in range(self.n) if f"block{i}" not in gone)


class Layers(Piece):
    """Linear maps, norms and activations in one Sequential."""

    def more(self) -> None:
        units = ((nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU()) for _ in range(self.n))
        self.blocks = nn.Sequential(*(layer for unit in units for layer in unit))

    def units(self) -> list[tuple[str, ...]]:
        return [tuple(f"blocks.{3 * i + j}" for j in range(3)) for i in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        for name, layer in self.blocks.named_children():
            x = x if f"blocks.{name}" in gone else layer(x)
        return x


class Stages(Piece):
    """Each stage widens, and its blocks do not; then all is projected back."""

    def more(self) -> None:
        wide = [WIDTH, WIDTH + 2, WIDTH + 5]
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(a, b), *(steps.Residual(nn.Linear(b, b)) for _ in range(self.n)))
            for a, b in itertools.pairwise(wide)
        )
        self.back = nn.Linear(wide[-1], WIDTH)

    def units(self) -> list[tuple[str, ...]]:
        return [(f"blocks.{i}.{j + 1}",) for i in range(2) for j in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.blocks:
            x = stage(x)
        return self.back(x)

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        for i, stage in enumerate(self.blocks):
            for name, layer in stage.named_children():
                x = x if f"blocks.{i}.{name}" in gone else layer(x)
        return self.back(x)


class Collected(Piece):
    """The mean of what each block makes is added up, as losses are."""

    def more(self) -> None:
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        total = x.new_zeros(())
        for block in self.blocks:
            x = block(x)
            total = total + self.head(x).mean()
        return x * total

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        total = x.new_zeros(())
        for _, block in self.turns(gone):
            x = block(x)
            total = total + self.head(x).mean()
        return x * total


class Dense(Piece):
    """Each block reads the sum of all before."""

    def forward(self, x: Tensor) -> Tensor:
        made = [x]
        for block in self.blocks:
            made.append(block(sum(made)))
        return made[-1]

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        made = [x]
        for _, block in self.turns(gone):
            made.append(block(torch.stack(made).sum(0)))
        return made[-1]


class Skips(Piece):
    """The way up reads what was made on the way down, from the end: only the end of the way up may go."""

    free = slice(-1, None)

    def more(self) -> None:
        self.downs = nn.ModuleList(steps.Residual(nn.Linear(WIDTH, WIDTH)) for _ in range(self.n))

    def down(self, x: Tensor) -> list[Tensor]:
        made = []
        for down in self.downs:
            made.append(x := down(x))
        return made

    def forward(self, x: Tensor) -> Tensor:
        skips = self.down(x)
        x = skips[-1]
        for block in self.blocks:
            x = block(x * skips.pop())
        return x

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        skips = self.down(x)
        x = skips[-1]
        for i, block in self.turns(gone):
            x = block(x * skips[self.n - 1 - i])
        return x


class Halves(Piece):
    """Something in the middle, counted by how many there are: of an odd number, the second half has one more."""

    def forward(self, x: Tensor) -> Tensor:
        half = len(self.blocks) // 2
        for block in self.blocks[:half]:
            x = block(x)
        x = x.tanh()
        for block in self.blocks[half:]:
            x = block(x)
        return x

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        for i, block in enumerate(self.blocks):
            x = x.tanh() if i == self.n // 2 else x
            x = x if f"blocks.{i}" in gone else block(x)
        return x

    def may(self) -> set[str]:
        """With an odd number one of the second half, else one of the first half: the middle stays where it is."""
        some = range(self.n // 2, self.n) if self.n % 2 else range(self.n // 2)
        return {f"blocks.{i}" for i in some}


class EveryOther(Piece):
    """First every other block, then the others: all after one that is gone would change places, but for a few."""

    def may(self) -> set[str]:
        order = every_other(range(self.n))
        rests = {i: [j for j in range(self.n) if j != i] for i in range(self.n)}
        return {f"blocks.{i}" for i, rest in rests.items() if every_other(rest) == [j for j in order if j != i]}

    def forward(self, x: Tensor) -> Tensor:
        for block in (*self.blocks[::2], *self.blocks[1::2]):
            x = block(x)
        return x

    def turns(self, gone: Gone) -> Iterator[tuple[int, nn.Module]]:
        return iter(sorted(super().turns(gone), key=lambda turn: turn[0] % 2))


def every_other(items: Sequence[int]) -> list[int]:
    return [*items[::2], *items[1::2]]


class Twice(Piece):
    """The first block runs again in the end."""

    free = slice(1, None)
    unseen = "a block that is called twice keeps its whole list"

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.blocks[0](x)

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        return self.blocks[0](super().without(x, gone))


class Tied(Piece):
    """Two blocks have one bias."""

    free = slice(2, None)
    unseen = "a tensor of two blocks keeps their whole list"

    def more(self) -> None:
        first, second = (next(iter(block.parameters())) for block in self.blocks[:2])
        for module in self.blocks[1].modules():
            for name, value in list(module._parameters.items()):
                if value is second:
                    setattr(module, name, first)


class Recurrent(Piece):
    """Layers of one LSTM: the first reads the input."""

    free = slice(1, None)

    def more(self) -> None:
        self.blocks = nn.LSTM(WIDTH, WIDTH, num_layers=self.n, batch_first=True)

    def units(self) -> list[tuple[str, ...]]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return [tuple(f"blocks.{name}_l{i}" for name in names) for i in range(self.n)]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)[0]

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        state = self.blocks.state_dict()
        for i, (first, *_) in enumerate(self.units()):
            if first not in gone:
                layer = nn.LSTM(WIDTH, WIDTH, batch_first=True).to(x)
                layer.load_state_dict({name: state[name.replace("_l0", f"_l{i}")] for name in layer.state_dict()})
                x = layer(x)[0]
        return x


class Branches(Piece):
    """Side by side, averaged."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([block(x) for block in self.blocks]).mean(0)

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        made = [block(x) for _, block in self.turns(gone)]
        return sum(made) / len(made)


class Summed(Branches):
    def forward(self, x: Tensor) -> Tensor:
        return x + sum(block(x) for block in self.blocks)

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        return x + sum(block(x) for _, block in self.turns(gone))


class Alternating(Branches):
    """Side by side, but each second one counts less: places matter."""

    free = slice(0, 0)

    def forward(self, x: Tensor) -> Tensor:
        total = x
        for i, block in enumerate(self.blocks):
            total = total - block(x) if i % 2 else total + block(x)
        return total

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        return x + sum((-1) ** i * block(x) for i, block in self.turns(gone))


class Routed(Branches):
    """The two best of all, for each position; one more than two at least."""

    def more(self) -> None:
        self.router = nn.Linear(WIDTH, self.n)

    def forward(self, x: Tensor) -> Tensor:
        weights, chosen = self.router(x).softmax(-1).topk(2, -1)
        total = torch.zeros_like(x)
        for i, block in enumerate(self.blocks):
            total = total + block(x) * (weights * (chosen == i)).sum(-1, keepdim=True)
        return total

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        stay = [i for i, _ in self.turns(gone)]
        shares = self.router(x)[..., stay].softmax(-1)
        limit = shares.topk(2, -1).values[..., -1:]
        made = torch.stack([block(x) for _, block in self.turns(gone)], -1)
        return (made * (shares * (shares >= limit))[..., None, :]).sum(-1)


PIECES: tuple[type[Piece], ...] = (
    Piece, Numbered, Configured, Enumerated, Reversed, Reduced, Checkpointed, PreNorm, SharedNorm, Pairs, Scaled,
    Buffered, Flipped, Flagged, Rated, Named, Attributes, Layers, Stages, Collected, Dense, Skips, Halves, EveryOther,
    Twice, Tied, Recurrent, Branches, Summed, Alternating, Routed,
)  # fmt: skip


@dataclass
class Chained:
    """A drawn model. Printed, it says what was drawn."""

    model: nn.Sequential
    story: str

    def __repr__(self) -> str:
        return f"Chained({self.story})"

    def inputs(self, seed: int) -> Tensor:
        return torch.randn(2 + seed, 4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def may(self) -> set[str]:
        """The paths of all modules that may be left out: whole pieces, too, since each makes what it gets."""
        pieces = {name: piece for name, piece in self.model.named_children() if isinstance(piece, Piece)}
        return set(pieces) | {f"{name}.{path}" for name, piece in pieces.items() for path in piece.may()}

    def without(self, x: Tensor, gone: Gone) -> Tensor:
        """What the model computes without some modules."""
        for name, piece in self.model.named_children():
            inner = [path.removeprefix(f"{name}.") for path in gone if path.startswith(f"{name}.")]
            if name not in gone:
                x = piece.without(x, inner) if isinstance(piece, Piece) else piece(x)
        return x


def chained(*pieces: tuple[type[Piece], int, str]) -> Chained:
    """A model of some pieces: the class, how many units, what these are."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = [kind(n, block) for kind, n, block in pieces]
        model = nn.Sequential(nn.Linear(5, WIDTH), *made, nn.Linear(WIDTH, 3))
        randomise(model, seed=0).double().eval()
    return Chained(model, " > ".join(f"{kind.__name__} of {n} {block}" for kind, n, block in pieces))


@st.composite
def chains(draw: Callable, most: int = 3) -> Chained:
    """A random model with lists."""
    one = st.tuples(st.sampled_from(PIECES), st.integers(3, 6), st.sampled_from(sorted(BLOCKS)))
    return chained(*draw(st.lists(one, min_size=1, max_size=most)))
