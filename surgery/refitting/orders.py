"""Orders of units by what their readers would lose without them."""

# U units, B columns of a unit, I columns of a site, O its outputs

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from surgery.modules.labelled import Batch
from surgery.plan.groups import Group
from surgery.plan.plan import Plan
from surgery.refitting.statistics import Gram, apart, batches_of, gather

Readers: TypeAlias = "list[tuple[Gram, Tensor]]"  # each with the unit of every column
Score: TypeAlias = "Callable[[Group, Readers], Tensor]"
RIDGE = 1e-3  # of the mean square of a column
TINY = 1e-30  # where all inputs are zero
STEPS = 48  # the units of a group go in shares of one in so many of those that are left
AMONG = 4  # and of so many candidates for each


@dataclass(frozen=True)
class ByReaders:
    """Importance by a score over the readers of each group; where there are none, by what units say."""

    batches: Iterable[Batch]
    score: Score

    def __call__(self, wrapped: nn.Module, plan: Plan) -> dict[str, Tensor]:
        grams = gather(apart(wrapped).eval(), plan, batches_of(wrapped, self.batches))
        found = {}
        for name, group in plan.groups.items():
            readers = _having((gram, gram.owners(plan, name)) for gram in grams)
            makers = _having((gram, gram.made(plan, name)) for gram in grams)
            if readers:
                found[name] = self.score(group, readers)
            elif makers:
                found[name] = _said(group, makers)
        return found


def _having(readers: Iterable[tuple[Gram, Tensor]]) -> Readers:
    """Those in which some column or output belongs to a unit."""
    return [(gram, owners) for gram, owners in readers if bool((owners >= 0).any())]


def activation(batches: Iterable[Batch]) -> ByReaders:
    """Importance by what a unit says, times how much its readers listen.

    That is the root mean square of a unit's values, times the norm of the weights that read it, as a share of that of
    all units, in the mean over its readers (linear maps, convolutions). Where it has none, as the width of queries and
    keys, it is the product of what its makers say.

    Args:
        batches: inputs of the model, without labels, as in use.
    """
    return ByReaders(batches, _listened)


def absorbed(batches: Iterable[Batch]) -> ByReaders:
    """Importance by what the readers of a unit cannot make up for (optimal brain surgeon, Hassibi & Stork 1992).

    Units go one after another: first the one whose loss its readers (linear maps and convolutions) absorb best when
    they are refitted by least squares to the units that are left. So of two units that say the same, one goes early.
    Groups without such readers are ordered as by `activation`.

    Args:
        batches: inputs of the model, without labels, as in use. A few thousand rows (positions of texts or images) do.
    """
    return ByReaders(batches, _removed)


def _listened(group: Group, readers: Readers) -> Tensor:
    total = torch.zeros(group.size, dtype=torch.float64)
    for gram, owners in readers:
        energy = gram.mean.diagonal() * gram.weight.square().sum(0)
        units = _per_unit(energy, owners, group)
        total += (units / units.sum().clamp_min(torch.finfo(torch.float64).tiny)).sqrt()
    return total


def _said(group: Group, makers: Readers) -> Tensor:
    """(U) the root mean square of what a unit says, multiplied over all that make it: a query and its key."""
    total = torch.zeros(group.size, dtype=torch.float64)
    for gram, owners in makers:
        energy = (gram.weight @ gram.mean * gram.weight).sum(1)
        units = _per_unit(energy, owners, group)
        total += (units / units.mean().clamp_min(TINY)).clamp_min(TINY).log() / 2
    return total.exp()


def _per_unit(energy: Tensor, owners: Tensor, group: Group) -> Tensor:
    """(U) the energy of the columns or outputs that belong to each unit."""
    units = torch.zeros(group.size, dtype=torch.float64)
    return units.index_add_(0, owners[owners >= 0], energy[owners >= 0])


@dataclass
class _Reader:
    """One reader while units go: the inverse of its inputs' Gram matrix, its weight, and the unit of each column."""

    inverse: Tensor
    weight: Tensor
    owners: Tensor
    scale: Tensor  # the energy of its output

    def part(self, units: Tensor) -> _Reader:
        """What of it is about some units: enough to know what they lose as some of them go."""
        mine = torch.isin(self.owners, units).nonzero()[:, 0]
        return _Reader(self.inverse[mine][:, mine], self.weight[:, mine], self.owners[mine], self.scale)

    def losses(self, units: Tensor) -> Tensor:
        """(U) what the output loses at least without each of these units, as a share of its energy. `units` ascend."""
        order = self.owners.argsort(stable=True)
        columns = order[torch.isin(self.owners[order], units)].view(len(units), -1)  # (U, B)
        if columns.shape[1] == 1:
            found = self.weight[:, columns[:, 0]].square().sum(0) / self.inverse.diagonal()[columns[:, 0]]
            return found / self.scale
        blocks = self.inverse[columns[:, :, None], columns[:, None, :]]
        weights = self.weight[:, columns].movedim(1, 0)  # (U, O, B)
        solved: Tensor = torch.linalg.solve(blocks, weights, left=False)
        return (solved * weights).sum((1, 2)) / self.scale

    def remove(self, units: Tensor) -> None:
        """Let units go; the columns that are left take over what they can."""
        gone = torch.isin(self.owners, units)
        out, left = gone.nonzero()[:, 0], (~gone).nonzero()[:, 0]
        across = torch.linalg.solve(self.inverse[out][:, out], self.inverse[out][:, left])
        self.weight = self.weight[:, left] - self.weight[:, out] @ across
        self.inverse = self.inverse[left][:, left] - self.inverse[left][:, out] @ across
        self.owners = self.owners[left]


def _reader(gram: Gram, owners: Tensor) -> _Reader:
    mean = gram.mean
    damped = mean + (RIDGE * mean.diagonal().mean() + TINY) * torch.eye(len(mean)).double()
    scale = (gram.weight @ mean * gram.weight).sum().clamp_min(torch.finfo(torch.float64).tiny)
    return _Reader(torch.cholesky_inverse(torch.linalg.cholesky(damped)), gram.weight, owners, scale)


def _removed(group: Group, readers: Readers) -> Tensor:
    """(U) the number of the turn in which each unit goes, the first to go first.

    The next to go is looked for among a few of those that lose least; all others hear of it when a share has gone.
    """
    known = [_reader(*reader) for reader in readers]
    left, gone = torch.arange(group.size), list[int]()
    while len(left) > 1:
        many = max(1, len(left) // STEPS)
        losses = torch.stack([reader.losses(left) for reader in known]).sum(0)
        few = left[losses.argsort(stable=True)[: many * AMONG]].sort().values
        going = _first(few, many, [reader.part(few) for reader in known]) if many > 1 else left[losses.argmin()][None]
        gone += going.tolist()
        for reader in known:
            reader.remove(going)
        left = left[~torch.isin(left, going)]
    turn = torch.zeros(group.size, dtype=torch.float64)
    turn[[*gone, *left.tolist()]] = torch.arange(group.size, dtype=torch.float64)
    return turn


def _first(units: Tensor, count: int, parts: list[_Reader]) -> Tensor:
    """The first of some units to go, one after another."""
    gone = []
    for _ in range(count):
        losses = torch.stack([part.losses(units) for part in parts]).sum(0)
        gone.append(units[losses.argmin()][None])
        for part in parts:
            part.remove(gone[-1])
        units = units[units != gone[-1]]
    return torch.cat(gone)
