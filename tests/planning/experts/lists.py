"""Experts and branches that are modules, written in the ways in which people write them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.planning.experts.mixtures import ByToken, C, Expert, Listed, Masked, Mixture, Numbered, Together, Weighed


class SoftTopK(Listed):
    """All experts run; the gates of those that were not chosen are zero."""

    def mix(self, x: Tensor) -> Tensor:
        logits = self.router(x)
        lowest = logits.topk(2)[0][:, -1:]
        gates = logits.masked_fill(logits < lowest, float("-inf")).softmax(-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            y = y + gates[..., i : i + 1] * expert(x)
        return y


class Unbound(Listed):
    """Gates and experts side by side."""

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        return sum(gate.unsqueeze(-1) * expert(x) for gate, expert in zip(gates.unbind(-1), self.experts, strict=True))


class WithShared(Masked):
    """One expert is there for all tokens."""

    def __init__(self):
        super().__init__()
        self.shared = Expert()

    def mix(self, x: Tensor) -> Tensor:
        return self.shared(x) + super().mix(x)


class SharedFirst(Weighed):
    """What all share is what the results of experts are added to."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(C, C)

    def mix(self, x: Tensor) -> Tensor:
        gates, y = self.router(x).softmax(-1), self.shared(x)
        for i, expert in enumerate(self.experts):
            y = y + gates[:, i : i + 1] * expert(x)
        return y


class Behind(SharedFirst):
    """One layer is called behind each expert."""

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        return sum(gates[:, i : i + 1] * self.shared(expert(x)) for i, expert in enumerate(self.experts))


class Before(SharedFirst):
    """One layer is called before each expert."""

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        return sum(gates[:, i : i + 1] * expert(self.shared(x)) for i, expert in enumerate(self.experts))


class Balanced(Masked):
    """A loss is kept on the module."""

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        load = F.one_hot(gates.topk(2)[1], self.num_experts).to(x).mean((0, 1))
        self.loss = self.num_experts * (gates.mean(0) * load).sum()
        return super().mix(x)


class Returned(Balanced):
    """That loss is returned."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"y": super().forward(x), "loss": self.loss}


class Placed(Expert):
    def __init__(self, place: int):
        super().__init__()
        self.expert_idx = place


class ByOwnNumber(Listed):
    """Experts know their places."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(Placed(i) for i in range(4))

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(2)
        y = torch.zeros_like(x)
        for expert in self.experts:
            token, which = torch.where(chosen == expert.expert_idx)
            y.index_add_(0, token, expert(x[token]) * value[token, which, None])
        return y


class Named(Listed):
    """Experts that some token has chosen, by their names."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleDict({f"expert_{i}": Expert() for i in range(4)})

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(2)
        mask = F.one_hot(chosen, num_classes=self.num_experts).permute(2, 1, 0)
        y = torch.zeros_like(x)
        for hit in mask.sum((-1, -2)).gt(0).nonzero():
            which, token = torch.where(mask[hit].squeeze(0))
            y.index_add_(0, token, self.experts[f"expert_{hit[0]}"](x[token]) * value[token, which, None])
        return y


class HitAlone(Listed):
    """Experts that some token has chosen, from a list."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(2)
        mask = F.one_hot(chosen, num_classes=self.num_experts).permute(2, 1, 0)
        y = torch.zeros_like(x)
        for hit in mask.sum((-1, -2)).gt(0).nonzero():
            which, token = torch.where(mask[hit].squeeze(0))
            y.index_add_(0, token, self.experts[hit](x[token]) * value[token, which, None])
        return y


class ByMask(Listed):
    """Tokens by a mask of booleans."""

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        mask = torch.zeros_like(gates).scatter(1, gates.topk(2)[1], 1).bool()
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            y[mask[:, i]] += expert(x[mask[:, i]]) * gates[mask[:, i], i][:, None]
        return y


class Sorted(Listed):
    """Tokens sorted by their expert, split by how many each has."""

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).topk(2)
        flat, order = chosen.flatten().sort()
        counts = torch.bincount(flat, minlength=self.num_experts).tolist()
        made = [expert(rows) for expert, rows in zip(self.experts, x[order // 2].split(counts), strict=True)]
        return torch.zeros_like(x).index_add(0, order // 2, torch.cat(made) * value.flatten()[order, None])


class ExpertChoice(Listed):
    """Each expert chooses so many tokens."""

    room = 6

    def mix(self, x: Tensor) -> Tensor:
        gates = self.router(x).softmax(-1)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            value, chosen = gates[:, i].topk(self.room)
            y = y.index_add(0, chosen, expert(x[chosen]) * value[:, None])
        return y


class Dispatched(Listed):
    """Each expert has room for so many tokens."""

    room = 9

    def mix(self, x: Tensor) -> Tensor:
        value, chosen = self.router(x).softmax(-1).max(-1)
        mask = F.one_hot(chosen, self.num_experts)
        place = (mask.cumsum(0) * mask).sum(-1) - 1
        slots = F.one_hot(place.clamp(0, self.room - 1), self.room) * (place < self.room).unsqueeze(-1)
        dispatch = torch.einsum("te,ts->tes", mask.to(x), slots.to(x))
        given = torch.einsum("tes,tc->esc", dispatch, x)
        y = torch.stack([self.experts[i](given[i]) for i in range(self.num_experts)])
        return torch.einsum("tes,esc->tc", dispatch * value[:, None, None], y)


class Bank(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.list = nn.ModuleList(Expert() for _ in range(4))

    def forward(self, x: Tensor, gates: Tensor) -> Tensor:
        return sum(expert(x) * gates[:, i : i + 1] for i, expert in enumerate(self.list))


class Banked(Mixture):
    """The list is in a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.bank = Bank()

    def mix(self, x: Tensor) -> Tensor:
        return self.bank(x, self.router(x).softmax(-1))


SOFT = (Weighed, Together, Numbered, SoftTopK, Unbound, SharedFirst, Behind, Before, ExpertChoice, Dispatched, Banked)
SENT = (Masked, ByToken, WithShared, Balanced, Returned, ByOwnNumber, Named, HitAlone, ByMask, Sorted)


class Scaled(Expert):
    def __init__(self, by: float):
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return self.by * super().forward(x)


class OfTheirOwn(Masked):
    """Experts differ by more than their tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(Scaled(0.5 * i) for i in range(1, 5))


class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([member(x) for member in self.members]).mean(0)


class Branches(nn.Module):
    """A ResNeXt, written as a list."""

    def __init__(self, count: int = 4):
        super().__init__()
        self.count, self.embed, self.out = count, nn.Linear(3, 6), nn.Linear(6, 2)
        self.branches = nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 6)) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        return self.out(x + self.joined(x))

    def joined(self, x: Tensor) -> Tensor:
        return sum(branch(x) for branch in self.branches)


class Averaged(Branches):
    def joined(self, x: Tensor) -> Tensor:
        return super().joined(x) / len(self.branches)


class AveragedByNumber(Branches):
    def joined(self, x: Tensor) -> Tensor:
        y = torch.zeros_like(x)
        for i in range(self.count):
            y = y + self.branches[i](x)
        return y / self.count


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(3, 6), nn.Linear(6, 2)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv1d(6, 4, 1), nn.ReLU(), nn.Conv1d(4, 6, 3, padding=1)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).t().unsqueeze(0)
        return self.head(torch.stack([branch(x) for branch in self.branches]).sum(0)[0].t())


SETS = (Ensemble, Branches, Averaged, AveragedByNumber, Inception)


class Dilated(Inception):
    """Branches differ by what they are, not by their tensors alone."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv1d(6, 6, 3, padding=by, dilation=by) for by in range(1, 5))
