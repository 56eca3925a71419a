"""What `inspect` costs, relative to one forward and backward: `python -m tests.benchmarks planning`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import surgery
from tests.laws.laws import loss
from tests.models import CASES


def seconds(run: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(quick: bool) -> list[dict[str, object]]:
    """Print and return one row per architecture, and the median ratio."""
    rows: list[dict[str, object]] = []
    for case in CASES:
        model, inputs = case.build().eval(), case.inputs(0)
        step = seconds(lambda: loss(model(*inputs)).backward(), 3 if quick else 9)  # noqa: B023
        plan = seconds(lambda: surgery.inspect(model, inputs), 1 if quick else 3)  # noqa: B023
        rows.append({"model": case.name, "step ms": round(1e3 * step, 1), "inspect ms": round(1e3 * plan, 1),
                     "ratio": round(plan / step, 1)})  # fmt: skip
        print(rows[-1])
    rows.append({"model": "median", "ratio": statistics.median(float(row["ratio"]) for row in rows)})  # type: ignore[arg-type]
    print(rows[-1])
    return rows
