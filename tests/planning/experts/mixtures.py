"""Mixtures of experts, written in the ways in which people write them; and what looks like one and is none.

T tokens, C features, E experts, H hidden, K chosen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

C, H, E, K = 6, 5, 4, 2
X = torch.randn(24, 3, generator=torch.Generator().manual_seed(0))


class Mixture(nn.Module):
    """What all have in common: a layer before, a router, a layer behind."""

    def __init__(self, experts: int = E):
        super().__init__()
        self.num_experts = experts
        self.embed, self.out = nn.Linear(3, C), nn.Linear(C, 2)
        self.router = nn.Linear(C, experts, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.embed(x))
        return self.out(x + self.mix(x))

    def mix(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class Stacked(Mixture):
    """Weights of all experts in one tensor."""

    def __init__(self, experts: int = E):
        super().__init__(experts)
        self.up = nn.Parameter(torch.randn(experts, C, H) * 0.4)
        self.down = nn.Parameter(torch.randn(experts, H, C) * 0.4)

    def all(self, x: Tensor) -> Tensor:
        """(E, T, C) what each expert makes of each token."""
        return torch.bmm(torch.relu(torch.einsum("tc,ech->eth", x, self.up)), self.down)


class Chosen(Stacked):
    """Each token picks the weights of its experts by index."""

    def mix(self, x: Tensor) -> Tensor:
        weight, chosen = self.router(x).softmax(-1).topk(K, dim=-1)
        up, down = self.up[chosen.flatten()], self.down.index_select(0, chosen.flatten())
        y = torch.relu(x.repeat_interleave(K, 0).unsqueeze(1) @ up) @ down
        return (y.view(-1, K, C) * weight.unsqueeze(-1)).sum(1)


class Best(Stacked):
    """One expert for each token, by argmax; its weight is gathered."""

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        chosen = gates.argmax(-1, keepdim=True)
        y = torch.einsum("th,thc->tc", torch.relu(torch.einsum("tc,tch->th", x, self.up[chosen[:, 0]])),
                         self.down[chosen.squeeze(-1)])  # fmt: skip
        return y * gates.gather(-1, chosen)


class Scattered(Stacked):
    """The gates of those that were chosen go back to their places; all experts run."""

    def mix(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        best, chosen = torch.topk(logits, K)
        gates = torch.zeros_like(logits).scatter_(1, chosen, best.softmax(-1))
        return torch.einsum("te,etc->tc", gates, self.all(x))


class Dispatched(Stacked):
    """As GShard does it: one-hot places of tokens, which have room for so many."""

    room = 9

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        value, chosen = gates.max(-1)
        mask = F.one_hot(chosen, self.num_experts)
        place = (mask.cumsum(0) * mask).sum(-1) - 1
        fits = place < self.room
        slots = F.one_hot(place.clamp(0, self.room - 1), self.room) * fits.unsqueeze(-1)
        dispatch = torch.einsum("te,ts->tes", mask.to(x.dtype), slots.to(x.dtype))
        given = torch.einsum("tes,tc->esc", dispatch, x)
        y = torch.bmm(torch.relu(torch.bmm(given, self.up)), self.down)
        self.loss = (gates.mean(0) * mask.to(x.dtype).mean(0)).sum()
        return torch.einsum("tes,esc->tc", dispatch * value[:, None, None], y)


class Compared(Stacked):
    """Places against all numbers, as a mask."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        mask = (chosen.unsqueeze(-1) == torch.arange(self.num_experts)).to(x.dtype)
        return torch.einsum("tke,tk,etc->tc", mask, value, self.all(x))


class Counted(Stacked):
    """One expert after another, by its number."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        y = torch.zeros_like(x)
        for i in range(self.num_experts):
            token, which = torch.where(chosen == i)
            hidden = torch.relu(x[token] @ self.up[i])
            y.index_add_(0, token, (hidden @ self.down[i]) * value[token, which, None])
        return y


class Hit(Stacked):
    """Those experts alone that some token has chosen."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        mask = F.one_hot(chosen, num_classes=self.num_experts + 1).permute(2, 1, 0)
        y = torch.zeros_like(x)
        for hit in mask.sum((-1, -2)).gt(0).nonzero():
            i = hit[0]
            if i == self.num_experts:
                continue
            which, token = torch.where(mask[i])
            hidden = torch.relu(x[token] @ self.up[i])
            y.index_add_(0, token, (hidden @ self.down[i]) * value[token, which, None])
        return y


class Grouped(Stacked):
    """Tokens sorted by their expert, in runs whose ends are counted."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        flat, order = chosen.flatten().sort()
        ends = torch.bincount(flat, minlength=self.num_experts).cumsum(0)
        rows, y, begin = x[order // K], [], 0
        for i, end in enumerate(ends.tolist()):
            y.append(torch.relu(rows[begin:end] @ self.up[i]) @ self.down[i])
            begin = end
        mixed = torch.cat(y) * value.flatten()[order].unsqueeze(-1)
        return torch.zeros_like(x).index_add(0, order // K, mixed)


class Mapped(Chosen):
    """A table says where the second weights of an expert are: that table has one entry for each."""

    def __init__(self, experts: int = E):
        super().__init__(experts)
        self.register_buffer("map", torch.arange(experts).flip(0))

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).max(-1)
        y = torch.relu(torch.einsum("tc,tch->th", x, self.up[chosen]))
        return torch.einsum("th,thc->tc", y, self.down[self.map[chosen]]) * value.unsqueeze(-1)


STACKED = (Chosen, Best, Scattered, Dispatched, Compared, Counted, Hit, Grouped, Mapped)


class Expert(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(C, H), nn.Linear(H, C)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(torch.relu(self.up(x)))


class Listed(Mixture):
    """Experts are modules of a list."""

    def __init__(self, experts: int = E):
        super().__init__(experts)
        self.experts = nn.ModuleList([Expert() for _ in range(experts)])


class Masked(Listed):
    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            token, which = torch.where(chosen == i)
            y.index_add_(0, token, expert(x[token]) * value[token, which, None])
        return y


class Numbered(Listed):
    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        y = torch.zeros_like(x)
        for i in range(self.num_experts):
            weight = (value * (chosen == i)).sum(-1, keepdim=True)
            y = y + weight * self.experts[i](x)
        return y


class Weighed(Listed):
    """Soft gates, read one by one."""

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        return sum(gates[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))


class Together(Listed):
    """The results of all experts are stacked, and weighed."""

    def mix(self, x: Tensor) -> Tensor:
        y = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (self.router(x).softmax(-1).unsqueeze(-1) * y).sum(1)


class ByToken(Listed):
    """Python's own integers choose the modules."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).max(-1)
        y = torch.stack([self.experts[i](one) for one, i in zip(x, chosen.tolist(), strict=True)])
        return y * value.unsqueeze(-1)


LISTED = (Masked, Numbered, Weighed, Together, ByToken)


class ScaledByNumber(Masked):
    """Each expert counts more than the one before it, if only by a little."""

    by = 1.0

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            y = y + (1 + self.by * i) * expert(x) * (value * (chosen == i)).sum(-1, keepdim=True)
        return y


class ScaledALittle(ScaledByNumber):
    by = 1e-5


class ScaledPlaces(Chosen):
    """What the router says is read as a number."""

    def mix(self, x: Tensor) -> Tensor:
        places = self.router(x).argmax(-1)
        return super().mix(x) * (places + 1).unsqueeze(-1)


class OneAfterAnother(Stacked):
    """An expert gets what those before it have left over."""

    def mix(self, x: Tensor) -> Tensor:
        gates = torch.sigmoid(self.router(x))
        left = torch.cumprod(1 - gates, -1)
        best, chosen = gates.topk(K)
        return torch.einsum("te,etc->tc", (left * gates).scatter(1, chosen, best), self.all(x))


class SideBySide(Listed):
    """The results of all experts side by side; the next layer tells them apart."""

    def __init__(self, experts: int = E):
        super().__init__(experts)
        self.join = nn.Linear(experts * C, C)

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        return self.join(torch.cat([expert(x) * gates[:, i, None] for i, expert in enumerate(self.experts)], -1))


class FirstAlways(Masked):
    """The first expert is one that all share."""

    def mix(self, x: Tensor) -> Tensor:
        return super().mix(x) + self.experts[0](x)


class Preferred(Chosen):
    """Later experts are chosen sooner."""

    def mix(self, x: Tensor) -> Tensor:
        logits = self.router(x) + 0.1 * torch.arange(self.num_experts)
        value, chosen = logits.softmax(-1).max(-1)
        y = torch.relu(torch.einsum("tc,tch->th", x, self.up[chosen]))
        return torch.einsum("th,thc->tc", y, self.down[chosen]) * value.unsqueeze(-1)


class SmoothedOver(Chosen):
    """Gates of neighbours are alike."""

    def mix(self, x: Tensor) -> Tensor:
        logits = F.avg_pool1d(self.router(x).unsqueeze(0), 3, 1, 1).squeeze(0)
        value, chosen = logits.softmax(-1).max(-1)
        y = torch.relu(torch.einsum("tc,tch->th", x, self.up[chosen]))
        return torch.einsum("th,thc->tc", y, self.down[chosen]) * value.unsqueeze(-1)


class Neighbour(Counted):
    """An expert reads a weight of the next one."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(K)
        y = torch.zeros_like(x)
        for i in range(self.num_experts):
            hidden = torch.relu(x @ self.up[i]) @ self.down[(i + 1) % self.num_experts]
            y = y + hidden * (value * (chosen == i)).sum(-1, keepdim=True)
        return y


NONE = (
    ScaledByNumber, ScaledALittle, ScaledPlaces, OneAfterAnother, SideBySide, FirstAlways, Preferred, SmoothedOver,
    Neighbour,
)  # fmt: skip
