"""`wrap`: a trainable twin that runs at any width; and `inspect`: what it would cut."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import nn

from surgery.errors import InputError
from surgery.modules.arguments import counted
from surgery.modules.copying import copy_tree
from surgery.modules.engines import is_changed
from surgery.modules.inputs import Examples, Inputs, detached, placed
from surgery.modules.labelled import Batch, taken
from surgery.modules.outputs import Outputs
from surgery.modules.sharded import whole
from surgery.plan.plan import Draw, Plan
from surgery.plan.selecting import Patterns
from surgery.plan.ties import TieSpec
from surgery.planning.make import make_plan
from surgery.planning.supported import check_model
from surgery.training.draws import DEFAULT, check_draw
from surgery.training.resuming import check_waiting, settle_waiting
from surgery.twin.elastic import Elastic, is_wrapped, state_of
from surgery.twin.foreign import check_forwards
from surgery.twin.install import enter, install
from surgery.twin.plain import strip
from surgery.twin.setting import plan_of
from surgery.twin.state import State
from surgery.twin.statistics import calibrated

M = TypeVar("M", bound=nn.Module)


@counted()
def wrap(
    model: M,
    example_inputs: Examples | None = None,
    *,
    fixed: str | Iterable[str] = (),
    only: str | Iterable[str] = (),
    granularity: int | Mapping[str, int] = 1,
    minimum: int | Mapping[str, int] | None = None,
    draw: Draw | None = None,
    generator: torch.Generator | None = None,
    rehearse: bool = True,
    calibration: Iterable[Batch] | None = None,
    tie: TieSpec = (),
    outputs: Outputs = (),
    depth: Patterns = False,
    experts: Patterns = False,
) -> M:
    """A twin of `model` that draws its widths at every training forward; `model` stays as it is.

    The twin is a new module tree over the same parameters and buffers: train it, and `model` follows. It has the class,
    module paths and state_dict keys of `model`. In eval mode it runs at the widths that are set, full at first.

    Args:
        model: any nn.Module.
        example_inputs: a tensor, a tuple (positional arguments), a dict (keyword arguments), `surgery.inputs(...)` or
            `surgery.batches([...])`. Without it, the model is analysed at the twin's first forward.
        fixed: globs over group names, module paths or kinds (see `surgery.Group`) to keep at full width.
        only: globs, module paths or kinds to make elastic; everything else is kept at full width.
        granularity: widths are multiples of this; an int, or a mapping of globs to ints.
        minimum: the smallest width that is drawn; an int, or a mapping of globs to ints. Default: the granularity.
        draw: how widths are drawn, see `surgery.paper`. Default: full width half of the time, else one of 1/8, 1/4 and
            1/2 for all groups; in a quarter of the forwards for each group by itself.
        generator: a seeded CPU generator for the draws. Default: a new one with seed 0.
        rehearse: run the twin at full, smallest and mixed widths before the plan is believed; what fails is pinned.
            Without it planning is quicker, and such faults are found by `shrink`, or by a training forward.
        calibration: batches of training inputs, for a model with BatchNorm: `sweep`, `search`, `sensitivity`,
            `progress` and `shrink` estimate its statistics on them at each width, the full one too. A list is kept as
            it is, of a DataLoader the first 16 batches; labels may come with the inputs.
        tie: groups that have one fraction of their sizes wherever widths are drawn, set, searched or cut: a glob, a
            module path or a kind (`"ffn"`: all feed-forward widths alike), or a list of these, each a tie of its own,
            in which a list is one tie of several. `"config"`: as the model's configuration can say, so that every
            small model is one that `save_pretrained` takes; what it cannot say keeps its full width.
        outputs: the parts of what the model returns that count: names (`"logits"`), indices, or a function that picks
            them (`lambda out: out.logits`). What only the others need is free to be cut: they come out narrower.
            Default: all.
        depth: lists of modules that run one after another, such as layers, become groups too, of kind "depth": any of
            them may be left out. True for all, or globs over group names or module paths; a mapping of these gives each
            its order of importance, as `surgery.set_depth_order` takes it. Default: they stay as they are, and the plan
            names them.
        experts: what stands side by side becomes a group too, of kind "experts": an axis along which a router chooses,
            with the modules that it chooses, and modules whose results are added up or averaged. It is told by
            experiment: on other weights, another order must change nothing. True for all, or globs as for `depth`.
            Default: they stay as they are, and the plan names them.

    Raises InputError for a model that is wrapped or parallelised already, or that has nothing to cut; CaptureError
    where the model does not run on the example inputs; WidthError for a name that no group has.
    """
    check_model(model)
    if is_wrapped(model):
        raise InputError(f"{type(model).__name__} is wrapped already: use it as it is, or surgery.unwrap it first")
    draw = DEFAULT if draw is None else draw
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    check_draw(draw)
    if not isinstance(generator, torch.Generator) or generator.device.type != "cpu":
        raise InputError(f"generator is a torch.Generator on the CPU, got {generator!r}")
    twin = copy_tree(model, lambda _, tensor: tensor)
    state = State(None, None, draw, generator)
    state.calibration = () if calibration is None else taken(calibration, "calibration")

    prepare = _Preparation(fixed, only, granularity, minimum, rehearse, tie, outputs, depth, experts)
    if example_inputs is not None:
        prepare(twin, model, state, example_inputs)
        calibrated(twin)  # batches that it cannot be run on are refused here
    else:
        state.pending = prepare
        enter(twin, Elastic(state, "", type(twin)))
    return twin


@dataclass(frozen=True)
class _Preparation:
    """What makes a copy of a model elastic; for a twin without example inputs, at its first forward."""

    fixed: str | Iterable[str]
    only: str | Iterable[str]
    granularity: int | Mapping[str, int]
    minimum: int | Mapping[str, int] | None
    rehearse: bool
    tie: TieSpec
    outputs: Outputs
    depth: Patterns
    experts: Patterns

    def __call__(self, twin: nn.Module, model: nn.Module, state: State, examples: Examples) -> None:
        plan = make_plan(
            model, examples, self.fixed, self.only, self.granularity, self.rehearse, self.tie, self.outputs,
            self.depth, self.experts,
        )  # fmt: skip
        check_waiting(twin, plan, state)
        install(twin, plan, state, self.minimum)
        for note in plan.notes:
            if note.startswith("granularity:"):
                warnings.warn(note, UserWarning, stacklevel=4)
        state.examples, state.pending = detached(examples), None
        state.placed = placed(model.parameters())
        settle_waiting(twin, state)

    def first(self, twin: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if any(map(is_changed, twin.modules())):
            raise InputError(
                f"{type(twin).__name__} was spread over ranks before its first forward, at which it would have been "
                "analysed: give wrap example inputs"
            )
        self(twin, unwrap(twin), state_of(twin), Inputs(args, kwargs))


def unwrap(wrapped: M) -> M:
    """A plain model at full width over the same parameters and buffers. Raises InputError if it is not wrapped.

    Parameters that are sharded over ranks (FSDP2) are gathered, on every rank: those of the plain model are copies.
    """
    state = state_of(wrapped)
    check_forwards(wrapped)
    return strip(copy_tree(wrapped, lambda _, tensor: whole(tensor), {id(state): state}))


@counted()
def inspect(
    model: nn.Module,
    example_inputs: Examples | None = None,
    *,
    rehearse: bool = True,
    outputs: Outputs = (),
    depth: Patterns = False,
    experts: Patterns = False,
) -> Plan:
    """What can change its width in a model, and what cannot and why. Print it: it is a table.

    Args:
        model: any nn.Module; it stays as it is. A wrapped model has its plan already.
        example_inputs: as for `surgery.wrap`. A wrapped model needs none.
        rehearse, outputs, depth, experts: as for `surgery.wrap`.

    Raises InputError or CaptureError where the model cannot be analysed on these inputs.
    """
    if is_wrapped(model):
        return plan_of(model)
    if example_inputs is None:
        check_model(model)
        raise InputError(f"{type(model).__name__} is not wrapped: give example inputs to analyse it on")
    return make_plan(model, example_inputs, rehearse=rehearse, outputs=outputs, depth=depth, experts=experts)
