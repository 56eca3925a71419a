"""Which modules of a list matter most: measured, or without a measurement."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from tqdm import tqdm

from surgery.curves.score import as_score
from surgery.errors import InputError
from surgery.measuring.scoring import Validate
from surgery.modules.arguments import counted
from surgery.modules.inputs import Inputs, runs
from surgery.modules.labelled import Batch
from surgery.modules.modes import evaluating
from surgery.modules.outputs import named_tensors
from surgery.plan.groups import DEPTH, Group
from surgery.plan.runs import Run
from surgery.plan.runs import runs as steps_of
from surgery.refitting.statistics import batches_of
from surgery.twin.orders import keeping
from surgery.twin.setting import plan_of, runnable
from surgery.twin.statistics import calibrated

By: TypeAlias = Literal["iterative", "influence", "even", "last"]
Outputs: TypeAlias = "tuple[Inputs, dict[str, Tensor]]"  # a run, and what the whole model gives for it
Loss: TypeAlias = "Callable[[Collection[int]], float]"  # what a model loses that keeps these units alone


@counted()
def depth_order(
    wrapped: nn.Module,
    batches: Iterable[Batch] | None = None,
    *,
    by: By = "iterative",
    validate: Validate | None = None,
    groups: str = DEPTH,
    progress: bool = False,
) -> dict[str, list[int]]:
    """The modules of each list from the most to the least important: what `surgery.set_depth_order` takes.

    Each list is looked at with all others whole. Nothing is changed.

    Args:
        wrapped: a wrapped model, with `depth=`.
        batches: what the model runs on; labels may come with the inputs. Default: the batches that it was wrapped with
            (`calibration=`), else its example inputs. "even" and "last" need none.
        by: "iterative": the module goes first without which the least is lost, then the one without which, once that is
            gone, the least more is lost, and so on: n²/2 runs for n modules. "influence": what is lost without each
            module alone: n runs. "even": so that those that stay are spread evenly, the first and the last to the end.
            "last": the last goes first, as widths do; the best where training draws depths from the start.
        validate: a score of the model, the higher the better, as `surgery.sweep` takes it; it runs in eval mode.
            Default: minus how far outputs are from those of the whole model, as a share of their mean square.
        groups: a name, glob or kind: the groups to look at.
        progress: show a bar.

    Raises InputError for another `by`, where a group is no list of modules or the model was wrapped without any, and
    for a score that is not finite.
    """
    plan = plan_of(wrapped)
    if by not in ("iterative", "influence", "even", "last"):
        raise InputError(f'by is "iterative", "influence", "even" or "last", got {by!r}')
    names = plan.lists(groups) if plan.units.groups else []
    lists = [plan.groups[name] for name in names]
    if not lists or any(group.kind != DEPTH for group in lists):
        raise InputError(f"{plan.model} has no group of kind depth that {groups!r} selects: wrap it with depth=True")
    if by == "last":
        return {group.name: _last(group) for group in lists}
    if by == "even":
        return {group.name: _even(group) for group in lists}
    given = _runs(wrapped, batches) if validate is None else []
    with evaluating(wrapped), torch.no_grad(), tqdm(disable=not progress, desc="depth_order", unit=" runs") as bar:
        whole = [(run, _outputs(wrapped, run)) for run in given]
        return {group.name: _measured(group, _loss(wrapped, group, whole, validate, bar), by) for group in lists}


def _runs(wrapped: nn.Module, batches: Iterable[Batch] | None) -> list[Inputs]:
    if batches is not None:
        return batches_of(wrapped, batches)
    kept = calibrated(wrapped) or [examples for examples in [runnable(wrapped)] if examples is not None]
    return [run for examples in kept for run in runs(examples)]


def flat(runs: Iterable[Iterable[int]]) -> list[int]:
    """The units of several runs, one after another."""
    return list(itertools.chain.from_iterable(runs))


def _parts(group: Group) -> tuple[list[int], list[Run], list[int]]:
    """The units that must stay, those that go together, as neighbours of one step, and those that are no whole step."""
    found = steps_of(group.size, group.stays, group.granularity)
    if found is None:
        return list(range(group.size)), [], []
    held, free, short = found
    return flat(held), free, flat(short)


def _last(group: Group) -> list[int]:
    stays, blocks, odd = _parts(group)
    return [*stays, *flat(blocks), *odd]


def _even(group: Group) -> list[int]:
    """What must stay, the ends, then always those that are farthest from all before: nested, and spread."""
    stays, blocks, odd = _parts(group)
    order, left = list(stays), list(blocks)
    for end in (0, -1):
        if (blocks and not order) or (end and blocks and blocks[-1] in left):
            order += blocks[end]
            left.remove(blocks[end])
    while left:
        order += left.pop(left.index(max(left, key=lambda block: min(abs(block[0] - other) for other in order))))
    return [*order, *odd]


def _loss(
    wrapped: nn.Module, group: Group, whole: Sequence[Outputs], validate: Validate | None, bar: tqdm[object]
) -> Loss:
    """What a model loses that keeps some units of a group alone; `whole` are runs of the whole model."""

    def lost(units: Collection[int]) -> float:
        with keeping(wrapped, group.name, units):
            bar.update()
            if validate is not None:
                return -as_score(validate(wrapped)).value
            return sum(_apart(_outputs(wrapped, run), all_) for run, all_ in whole)

    return lost


def _measured(group: Group, lost: Loss, by: By) -> list[int]:
    stays, blocks, odd = _parts(group)
    there = set(range(group.size)) - set(odd)
    if by == "influence":
        without = [(lost(there - set(block)), block) for block in (blocks if len(blocks) + len(stays) > 1 else ())]
        return [*stays, *(unit for _, block in sorted(without, reverse=True) for unit in block), *odd]
    gone: list[Run] = []
    while len(blocks) > (not stays):
        left = there - set(flat(gone))
        first = min(blocks, key=lambda block: lost(left - set(block)))
        gone.append(first)
        blocks.remove(first)
    return [*stays, *flat(blocks), *flat(reversed(gone)), *odd]


def _outputs(model: nn.Module, run: Inputs) -> dict[str, Tensor]:
    plan = plan_of(model)
    found = named_tensors(model(*run.args, **run.kwargs), plan.outputs, plan.states)
    return {name: tensor.detach().clone() for name, tensor in found.items() if tensor.is_floating_point()}


def _apart(some: dict[str, Tensor], whole: dict[str, Tensor]) -> float:
    """How far outputs are apart: the mean square of the difference as a share of that of the whole model's.

    What a shorter model returns less of, such as the states between its layers, is no difference.
    """
    pairs = [(some[name], x) for name, x in whole.items() if name in some and some[name].shape == x.shape]
    return sum(float((a - b).float().square().mean() / b.float().square().mean().clamp_min(1e-12)) for a, b in pairs)
