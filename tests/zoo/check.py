"""What it means that a model passes: the laws, on one real architecture, from its example inputs alone."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import surgery
from surgery.modules.inputs import Inputs, tensors
from surgery.modules.tensors import aliases, parts_of
from surgery.modules.verify import output
from surgery.shrinking.record import RECORD
from surgery.shrinking.shrink import tolerance_of
from tests.laws import laws

from . import memory
from .entry import Built, Entry, cast
from .modules import check_modules
from .outputs import with_lines
from .record import LOW, Record, main_reasons, stage
from .stir import stir

Tell = Callable[[Record], None]
RANDOM = 3  # mixed width vectors
SLOW = 2.0  # seconds; a plan that takes longer is made once, without a run to warm up


def check(entry: Entry, tell: Tell = lambda record: None) -> Record:
    """Check one model. Stages that do not depend on a failed one are still tried; `tell` hears of each stage."""
    record = Record(entry.suite, entry.name)
    start, default = time.perf_counter(), torch.get_default_dtype()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own: they are about other things
            _check(entry, record, tell)
    finally:
        torch.set_default_dtype(default)
    record.passed = not record.failures
    record.stage, record.seconds = "", round(time.perf_counter() - start, 1)
    tell(record)
    return record


def _check(entry: Entry, record: Record, tell: Tell) -> None:
    made = None
    with stage(record, "build", tell):
        made = _built(entry, record)
    if made is None:
        return
    built, before = made[0], _State(*made)
    plan = None
    with stage(record, "inspect", tell):
        plan = _inspected(built, record)
        before.compare()
    if plan is not None:
        trains = _times_a_step(built, record)
        run = _Run(built, plan, record, tell, trains, macs=not entry.data_decides)
        run.all()
    with stage(record, "restore", tell):
        before.restore()
        before.compare_outputs()


def _built(entry: Entry, record: Record) -> tuple[Built, Any]:
    """The model in double precision where it runs so, else in single precision; and its output."""
    reason: Exception | None = None
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        torch.manual_seed(0)
        try:
            built = entry.build()
            stir(cast(built.model, dtype)).eval()
            found = output(built.model, built.inputs(0))
        except Exception as error:
            if dtype == torch.float32:
                raise
            reason = error
            continue
        assert all(t.isfinite().any() for t in tensors(found) if t.numel()), "the model itself returns no finite value"
        run = built.inputs(0)
        record.model = type(built.model).__name__
        record.precision = str(dtype).removeprefix("torch.")
        record.inputs = [list(t.shape) for t in tensors((run.args, run.kwargs))]
        record.parameters = sum(p.numel() for p in built.model.parameters())
        if reason is not None:
            record.notes.append(f"does not run in double precision: {str(reason)[:200]}")
        return built, found
    raise AssertionError("unreachable")


def _ties(model: nn.Module) -> list[list[str]]:
    parameters = dict(model.named_parameters())
    return [names for name, names in aliases(parts_of(model)).items() if name in parameters]


def seconds(run: Callable[[], object]) -> float:
    """The least processor time of a call: of nine, or of as many as fit into a second, at least one."""
    times: list[float] = []
    while len(times) < 9 and sum(times) < 1.0:
        start = time.process_time()  # waiting for other processes is not counted: the machine may be busy
        run()
        times.append(time.process_time() - start)
    return min(times)


def _inspected(built: Built, record: Record) -> surgery.Plan:
    """The plan, and what it costs to make."""
    model, run = built.model, built.inputs(0)
    start = memory.reset_peak()
    began = time.process_time()
    plan = surgery.inspect(model, run)
    record.inspect = time.process_time() - began
    top = memory.peak()
    record.memory = round(top - start, 1) if start is not None and top is not None else None
    if record.inspect < SLOW:
        record.inspect = seconds(lambda: surgery.inspect(model, run))  # warmed up now
    record.groups, record.elastic = len(plan.groups), round(plan.elastic_share, 4)
    record.fixed = main_reasons(plan)
    if record.elastic < LOW:
        record.fixed = with_lines(record.fixed, model, run)
    record.notes += plan.notes
    laws.everything_is_accounted_for(plan, model)
    assert plan.groups, f"nothing is elastic: {record.fixed[0].reason}"
    return plan


def _times_a_step(built: Built, record: Record) -> bool:
    """Time a forward and backward of the model; in eval mode, with a note, where it does not train. Whether it does."""
    model, run = built.model, built.inputs(0)
    try:
        record.step = seconds(lambda: _train_once(model, run))
        return True
    except Exception as error:
        record.notes.append(f"does not train on these inputs by itself: {str(error)[:200]}")
        model.zero_grad(set_to_none=True)
        model.eval()
    with contextlib.suppress(Exception):  # its output may hold nothing that has gradients
        record.step = seconds(lambda: laws.loss(laws.called(model.train().eval(), run)).backward())
        model.zero_grad(set_to_none=True)
    return False


@dataclass
class _Run:
    """The checks of one model that has a plan."""

    built: Built
    plan: surgery.Plan
    record: Record
    tell: Tell
    trains: bool
    macs: bool

    def __post_init__(self) -> None:
        self.model = self.built.model
        self.given, self.others = self.built.inputs(0), self.built.inputs(1)
        self.generator = torch.Generator().manual_seed(0)
        allowed = tolerance_of(self.plan, self.model)
        self.tolerance = laws.EXACT if allowed is None else allowed
        if self.tolerance > laws.EXACT and self.record.precision == "float64":
            self.record.precision = "float64, casts to a coarser type inside"

    def all(self) -> None:
        wrapped = None
        with self.stage("wrap"):
            wrapped = surgery.wrap(self.model, self.given, generator=self.generator)
            surgery.verify(self.model, wrapped, self.others, tolerance=self.tolerance)
        if wrapped is None:
            return
        with self.stage("reorder"):
            laws.order_is_free(wrapped, self.plan, self.others, self.generator, self.tolerance)
        if self.trains:
            with self.stage("train"):
                _train_once(wrapped, self.given)
        self.count_macs(wrapped)
        self.record.half = round(surgery.cost(wrapped, 0.5).params / max(self.plan.total, 1), 4)
        for name, widths in self.vectors().items():
            with self.stage(name):
                self.at(wrapped, widths, self.trains and name == "half")
        with self.stage("modules"):
            check_modules(self.built, self.record, self.tolerance, self.macs, _train_once if self.trains else None)

    def stage(self, name: str):  # type: ignore[no-untyped-def]
        return stage(self.record, name, self.tell)

    def vectors(self) -> dict[str, dict[str, int]]:
        drawn = {f"mixed {i + 1}": laws.random_widths(self.plan, self.generator) for i in range(RANDOM)}
        return {"half": self.plan.widths(0.5), "smallest": laws.smallest(self.plan), **drawn}

    def count_macs(self, wrapped: nn.Module) -> None:
        """Whether predicted multiply-adds can be compared: torch does not count recurrences."""
        recurrent = any(isinstance(module, nn.RNNBase | nn.RNNCellBase) for module in self.model.modules())
        self.macs = self.macs and not recurrent
        self.record.macs = "equal" if self.macs else "not counted: " + ("recurrent" if recurrent else "data decides")
        with self.stage("macs"):
            if self.macs:
                laws.cost_is_counted(wrapped, self.model, self.plan.full(), self.given)
        if self.record.failures and self.record.failures[-1].stage == "macs":
            self.macs = False  # reported once; the widths below are still compared in parameters
            predicted = surgery.cost(wrapped).macs
            self.record.macs = f"predicted {predicted:,}"
            with self.stage("counting"):  # torch's own counter fails on some models
                self.record.macs += f", counted {laws.counted_macs(self.model, self.given):,}"

    def at(self, wrapped: nn.Module, widths: Mapping[str, int], step: bool) -> None:
        """One width vector: what the small model computes, costs, is and holds."""
        small = laws.shrunk_is_wrapped(wrapped, widths, self.others, self.tolerance)
        made = vars(small)[RECORD]
        self.record.rewritten = sorted({*self.record.rewritten, *made["rewritten"]})
        self.record.replaced = sorted({*self.record.replaced, *made["replaced"]})
        assert type(small) is type(self.model), f"the class is {type(small).__name__}"
        assert list(small.state_dict()) == list(self.model.state_dict()), "state_dict keys differ"
        assert _ties(small) == _ties(self.model), "tied parameters are not tied any more"
        self.cost(wrapped, small, widths)
        if step:
            _train_once(small, self.given, rate=1e-6)

    def cost(self, wrapped: nn.Module, small: nn.Module, widths: Mapping[str, int]) -> None:
        """Predicted parameters and multiply-adds are those of the small model.

        Over a contracted width of 1, torch's einsum multiplies element by element, which its counter does not see: such
        work is compared at a width of 2 instead.
        """
        try:
            laws.cost_is_counted(wrapped, small, widths, self.given, self.macs)
        except AssertionError:
            if not self.macs or 1 not in widths.values():
                raise
            laws.cost_is_counted(wrapped, small, widths, self.given, macs=False)
            wider = {name: max(width, min(2, self.plan.groups[name].size)) for name, width in widths.items()}
            laws.cost_is_counted(wrapped, surgery.shrink(wrapped, wider, recalibrate=False), wider, self.given)


def _train_once(model: nn.Module, run: Inputs, rate: float = 0.0) -> None:
    """One training step; at the rate 0 only forward and backward. Parameters keep no gradients."""
    model.train()
    laws.loss(laws.called(model, run)).backward()
    reached = [p for p in model.parameters() if p.grad is not None]
    assert reached, "no gradient reached a parameter"
    assert all(p.grad.shape == p.shape for p in reached if p.grad is not None), "a gradient has another shape"
    if rate:
        torch.optim.SGD(reached, lr=rate).step()
    model.zero_grad(set_to_none=True)
    model.eval()


class _State:
    """The model's tensors and outputs at the start. Large parameters are not kept: their outputs tell."""

    LARGEST = 2**30

    def __init__(self, built: Built, found: Any):
        self.model, self.run, self.output = built.model, built.inputs(0), tensors(found)
        kept = [t for t in self.model.state_dict(keep_vars=True).values() if isinstance(t, torch.Tensor)]
        if sum(t.numel() * t.element_size() for t in kept) >= self.LARGEST:
            kept = []
        self.saved = [(t, t.detach().clone()) for t in (*kept, *self.model.buffers())]

    def compare(self) -> None:
        """Nothing has changed so far."""
        same = (torch.equal(tensor.to_dense(), saved.to_dense()) for tensor, saved in self.saved)
        assert all(same), "a tensor of the original model has changed"

    def restore(self) -> None:
        """Undo what training steps have changed."""
        with torch.no_grad():
            for tensor, saved in self.saved:
                tensor.copy_(saved)

    def compare_outputs(self) -> None:
        for before, now in zip(self.output, tensors(output(self.model, self.run)), strict=True):
            assert torch.equal(before, now), "the original model gives other outputs than before"
