"""What all modules of one twin share: its widths, the forward under way, and what that has to write back."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.weak import WeakTensorKeyDictionary

from surgery.modules.inputs import Batches, Placed
from surgery.plan.plan import Draw, Plan
from surgery.twin.backward import Backward
from surgery.twin.callers import COPIED_TO_AVERAGE, within

Widths = dict[str, int]
Listener: TypeAlias = "Callable[[Widths], object]"  # of each pass with gradients
Log: TypeAlias = "Callable[[dict[str, float], int], object]"  # of `log_to`: numbers by name, and the step


@dataclass
class Setting:
    """The widths that a twin runs at.

    Attributes:
        chosen: those that are set: what eval mode runs at.
        current: those that reads give now.
        full: whether these are the full ones.
        version: rises whenever `current` changes; what was made at another version is stale.
        pinned: `at_widths` blocks under way. Nothing is drawn inside of one.
        uncast: `own_precision` blocks under way. Autocast that a decorated forward switches on is off again inside.
    """

    chosen: Widths = field(default_factory=dict)
    current: Widths = field(default_factory=dict)
    full: bool = True
    version: int = 0
    pinned: int = 0
    uncast: int = 0

    def set_current(self, widths: Widths, full: Widths) -> None:
        self.version += widths != self.current
        self.current = widths
        self.full = widths == full

    def forget(self) -> None:
        """The same widths mean something else from now on: what was made at them is stale."""
        self.version += 1


@dataclass(eq=False)
class Pass:
    """One forward of a twin, and what of it is made again in its backward pass.

    One parameter has one slice in a pass: code that takes gradients by hand asks for them by identity.

    Attributes:
        slices: those that were read with gradients, by module and name, with the whole tensors and their versions.
        listed: those that `parameters()` has given.
        fast: what runs in place of the root's forward, in a twin that is compiled.
    """

    widths: Widths
    slices: dict[tuple[str, str], tuple[Tensor, int, Tensor]] = field(default_factory=dict)
    listed: set[tuple[str, str]] = field(default_factory=set)
    fast: Callable[..., Any] | None = None

    def slice_of(self, key: tuple[str, str], whole: Tensor) -> Tensor | None:
        """The slice that was read of a tensor, unless that has changed since."""
        known, version, value = self.slices.get(key, (None, -1, None))
        return value if known is whole and version == whole._version else None


@dataclass
class ForwardInProgress:
    """Which forwards run now, and whose gradients flow.

    Attributes:
        root: forwards of the root under way.
        depth: forwards of any module under way.
        whole_views: calls that mean whole parameters wherever they are made.
        now: the pass under way.
        recomputed: the pass that a backward pass has reached.
        without_gradients: forwards without gradients since the last one with them.
        backward: where several ranks train, what the backward pass under way has come to.
    """

    root: int = 0
    depth: int = 0
    whole_views: int = 0
    now: Pass | None = None
    recomputed: Pass | None = None
    without_gradients: int = 0
    backward: Backward = field(default_factory=Backward)

    def pass_(self) -> Pass | None:
        """The pass that code belongs to which reads a tensor now. Compiled code keeps no slices, and has none."""
        if torch.compiler.is_compiling():
            return None
        if self.now is not None:
            return self.now
        return self.recomputed if self.recomputed is not None and in_backward() else None


@dataclass
class WriteBack:
    """What forwards leave on modules.

    Attributes:
        storing: modules with attributes that forwards set.
        stored_at: the widths of the forward that has set them last.
        dirty: modules with tensors that are to be written back when the forward under way ends.
    """

    storing: list[nn.Module] = field(default_factory=list)
    stored_at: Widths | None = None
    dirty: list[nn.Module] = field(default_factory=list)


class Pending(Protocol):
    """What a twin without example inputs does at its first forward."""

    def first(self, twin: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None: ...


class Fast(Protocol):
    """What runs a compiled twin."""

    def at(self, twin: nn.Module, state: State, widths: Widths) -> Callable[..., Any] | None: ...
    def forget(self) -> None: ...


def full_width(plan: Plan, generator: torch.Generator) -> Mapping[str, int | float]:
    """The draw of a twin that is not trained."""
    return {}


@dataclass
class State:
    """What all modules of one twin share: the plan, how widths are drawn, and how things stand.

    Attributes:
        plan, examples: None before the first forward of a twin without example inputs, which `pending` waits for.
        placed: the float type and the device of the parameters when the examples were given.
        minimum: the smallest widths that are drawn.
        members, plain: the paths of the modules that follow the widths, and of those that have nothing to follow with.
        class_dims: for each loss that told it, the dimension of the classes, or its kind.
        slice_owners: the whole tensor of each slice that was read; only where modules hold tensors in containers.
        calibration: batches to estimate BatchNorm's statistics on, as they were given.
        norms, momenta: the BatchNorms that keep statistics, and their momenta when the model was wrapped.
        estimated: the widths that their statistics are of; None where they are mixed.
        counted, reset: statistics were updated; they were reset after that, and are estimated anew.
        averaged: it is the copy in a torch AveragedModel.
        waiting: a saved state that was loaded before there was a plan.
        last: the widths that were drawn last.
        warned: what was warned of once.
        eval_version: the versions of weights at the last forward in eval mode with gradients; `eval_learnt` says that a
            backward pass went through it.
        listeners: those that are told of passes.
        compiled: what runs the forward of the root at its widths, where that is compiled.
        log: the function of `log_to`; `steps` is how many training steps there were, `runs` how many forwards.
    """

    plan: Plan | None
    examples: Batches | None
    draw: Draw = full_width
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))
    placed: Placed | None = None
    minimum: Mapping[str, int] = field(default_factory=dict)
    pending: Pending | None = None
    setting: Setting = field(default_factory=Setting)
    forward: ForwardInProgress = field(default_factory=ForwardInProgress)
    writes: WriteBack = field(default_factory=WriteBack)
    members: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    class_dims: dict[Any, int | tuple[str, str]] = field(default_factory=dict)
    slice_owners: WeakTensorKeyDictionary | None = None
    calibration: tuple[Any, ...] = ()
    norms: list[_BatchNorm] = field(default_factory=list)
    momenta: list[float | None] = field(default_factory=list)
    estimated: Widths | None = None
    counted: bool = False
    reset: bool = False
    averaged: bool = False
    waiting: dict[str, Any] | None = None
    last: Widths | None = None
    warned: set[str] = field(default_factory=set)
    eval_version: dict[int, int] | None = None
    eval_learnt: bool = False
    listeners: list[Listener] = field(default_factory=list)
    compiled: Fast | None = None
    log: Log | None = None
    steps: int = 0
    runs: int = 0

    @property
    def inside(self) -> bool:
        """Whether a forward is under way, or recomputed: a backward pass has gradients switched on only for that."""
        forward = self.forward
        if forward.whole_views:
            return False
        recomputing = forward.recomputed is not None and in_backward() and torch.is_grad_enabled()
        return bool(forward.root or forward.depth) or recomputing

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, `parameters()` and its kin give whole tensors."""
        self.forward.whole_views += 1
        try:
            yield
        finally:
            self.forward.whole_views -= 1

    def set_current(self, widths: Widths) -> None:
        """Make `widths` those that reads give."""
        self.setting.set_current(widths, {} if self.plan is None else self.plan.full())

    def put_order(self, plan: Plan) -> None:
        """Have a plan that is the same but for the order of modules: widths mean others of them from now on."""
        if self.estimated is not None and self.estimated != plan.full():
            self.estimated = None
        self.plan = plan
        self.setting.forget()
        if self.compiled is not None:
            self.compiled.forget()
        self.set_current(self.setting.chosen)

    def sync(self) -> None:
        """Outside a forward: the widths that are set, or in a backward pass those of the forward that it reached."""
        if not self.forward.root:
            reached = self.forward.recomputed
            widths = reached.widths if reached is not None and in_backward() else self.setting.chosen
            if widths is not self.setting.current:  # every read of an attribute comes here
                self.set_current(widths)

    def passed(self, widths: Widths) -> None:
        """A forward begins: whoever listens is told, if gradients may flow back."""
        if self.listeners and torch.is_grad_enabled():
            for listener in self.listeners:
                listener(widths)

    @contextlib.contextmanager
    def using(self, widths: Widths) -> Iterator[None]:
        before = self.setting.current
        self.set_current(widths)
        try:
            yield
        finally:
            self.set_current(before)

    def drawn(self, draw: Draw | None = None) -> Widths:
        """Widths for one training forward, of the twin's own draw or another one."""
        assert self.plan is not None
        drawn = (draw or self.draw)(self.plan, self.generator)
        if self.plan.ties and isinstance(drawn, Mapping):  # a draw that knows no ties gives each group its own
            spare = {n for tie in self.plan.ties for n in [name for name in tie.groups if name in drawn][1:]}
            drawn = {name: value for name, value in drawn.items() if name not in spare}
        widths = self.plan.widths(drawn)
        self.last = {name: max(width, self.minimum.get(name, 1)) for name, width in widths.items()}
        return self.last

    def __deepcopy__(self, memo: dict[int, Any]) -> State:
        memo[id(self)] = new = State.__new__(State)
        shared = ("plan", "pending", "calibration")
        new.__setstate__({k: v if k in shared else copy.deepcopy(v, memo) for k, v in self.__getstate__().items()})
        new.averaged = new.averaged or within(COPIED_TO_AVERAGE)
        return new

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to forwards under way."""
        state = dict(vars(self))
        state["generator"] = (str(self.generator.device), self.generator.get_state())
        state["setting"] = Setting(self.setting.chosen, self.setting.current, self.setting.full, self.setting.version)
        state["forward"] = ForwardInProgress(without_gradients=self.forward.without_gradients)
        state["log"], state["compiled"], state["listeners"] = None, None, []
        state["writes"] = WriteBack(self.writes.storing, self.writes.stored_at)
        state["slice_owners"] = self.slice_owners is not None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        device, generator = state["generator"]
        vars(self).update(state, generator=torch.Generator(device))
        self.generator.set_state(generator)
        self.slice_owners = WeakTensorKeyDictionary() if state["slice_owners"] else None


def in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1
