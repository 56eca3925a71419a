"""What is known about one model after it was checked: plain data, written to docs/coverage.json."""

from __future__ import annotations

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import surgery

LIBRARY = str(Path(surgery.__file__).parent)
LONGEST = 600  # characters of an error message
LOW = 0.5  # a model with a smaller elastic share has every fixed part explained


@dataclass(frozen=True)
class Failure:
    """A stage that failed, and the last line of the library that was involved."""

    stage: str
    error: str
    message: str
    where: str


@dataclass(frozen=True)
class Reason:
    """Why parameter elements are fixed: how many, and one tensor that holds some."""

    elements: int
    reason: str
    tensor: str


@dataclass
class Record:
    """One row of the coverage table. Times in seconds, memory in MiB; None is what was not reached."""

    suite: str
    name: str
    model: str = ""
    stage: str = "start"  # what is being done, while it is done
    passed: bool = False
    failures: list[Failure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    precision: str = ""
    inputs: list[list[int]] = field(default_factory=list)
    parameters: int | None = None
    groups: int | None = None
    elastic: float | None = None
    half: float | None = None  # of the parameters, at half width
    step: float | None = None
    inspect: float | None = None
    memory: float | None = None
    macs: str = ""
    rewritten: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    fixed: list[Reason] = field(default_factory=list)
    lists: dict[str, list[Any]] | None = None  # groups of modules: kind, size, the fewest; None where not looked for
    stay: list[str] = field(default_factory=list)  # why other lists of modules stay as they are
    left_out: int = 0  # how often it was compared with the original, in which modules hand on what they are given
    seconds: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.suite}/{self.name}"

    @property
    def ratio(self) -> float | None:
        """Time of `inspect` relative to one forward and backward."""
        return self.inspect / self.step if self.inspect and self.step else None

    def plain(self) -> dict[str, Any]:
        return asdict(self)


def restored(data: dict[str, Any]) -> Record:
    """A record from its plain data."""
    failures, fixed = [Failure(**f) for f in data["failures"]], [Reason(**r) for r in data["fixed"]]
    return Record(**{**data, "failures": failures, "fixed": fixed})


@contextlib.contextmanager
def stage(record: Record, name: str, tell: Callable[[Record], None]) -> Iterator[None]:
    """Note a failure of the block instead of raising it. A process that dies inside leaves the stage's name behind."""
    record.stage = name
    tell(record)
    try:
        yield
    except Exception as error:
        record.failures.append(failure(name, error))


def failure(name: str, error: BaseException) -> Failure:
    lines = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(LIBRARY)]
    where = f"surgery/{Path(lines[-1].filename).relative_to(LIBRARY)}:{lines[-1].lineno}" if lines else ""
    message = str(error).strip()
    if isinstance(error, AssertionError) and not message:
        last = traceback.extract_tb(error.__traceback__)[-1]
        message = last.line or ""
    if len(message) > LONGEST:  # what is wrong stands at the end, behind a list of names
        message = f"{message[:150]} … {message[150 - LONGEST :]}"
    return Failure(name, type(error).__name__, message, where)


def main_reasons(plan: surgery.Plan, count: int = 3) -> list[Reason]:
    """The reasons for what is fixed, by the elements that they fix."""
    elements: Counter[str] = Counter()
    tensors: dict[str, surgery.plan.Fixed] = {}
    for item in plan.fixed:
        elements[item.reason] += item.elements
        if item.reason not in tensors or item.elements > tensors[item.reason].elements:
            tensors[item.reason] = item
    return [Reason(n, reason[:LONGEST], tensors[reason].tensor) for reason, n in elements.most_common(count)]
