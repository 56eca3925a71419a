"""Models with sizes in their code, which get another forward when they are cut, and inputs to run them on."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from surgery.modules.inputs import tensors
from tests.small_models import Heads


class Loop(Heads):
    """Its loop runs over the parts of the input."""

    def forward(self, x: Tensor) -> Tensor:
        total = torch.zeros(())
        for part in x.unbind(1):
            y = self.attend(self.embed(part)[:, None])
            total = total + self.head(y).sum() * len(part)
        for part in x.split(2, dim=1):
            total = total + self.head(self.attend(self.embed(part))).sum()
        return total


class Branches(Heads):
    """It goes other ways by rank, type, length and gradients."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.to(self.embed.weight.dtype))
        if x.dim() == 2:
            x = x[None]
        y = self.attend(x)
        if x.shape[1] > 4:
            y = y * 2
        if torch.is_grad_enabled():
            y = y + 1
        if y.dtype == torch.float32:
            y = y + 2
        if float(y.detach().abs().sum()) > 100:
            y = y * 3
        return self.head(y)


class Flags(Heads):
    """It reads attributes that are no sizes when it runs."""

    temperature = 2.0
    double = False

    def forward(self, x: Tensor) -> Tensor:
        y = self.attend(self.embed(x)) / self.temperature
        return self.head(y * 2 if self.double else y)


class Output(NamedTuple):
    logits: Tensor
    hidden: Tensor


@dataclasses.dataclass
class Record:
    logits: Tensor
    name: str = "record"


class Returns(Heads):
    """What it returns keeps its class."""

    def __init__(self, make: Callable[..., Any]):
        super().__init__()
        self.make = make

    def forward(self, x: Tensor) -> Any:
        y = self.attend(self.embed(x))
        return self.make(self.head(y), self.head(y).sum(-1))


def as_tuple(logits: Tensor, hidden: Tensor) -> Output:
    return Output(logits, hidden)


def as_dict(logits: Tensor, hidden: Tensor) -> dict[str, Tensor]:
    return collections.OrderedDict(logits=logits, hidden=hidden)


def as_record(logits: Tensor, hidden: Tensor) -> Record:
    return Record(logits)


class Dropping(Heads):
    """It draws random numbers, in training only."""

    def forward(self, x: Tensor) -> Tensor:
        y = F.dropout(self.attend(self.embed(x)), 0.5, self.training)
        return self.head(y)


class State(Heads):
    """It keeps what it has seen in a plain object."""

    def __init__(self) -> None:
        super().__init__()
        self.cache: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        y = self.attend(self.embed(x))
        cache = {"length": 0, "y": y}
        cache["y"] = cache["y"] + 1
        cache["length"] += x.shape[1]
        return self.head(cache["y"]) * cache["length"]


def windows(x: Tensor, size: int) -> Tensor:
    b, n, _ = x.shape
    return x.view(b, n // size, size, 12).mean(2)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(5, 12), nn.Linear(12, 4)


class Helper(Plain):
    """The size stands in a function outside of the class, which is called twice."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.head(windows(x, 2)) + self.head(windows(torch.relu(x), 2))


class Nested(Plain):
    """The size stands in a function inside the forward, in a comprehension, and in a lambda."""

    def __init__(self) -> None:
        super().__init__()
        self.flat = lambda x: x.reshape(-1, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)

        def twice(y: Tensor) -> Tensor:
            return y.reshape(len(y), -1, 12) * 2

        parts = [part.reshape(len(part), 12) for part in twice(x).unbind(1)]
        return self.head(self.flat(sum(parts)))


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) + 1

    return wrapper


class Decorated(Heads):
    """A decorator of the model's own stands around the forward."""

    @decorated
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return self.head(self.attend(self.embed(x))) * scale


class Base(Heads):
    def forward(self, x: Tensor) -> Tensor:
        return self.attend(self.embed(x))


class Super(Base):
    """The size stands in the forward of the class above; a private name is mangled."""

    def __scaled(self, x: Tensor) -> Tensor:
        return x.view(-1, 12) * 2

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.__scaled(super().forward(x)))


class Computed(Heads):
    """The computed width also leaves the arithmetic of sizes."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        width = c // self.heads
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        y = torch.softmax(q @ k.transpose(2, 3) * width**-0.5 / math.sqrt(width), -1) @ v
        return self.head(self.out(y.transpose(1, 2).reshape(b, n, c)))


class Spelled(Heads):
    """The same sizes in other forms of a call."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, c = x.shape
        shape = (b, n, 3, self.heads, c // self.heads)
        qkv = self.qkv(x).view(shape)
        qkv = torch.reshape(qkv, shape=(*x.shape[:2], 3, self.heads, c // self.heads)).view(*shape)
        q, k, v = rearrange(qkv, "b n s h d -> s b h n d", h=3)
        y = F.scaled_dot_product_attention(q, k, v)
        y = y.transpose(1, 2).contiguous().view(
            b,
            n,
            c,
        )  # fmt: skip
        return self.head(self.out(torch.cat([y[..., :6], y[..., 6:12]], -1)))


class Batched(Heads):
    """A literal stands beside the batch in one product."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, 3, 4).permute(2, 0, 3, 1, 4).reshape(3, b * 3, n, 4)
        y = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)), -1), v)
        return self.head(self.out(y.view(b, 3, n, 4).transpose(1, 2).reshape(b, n, 12)))


CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, list[Tensor]]] = {
    "loop": (Loop, torch.randn(2, 3, 5), [torch.randn(2, 7, 5), torch.randn(4, 1, 5)]),
    "branches": (
        Branches,
        torch.randn(2, 3, 5),
        [torch.randn(2, 6, 5), torch.randn(3, 5), torch.randn(1, 9, 5).double(), torch.randn(8, 50, 5) * 50],
    ),
    "flags": (Flags, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "tuple": (lambda: Returns(as_tuple), torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "dict": (lambda: Returns(as_dict), torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "record": (lambda: Returns(as_record), torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "dropping": (Dropping, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "state": (State, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "helper": (Helper, torch.randn(2, 4, 5), [torch.randn(3, 6, 5)]),
    "nested": (Nested, torch.randn(2, 4, 5), [torch.randn(3, 6, 5)]),
    "decorated": (Decorated, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "super": (Super, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "computed": (Computed, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "spelled": (Spelled, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
    "batched": (Batched, torch.randn(2, 3, 5), [torch.randn(3, 4, 5)]),
}


def built(name: str) -> tuple[nn.Module, Tensor, list[Tensor]]:
    build, example, others = CASES[name]
    torch.manual_seed(0)
    return build().eval(), example, others


def found(result: Any) -> list[Tensor]:
    return tensors(vars(result) if isinstance(result, Record) else result)
