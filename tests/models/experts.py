"""Mixtures of experts: routed by masks, stacked in one tensor, and mixed softly.

B batch, N tokens, C features, E experts, H hidden.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from .case import case, normal


class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.w1, self.w3 = nn.Linear(dim, hidden, bias=False), nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class MaskedTopK(nn.Module):
    """Every expert runs on every token; a mask of the two best keeps what the router wants."""

    def __init__(self, dim=18, hidden=22, experts=4, best=2):
        super().__init__()
        self.best = best
        self.embed = nn.Linear(9, dim)
        self.router = nn.Linear(dim, experts, bias=False)
        self.experts = nn.ModuleList([Expert(dim, hidden) for _ in range(experts)])
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        weight, chosen = self.router(x).softmax(dim=-1).topk(self.best, dim=-1)
        weight = weight / weight.sum(dim=-1, keepdim=True)
        y = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            y = y + (weight * (chosen == i)).sum(dim=-1, keepdim=True) * expert(x)
        return self.out(x + y)


class SoftExperts(nn.Module):
    """All experts on all tokens, in stacked tensors, by `bmm`; their outputs are weighed with a sigmoid each."""

    def __init__(self, dim=18, hidden=22, experts=5):
        super().__init__()
        self.up = nn.Parameter(torch.empty(experts, dim, hidden))
        self.up_bias = nn.Parameter(torch.empty(experts, 1, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, dim))
        self.embed = nn.Linear(9, dim)
        self.router = nn.Linear(dim, experts)
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        flat = x.reshape(-1, x.shape[-1])
        copies = flat.unsqueeze(0).expand(self.up.shape[0], -1, -1)
        y = torch.bmm(F.gelu(torch.bmm(copies, self.up) + self.up_bias), self.down)
        gates = torch.sigmoid(self.router(flat))
        return self.out(x + (y * gates.t().unsqueeze(-1)).sum(dim=0).view_as(x))


class Slots(nn.Module):
    """Soft MoE: each expert gets a slot that is a mean of all tokens, and each token a mean of all slots."""

    def __init__(self, dim=18, hidden=22, experts=5, slots=3):
        super().__init__()
        self.embed = nn.Linear(9, dim)
        self.phi = nn.Parameter(torch.empty(dim, experts, slots))
        self.up = nn.Parameter(torch.empty(experts, dim, hidden))
        self.down = nn.Parameter(torch.empty(experts, hidden, dim))
        self.out = nn.Linear(dim, 6)

    def forward(self, x):
        x = self.embed(x)
        logits = torch.einsum("bnc,ces->bnes", x, self.phi)
        slots = torch.einsum("bnes,bnc->besc", logits.softmax(dim=1), x)
        y = torch.einsum("besh,ehc->besc", torch.relu(torch.einsum("besc,ech->besh", slots, self.up)), self.down)
        combine = logits.flatten(2).softmax(dim=-1).view(logits.shape)
        return self.out(x + torch.einsum("bnes,besc->bnc", combine, y))


TRICKY = (
    case("moe_masked_topk", MaskedTopK, normal(2, 7, 9)),
    case("moe_soft", SoftExperts, normal(2, 7, 9)),
    case("moe_slots", Slots, normal(2, 7, 9)),
)
