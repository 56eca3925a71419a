"""Orders of units by what their readers would lose without them."""

# U units, B columns of a unit, I columns of a site, O its outputs

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from surgery.modules.labelled import Batch
from surgery.modules.modes import evaluating
from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from surgery.refitting.statistics import Gram, batches_of, gather
from surgery.twin.setting import at_widths

Readers: TypeAlias = "list[tuple[Gram, Tensor]]"  # each with the unit of every column
Score: TypeAlias = "Callable[[Group, Readers], Tensor]"
RIDGE = 1e-3  # of the mean square of a column
STEPS = 48  # in which the units of a group go, each a share of those that are left


@dataclass(frozen=True)
class Activation:
    """What a unit says times how much its readers listen; see `activation`."""

    batches: Iterable[Batch]

    def __call__(self, wrapped: nn.Module, plan: Plan) -> dict[str, Tensor]:
        return _scores(wrapped, plan, self.batches, _listened)


def activation(batches: Iterable[Batch]) -> Activation:
    """Importance by what a unit says, times how much its readers listen.

    That is the root mean square of a unit's values, times the norm of the weights that read it, as a share of that of
    all units, in the mean over its readers (linear maps, convolutions). Groups without such readers keep their order.

    Args:
        batches: inputs of the model, without labels, as in use.
    """
    return Activation(batches)


@dataclass(frozen=True)
class Absorbed:
    """What the readers of a unit cannot make up for; see `absorbed`."""

    batches: Iterable[Batch]

    def __call__(self, wrapped: nn.Module, plan: Plan) -> dict[str, Tensor]:
        return _scores(wrapped, plan, self.batches, _removed)


def absorbed(batches: Iterable[Batch]) -> Absorbed:
    """Importance by what the readers of a unit cannot make up for (optimal brain surgeon, Hassibi & Stork 1992).

    Units go one after another: first the one whose loss its readers (linear maps and convolutions) absorb best when
    they are refitted by least squares to the units that are left. So of two units that say the same, one goes early.
    Groups without such readers keep their order.

    Args:
        batches: inputs of the model, without labels, as in use. A few thousand rows (positions of texts or images) do.
    """
    return Absorbed(batches)


def _scores(wrapped: nn.Module, plan: Plan, batches: Iterable[Batch], score: Score) -> dict[str, Tensor]:
    with evaluating(wrapped), at_widths(wrapped, 1.0):
        grams = gather(wrapped, plan, batches_of(wrapped, batches))
    found = {}
    for name, group in plan.groups.items():
        readers = [(gram, owners) for gram in grams.values() if bool(((owners := gram.owners(plan, name)) >= 0).any())]
        if readers:
            found[name] = score(group, readers)
    return found


def _listened(group: Group, readers: Readers) -> Tensor:
    total = torch.zeros(group.size, dtype=torch.float64)
    for gram, owners in readers:
        energy = gram.mean.diagonal() * gram.weight.square().sum(0)
        units = torch.zeros(group.size, dtype=torch.float64)
        units.index_add_(0, owners[owners >= 0], energy[owners >= 0])
        total += (units / units.sum().clamp_min(torch.finfo(torch.float64).tiny)).sqrt()
    return total


class _Reader:
    """One reader while units go: what is left of its inputs, the inverse of their Gram matrix, and its weight now."""

    def __init__(self, gram: Gram, owners: Tensor):
        mean = gram.mean
        ridge = RIDGE * mean.diagonal().mean()
        self.scale = (gram.weight @ mean * gram.weight).sum().clamp_min(torch.finfo(torch.float64).tiny)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(mean + ridge * torch.eye(len(mean)).double()))
        self.weight, self.owners = gram.weight, owners

    def losses(self, units: Tensor) -> Tensor:
        """(U) what the output loses at least without each of these units, as a share of its energy."""
        order = self.owners.argsort(stable=True)
        known = self.owners[order]
        columns = order[torch.isin(known, units)].view(len(units), -1)  # (U, B), as units are sorted
        if columns.shape[1] == 1:
            alone = columns[:, 0]
            found = self.weight[:, alone].square().sum(0) / self.inverse.diagonal()[alone]
            return found / self.scale
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        weights = self.weight[:, columns].movedim(1, 0)  # (U, O, B)
        solved: Tensor = torch.linalg.solve(blocks, weights, left=False)
        return (solved * weights).sum((1, 2)) / self.scale

    def remove(self, units: Tensor) -> None:
        gone = torch.isin(self.owners, units)
        out, left = gone.nonzero()[:, 0], (~gone).nonzero()[:, 0]
        across = torch.linalg.solve(self.inverse[out][:, out], self.inverse[out][:, left])
        self.weight = self.weight[:, left] - self.weight[:, out] @ across
        self.inverse = self.inverse[left][:, left] - self.inverse[left][:, out] @ across
        self.owners = self.owners[left]


def _removed(group: Group, readers: Readers) -> Tensor:
    """(U) the number of the turn in which each unit goes, the first to go first."""
    known = [_Reader(*reader) for reader in readers]
    left, turn = torch.arange(group.size), torch.zeros(group.size, dtype=torch.float64)
    gone = 0
    while len(left) > 1:
        losses = torch.stack([reader.losses(left) for reader in known]).sum(0)
        go = losses.argsort(stable=True)[: max(1, len(left) // STEPS)]
        turn[left[go]] = torch.arange(gone, gone + len(go), dtype=torch.float64)
        gone += len(go)
        going = left[go].sort().values
        for reader in known:
            reader.remove(going)
        left = left[~torch.isin(left, going)]
    turn[left] = group.size
    return turn
