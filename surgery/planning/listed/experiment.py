"""Runs of a model without some of its modules, compared with those of the whole one."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import fx, nn

from surgery.capture.callsites import line_of
from surgery.capture.record import Capture, capture
from surgery.modules.inputs import Inputs
from surgery.modules.tensors import Parts
from surgery.plan.groups import EXPERTS
from surgery.planning.listed.calls import Run
from surgery.planning.listed.decided import Decided
from surgery.planning.listed.law import Comparison
from surgery.planning.listed.match import Differs, Match
from surgery.planning.listed.sets import SideBySide
from surgery.planning.listed.shorter import Drop, leave_out


@dataclass(frozen=True)
class Result:
    """What has come of leaving modules out: `wrong` says why it was not right, and is None where it was.

    Attributes:
        runs: the shorter recordings.
        gone: calls of the whole runs that are not made, by the path of the module for which they were.
        named: whether the code asks for a module that is not there: it names it, or counts on its place.
    """

    wrong: str | None = None
    runs: tuple[Capture, ...] = ()
    gone: Mapping[fx.Node, str] = field(default_factory=dict)
    named: bool = False


@dataclass(frozen=True)
class Laboratory:
    """A model, what it was run on, and recordings of it whole."""

    parts: Parts
    examples: Sequence[Inputs]
    whole: Sequence[Run]
    decided: bool = False  # what is chosen in them does not depend on data

    def without(self, drops: Sequence[Drop]) -> Result:
        """What comes of leaving these out, in all runs of the examples."""
        made: list[Capture] = []
        gone: dict[fx.Node, str] = {}
        for run, whole in zip(self.examples, self.whole, strict=True):
            try:
                with Decided() if self.decided else contextlib.nullcontext():
                    made.append(capture(self.parts, run, alter=lambda copied: leave_out(copied, drops)))
                gone.update(self._compared(whole, Run(made[-1]), list(drops)).gone)
            except Differs as error:
                return Result(str(error))
            except Exception as error:  # whatever fails here must not end planning: the modules stay
                return Result(_failed(error), named=_asks_for_a_module(error.__cause__))
        return Result(None, tuple(made), gone)

    def _compared(self, whole: Run, short: Run, drops: list[Drop]) -> Match:
        """What two runs have in common. Raises Differs where the shorter one is not right."""
        side_by_side = any(drop.candidate.kind == EXPERTS for drop in drops)
        comparison = SideBySide if side_by_side else Comparison
        return comparison(whole, short, drops, self.parts.parameters).matched()


_MODULES = tuple(inspect.getfile(cls) for cls in (nn.Module, nn.ModuleList))


def _asks_for_a_module(error: BaseException | None) -> bool:
    """Whether it was a container of modules that has not what it was asked for."""
    trace = error.__traceback__ if isinstance(error, LookupError | AttributeError) else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_code.co_filename in _MODULES


def _failed(error: Exception) -> str:
    cause = error.__cause__ or error
    where = line_of(cause.__traceback__)
    return f"it does not run without it: {type(cause).__name__}: {cause}" + (f" ({where})" if where else "")
