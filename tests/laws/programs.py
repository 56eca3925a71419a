"""Random models: programs of steps over images, vectors and sequences, drawn by hypothesis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.laws import steps
from tests.models.init import randomise

Draw = Callable[[st.SearchStrategy], int]


@dataclass
class Program:
    """A drawn model with its input shape. Printed, it says what was drawn."""

    model: nn.Module
    shape: tuple[int, ...]
    story: list[str]

    def __repr__(self) -> str:
        return f"Program({self.shape}: {' > '.join(self.story)})"

    def inputs(self, seed: int, batch: int = 2) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(batch, *self.shape, generator=generator, dtype=torch.float64)


class _Writer:
    """Adds steps to a model and keeps track of the number of features `c`."""

    def __init__(self, draw: Callable, c: int):
        self.draw, self.c = draw, c
        self.modules: list[nn.Module] = []
        self.story: list[str] = []

    def pick(self, *options: object) -> object:
        return self.draw(st.sampled_from(options))

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def add(self, name: str, *modules: nn.Module, c: int | None = None) -> None:
        self.modules += modules
        self.c = self.c if c is None else c
        self.story.append(f"{name}->{self.c}")

    def divisor(self) -> int:
        return int(self.pick(*[d for d in range(1, self.c + 1) if self.c % d == 0]))  # type: ignore[call-overload]


def _image(w: _Writer) -> None:
    c = w.c
    name = w.pick("conv", "conv", "grouped", "depthwise", "batchnorm", "groupnorm", "residual", "dense", "gate",
                  "shuffle", "gamma", "squeeze", "swap", "twice", "prelu")  # fmt: skip
    if name == "conv":
        out = w.number(2, 9)
        w.add("conv", nn.Conv2d(c, out, w.pick(1, 3), padding=1), nn.ReLU(), c=out)
    elif name == "grouped":
        g, m = w.divisor(), w.number(1, 2)
        w.add(f"grouped{g}", nn.Conv2d(c, g * m * 2, 3, padding=1, groups=g), c=g * m * 2)
    elif name == "depthwise":
        w.add("depthwise", nn.Conv2d(c, c, 3, padding=1, groups=c))
    elif name == "batchnorm":
        w.add("batchnorm", nn.BatchNorm2d(c), nn.ReLU())
    elif name == "groupnorm":
        w.add("groupnorm", nn.GroupNorm(w.divisor(), c))
    elif name == "residual":
        w.add("residual", steps.Residual(nn.Sequential(nn.Conv2d(c, 4, 3, padding=1), nn.SiLU(), nn.Conv2d(4, c, 1))))
    elif name == "dense":
        out = w.number(1, 5)
        w.add("dense", steps.Dense(nn.Conv2d(c, out, 3, padding=1), 1), c=c + out)
    elif name == "gate" and c % 2 == 0:
        w.add("gate", steps.Gate(1), c=c // 2)
    elif name == "shuffle":
        g = w.divisor()
        w.add(f"shuffle{g}", steps.Shuffle(g))
    elif name == "gamma":
        w.add("gamma", steps.Gamma(c, 1))
    elif name == "squeeze":
        w.add("squeeze", steps.Squeeze(c, w.number(2, 4)))
    elif name == "swap" and c > 1:
        w.add("swap", steps.Lambda(steps.swap_parts(w.number(1, c - 1), 1)))
    elif name == "twice":
        w.add("twice", steps.Twice(nn.Conv2d(c, c, 1)))
    elif name == "prelu":
        w.add("prelu", nn.PReLU(c))


def _vector(w: _Writer) -> None:
    c = w.c
    name = w.pick("linear", "linear", "layernorm", "residual", "dense", "gate", "regroup", "swap", "twice", "batchnorm")
    if name == "linear":
        out = w.number(2, 12)
        w.add("linear", nn.Linear(c, out), nn.GELU(), c=out)
    elif name == "layernorm":
        w.add("layernorm", nn.LayerNorm(c))
    elif name == "batchnorm":
        w.add("batchnorm", nn.BatchNorm1d(c))
    elif name == "residual":
        w.add("residual", steps.Residual(nn.Sequential(nn.Linear(c, 6), nn.Tanh(), nn.Linear(6, c))))
    elif name == "dense":
        out = w.number(1, 5)
        w.add("dense", steps.Dense(nn.Linear(c, out), -1), c=c + out)
    elif name == "gate" and c % 2 == 0:
        w.add("gate", steps.Gate(-1), c=c // 2)
    elif name == "regroup":
        a = w.divisor()
        w.add(f"regroup{a}x{c // a}", steps.Lambda(steps.regroup(a, c // a)))
    elif name == "swap" and c > 1:
        w.add("swap", steps.Lambda(steps.swap_parts(w.number(1, c - 1), 1)))
    elif name == "twice":
        w.add("twice", steps.Twice(nn.Linear(c, c)))


def _sequence(w: _Writer) -> None:
    c = w.c
    name = w.pick("linear", "layernorm", "attention", "attention", "mlp", "tokens", "gate", "gamma", "torch", "lstm")
    if name == "linear":
        out = w.number(2, 12)
        w.add("linear", nn.Linear(c, out), c=out)
    elif name == "layernorm":
        w.add("layernorm", nn.LayerNorm(c))
    elif name == "attention":
        layout = str(w.pick("3hd", "hd3", "h3d", "apart"))
        w.add(f"attention-{layout}", steps.Residual(steps.Attention(c, w.number(1, 3), w.number(2, 4), layout)))
    elif name == "mlp":
        w.add("mlp", steps.Residual(nn.Sequential(nn.LayerNorm(c), nn.Linear(c, 7), nn.GELU(), nn.Linear(7, c))))
    elif name == "tokens":
        w.add("tokens", steps.Tokens(2, c))
    elif name == "gate" and c % 2 == 0:
        w.add("gate", steps.Gate(-1), c=c // 2)
    elif name == "gamma":
        w.add("gamma", steps.Gamma(c, 2))
    elif name == "torch" and c % 2 == 0:
        w.add("torch", nn.TransformerEncoderLayer(c, 2, 5, 0.0, batch_first=True, norm_first=True))
    elif name == "lstm":
        out = w.number(2, 5)
        w.add("lstm", nn.LSTM(c, out, batch_first=True, bidirectional=bool(w.pick(True, False))), _First())
        w.c = out * (2 if w.modules[-2].bidirectional else 1)


class _First(nn.Module):
    def forward(self, values: tuple[Tensor, ...]) -> Tensor:
        return values[0]


@st.composite
def programs(draw: Callable, most: int = 5) -> Program:
    """A random model: image steps, then perhaps sequence steps, then vector steps, then a head."""
    c = draw(st.integers(1, 3))
    w = _Writer(draw, c)
    width = w.number(2, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        w.add("stem", nn.Conv2d(c, width, 3, padding=1), nn.ReLU(), c=width)
        for _ in range(w.number(0, most)):
            _image(w)
        if w.pick(True, False):
            w.add("pool", nn.AdaptiveAvgPool2d(2))
            w.add("tokens", steps.Lambda(lambda x: x.flatten(2).transpose(1, 2)))
            for _ in range(w.number(0, most)):
                _sequence(w)
            w.add("mean", steps.Lambda(lambda x: x.mean(1)))
        elif w.pick("channels-first", "channels-last") == "channels-first":
            w.add("flatten", nn.AdaptiveAvgPool2d(2), nn.Flatten(), c=4 * w.c)
        else:
            w.add("nhwc", nn.AdaptiveAvgPool2d(2), steps.Lambda(lambda x: x.permute(0, 2, 3, 1).flatten(1)), c=4 * w.c)
        for _ in range(w.number(0, most)):
            _vector(w)
        w.add("head", nn.Linear(w.c, 3), c=3)
        model = randomise(nn.Sequential(*w.modules), seed=0).double().eval()
    return Program(model, (c, 4, 4), w.story)
