"""What readers of axes see: Gram matrices of the inputs of every site, from one pass of the full model."""

# R rows, I columns of a weight, O outputs; with a bias, a column of ones is the last

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from surgery.axes.layout import units
from surgery.errors import InputError
from surgery.modules.copying import copy_tree
from surgery.modules.inputs import Inputs, runs
from surgery.modules.labelled import Batch
from surgery.modules.tree import named_parameters
from surgery.plan.plan import Plan
from surgery.refitting.sites import Listener, Site, Visit
from surgery.twin.plain import strip
from surgery.twin.statistics import fitting

M = TypeVar("M", bound=nn.Module)
ROWS = 8192  # of a site, in all batches together
WIDEST = 16384  # columns: a Gram matrix of so many takes 2 GiB


@dataclass
class Gram:
    """The inputs of one site: the mean of their products (I, I) in float64, and the weight (O, I) that reads them."""

    site: Site
    outputs: slice  # of the weight that is a parameter, those that are here
    weight: Tensor
    places: int  # of a kernel, for each channel
    sums: Tensor
    rows: int = 0

    def add(self, rows: Tensor) -> None:
        """Count some rows in. They are multiplied in float32 at least."""
        x = with_ones(rows, self.site)
        x = x.float() if x.dtype.itemsize < 4 else x
        self.sums += (x.T @ x).double().cpu()
        self.rows += len(x)

    @property
    def mean(self) -> Tensor:
        return self.sums / max(1, self.rows)

    def owners(self, plan: Plan, group: str) -> Tensor:
        """(I) the unit of a group that each column belongs to; -1 where it belongs to none."""
        channels = units(plan.layouts[self.site.weight][self.site.inside], group).repeat_interleave(self.places)
        return channels if self.site.bias is None else torch.cat([channels, torch.tensor([-1])])

    def made(self, plan: Plan, group: str) -> Tensor:
        """(O) the unit of a group that each output makes; -1 where it makes none."""
        return units(plan.layouts[self.site.weight][self.site.out], group)[self.outputs]


def with_ones(rows: Tensor, site: Site) -> Tensor:
    """Rows, with a one for the bias."""
    return rows if site.bias is None else torch.cat([rows, rows.new_ones(len(rows), 1)], 1)


def batches_of(wrapped: nn.Module, batches: Iterable[Batch]) -> list[Inputs]:
    """Batches as calls of a twin, without labels that a DataLoader gives. Raises InputError where there are none."""
    if isinstance(batches, Tensor | Mapping | Inputs) or not isinstance(batches, Iterable):
        raise InputError(f"give several batches of inputs, got one {type(batches).__name__}: put it into a list")
    found = [run for batch in fitting(wrapped, batches) for run in runs(batch)]
    if not found:
        raise InputError("there are no batches: give a few batches of inputs, without labels")
    return found


WHOLE: Mapping[str, int] = MappingProxyType({})


def parameters_of(model: nn.Module, plan: Plan, widths: Mapping[str, int] = WHOLE) -> dict[str, nn.Parameter]:
    """The parameters of a model, by their names in a plan; of one at some widths those that it has."""
    if not lacks_modules(plan, widths):
        return {plan.canonical(name): parameter for name, parameter in named_parameters(model)}
    own = dict(model.named_parameters(remove_duplicate=False))
    called = {name: plan.units.name(name, widths) for name in plan.parameters}
    return {name: own[short] for name, short in called.items() if short in own}


def names_of(model: nn.Module, plan: Plan, widths: Mapping[str, int] = WHOLE) -> dict[int, str]:
    """The names of parameters in a plan, by their ids."""
    return {id(parameter): name for name, parameter in parameters_of(model, plan, widths).items()}


def lacks_modules(plan: Plan, widths: Mapping[str, int]) -> bool:
    """Whether modules are left out at these widths, so that others have moved up."""
    return any(widths.get(name, group.size) < group.size for name, group in plan.units.groups.items())


def picked(visit: Visit, rows: int, batch: int) -> Tensor:
    """Which rows of a visit are looked at: the same for every model that runs on a batch."""
    if visit.count <= rows:
        return torch.arange(visit.count)
    seed = zlib.crc32(f"{visit.site.weight} {batch}".encode())
    return torch.randperm(visit.count, generator=torch.Generator().manual_seed(seed))[:rows].sort().values


def whole(visit: Visit, parameters: Mapping[str, Tensor]) -> Tensor:
    """(O, I) the weight of a site as a matrix, with its bias as the last column."""
    site = visit.site
    matrix = site.matrix(parameters[site.weight].detach()[visit.outputs])
    return matrix if site.bias is None else torch.cat([matrix, parameters[site.bias].detach()[visit.outputs, None]], 1)


@torch.no_grad()
def gather(model: nn.Module, plan: Plan, batches: Sequence[Inputs]) -> list[Gram]:
    """The inputs of every site whose weight a plan cuts, and no other call uses. The model runs as it is."""
    found: dict[Site, Gram] = {}
    names, rows, others = names_of(model, plan), -(-ROWS // len(batches)), set[str]()
    parameters, first = parameters_of(model, plan), dict[str, Site]()

    def visited(batch: int, visit: Visit) -> None:
        site = visit.site
        if site.weight not in plan.cut_tensors:
            return
        if site not in found:
            weight = whole(visit, parameters).double().cpu()
            if weight.shape[1] > WIDEST:
                return
            places = parameters[site.weight][0, 0].numel()
            sums = torch.zeros(weight.shape[1], weight.shape[1], dtype=torch.float64)
            found[site] = Gram(site, visit.outputs, weight, places, sums)
        if replace(site, group=0) != first.setdefault(site.weight, replace(site, group=0)):
            others.add(site.weight)
            return
        found[site].add(visit.rows(picked(visit, rows, batch)))

    for number, run in enumerate(batches):
        with Listener(names, partial(visited, number)) as listener:
            model(*run.args, **run.kwargs)
        others |= listener.others
    for site, gram in found.items():
        check_finite(site.weight, gram.sums)
    return [gram for site, gram in found.items() if site.weight not in others]


def check_finite(weight: str, sums: Tensor) -> None:
    """Raises InputError where what a weight was given holds NaN or infinity."""
    if not bool(sums.isfinite().all()):
        raise InputError(f"{weight} is given NaN or infinity on these batches: leave out the inputs that make it")


def apart(model: M) -> M:
    """A plain copy over the same parameters, with buffers of its own: what it keeps of a run stays off `model`."""
    return strip(copy_tree(model, lambda _, x: x if isinstance(x, nn.Parameter) else x.detach().clone()))
