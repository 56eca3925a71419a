"""A program: the source of a model as a file, what it is run on, and how it is imported and forgotten again."""

from __future__ import annotations

import importlib.util
import linecache
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import torch
from torch import nn

from surgery.modules.inputs import Inputs
from tests.laws.fuzz import nets
from tests.laws.fuzz.fragments import Fragment
from tests.laws.fuzz.fragments.tables import NAMES, TABLES
from tests.laws.fuzz.grammar import expand, tidy
from tests.laws.fuzz.store import store
from tests.laws.fuzz.words import WORDS
from tests.models.init import randomise

IMPORTS = """
import copy
import math
from collections import deque, namedtuple
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial, reduce
from types import SimpleNamespace
from typing import Any
import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce as pooled, repeat
from einops.layers.torch import Rearrange
from torch import nn
from torch.utils.checkpoint import checkpoint
"""
OUTPUT = """
@dataclass
class Output:
    logits: Any
    aux: Any
"""


REPEATED = 3  # how many of a piece stand in a list


@dataclass(frozen=True)
class Recipe:
    """What a program is drawn from: parts can be left out, and the others stay as they are."""

    seed: int
    kind: str
    pieces: tuple[tuple[str, str], ...]  # the fragment's name, and the seed of its choices
    lists: bool = False  # whether pieces stand in lists of several, of which some may be left out

    @property
    def story(self) -> str:
        return f"{self.kind}{' in lists' * self.lists}: " + " > ".join(name for name, _ in self.pieces)


@dataclass(frozen=True)
class Program:
    recipe: Recipe
    source: str
    sizes: Mapping[str, int]
    inputs: tuple[Inputs, ...]  # the example first
    exact: frozenset[str]  # classes in which features without weights are none
    rebuilds: bool


def recipe(seed: int) -> Recipe:
    random = Random(seed)
    kind = random.choice(list(TABLES))
    pieces = tuple((random.choice(NAMES[kind]), f"{seed}/{i}") for i in range(random.choice((1, 1, 2, 2, 3))))
    return Recipe(seed, kind, pieces, lists=seed % 4 == 3)


def program(drawn: Recipe) -> Program:
    """The program of a recipe, always the same."""
    random = Random(f"net {drawn.seed}")
    width = random.choice((6, 8, 8, 12))
    sizes = {"i": 5, "o": 3, "w0": width}
    texts, calls, exact, rebuilds, at = [], [], set(), True, "w0"
    for i, (name, seed) in enumerate(drawn.pieces):
        fragment = TABLES[drawn.kind][name]
        values = _drawn(fragment, sizes[at], Random(f"sizes {seed}"))
        if values is None:
            continue
        sizes |= {f"b{i}_{key}": value for key, value in values.items()}
        args = {"c": f's["{at}"]'} | {key: f's["b{i}_{key}"]' for key in values}
        own = re.sub(r"\W", "", name.title()) + str(i)
        drawing = Random(f"text {seed}")
        text = expand(fragment.text, drawing, WORDS, {})
        stored = store(text, own, {"c": sizes[at], **values}, args, drawing)
        texts.append(stored.text)
        calls += [stored.given] * (REPEATED if drawn.lists and fragment.out == "c" else 1)
        rebuilds &= stored.rebuilds
        exact |= {own} if fragment.exact else set()
        at = at if fragment.out == "c" else f"b{i}_{fragment.out}"
    net = _net(drawn.kind, calls, f's["{at}"]', random)
    table = f"SIZES = {sizes!r}\ndef build(**changed):\n    return Net({{**SIZES, **changed}})\n"
    source = tidy("\n".join([IMPORTS, OUTPUT, *texts, net, table]))
    return Program(drawn, source, sizes, _inputs(drawn.kind, sizes, random), frozenset(exact | {"Net"}), rebuilds)


def _drawn(fragment: Fragment, c: int, random: Random) -> dict[str, int] | None:
    """Sizes that a fragment can have, or None where it cannot stand here."""
    for _ in range(20):
        values = {key: random.choice(options) for key, options in fragment.sizes.items()}
        if eval(fragment.where, {}, {"c": c, **values}):
            return values
    return None


def _net(kind: str, calls: Sequence[str], last: str, random: Random) -> str:
    text, axes, shaped = nets.KINDS[kind]
    more = {"sequence": ", mask", "tokens": ", mask", "pairs": ", other", "graphs": ", other"}.get(kind, "")
    fit = [name for name, (_, run) in nets.HOLDERS.items() if more != ", other" or "{more}" in run]
    fit = [name for name in fit if name != "checkpoint" or kind != "vectors"]  # some of those keep a state
    hold, run = nets.HOLDERS[random.choice(fit)]
    words = {"blocks": ", ".join(calls), "n": len(calls), "y": "y", "more": more}
    kept = nets.KEPT.replace("AXES", axes).replace("SHAPED(self.mean)", shaped.format("self.mean"))
    parts = {"HOLD": hold.format(**words), "RUN": run.format(**words), "KEEPS": nets.KEEPS, "KEPT": kept}
    for name in parts:
        text = text.replace(name, f"${name}()")
    filled = {name: [part.replace("HEAD", last)] for name, part in parts.items()}
    text = text.replace("STEM", 's["w0"]').replace("HEAD", last)
    return expand(text, random, {**WORDS, **filled}, {})


@dataclass(frozen=True)
class Maker:
    """Draws inputs of a program."""

    generator: torch.Generator
    sizes: Mapping[str, int]

    def real(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def ids(self, *shape: int) -> torch.Tensor:
        return torch.randint(1, 11, shape, generator=self.generator)

    def edges(self, nodes: int) -> torch.Tensor:
        return torch.randint(nodes, (2, 2 * nodes), generator=self.generator)

    def mask(self, b: int, t: int) -> dict[str, torch.Tensor]:
        return {"mask": torch.arange(t)[None] < torch.randint(2, t + 1, (b, 1), generator=self.generator)}


# by kind: the shapes beside the features, and what is made of one; the first is the example's
SHAPES: dict[str, tuple[Sequence[tuple[int, ...]], Callable[..., tuple[torch.Tensor, ...]]]] = {
    "sequence": (((2, 6), (3, 6), (2, 9), (4, 4)), lambda m, b, t: (m.real(b, t, m.sizes["i"]),)),
    "tokens": (((2, 6), (3, 6), (2, 9), (4, 4)), lambda m, b, t: (m.ids(b, t),)),
    "images": (((2, 6, 6), (3, 6, 6), (2, 12, 6)), lambda m, b, h, w: (m.real(b, 3, h, w),)),
    "vectors": (((3,), (4,), (2,)), lambda m, b: (m.real(b, m.sizes["i"]),)),
    "pairs": (
        ((2, 6, 3), (3, 6, 4), (2, 9, 3), (4, 4, 7)),
        lambda m, b, t, s: (m.real(b, t, m.sizes["i"]), m.real(b, s, 4)),
    ),
    "graphs": (((7,), (9,), (5,)), lambda m, n: (m.real(n, m.sizes["i"]), m.edges(n))),
}
MASKED = ("sequence", "tokens")


def _inputs(kind: str, sizes: Mapping[str, int], random: Random) -> tuple[Inputs, ...]:
    maker = Maker(torch.Generator().manual_seed(random.randrange(2**31)), sizes)
    shapes, make = SHAPES[kind]
    masked = kind in MASKED and random.random() < 0.4
    found = [Inputs(make(maker, *shape), maker.mask(*shape) if masked else {}) for shape in shapes]
    if kind in MASKED:  # what the example has, these leave out; or the other way round
        found.append(Inputs(make(maker, 2, 5), {} if masked else maker.mask(2, 5)))
    return tuple(found)


@contextmanager
def imported(source: str) -> Iterator[ModuleType]:
    """The module of a source, as a file; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        name = f"fuzzed_{Path(folder).name}"
        file = Path(folder) / f"{name}.py"
        file.write_text(source, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
            yield module
        finally:
            del sys.modules[name]
            linecache.cache.pop(str(file), None)


def built(module: Any, seed: int = 0, **changed: int) -> nn.Module:
    """A model of the program: always with the same weights."""
    torch.manual_seed(seed)
    model: nn.Module = module.build(**changed)
    return randomise(model, seed).double().eval()
