"""`python -m tests.zoo`: check real architectures. docs/coverage.md and docs/coverage.json follow as results come."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from . import failures, report, table
from .entry import Entry
from .record import Record
from .runner import Limits, dump, load, load_versions, run
from .table import SUITES, entries, installed

DOCS = Path(__file__).resolve().parents[2] / "docs"


def main() -> None:
    options = arguments()
    file = options.out / "coverage.json"
    if options.failures:
        print(failures.listing(load(file).values()))
        return
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before workers import torch
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a stopped run stops its workers
    suites = [suite for suite in SUITES if installed(suite)]
    known = load(file)
    wanted = entries([suite for suite in suites if suite in (options.suite or SUITES)], *options.name)
    todo = [e for e in wanted if not (options.resume and e.key in known)]
    if options.failed:
        todo = [e for e in todo if e.key not in known or not known[e.key].passed]
    versions = {**load_versions(file), **table.versions(suites)}
    order = {e.key: i for i, e in enumerate(table.every(suites))}

    def finished(record: Record) -> None:
        known[record.key] = record
        rows = sorted(known.values(), key=lambda r: (list(SUITES).index(r.suite), order.get(r.key, 0)))
        dump(file, rows, versions)
        missing = [key for key in order if key not in known]
        (options.out / "coverage.md").write_text(report.page(rows, versions, missing), encoding="utf-8")

    run(smallest_first(todo, known), Limits(options.timeout, options.memory, options.jobs), finished)


def smallest_first(todo: list[Entry], known: dict[str, Record]) -> list[Entry]:
    """What was quick the last time comes first; what is new keeps its place among the suites, after the quick ones."""
    return sorted(todo, key=lambda e: known[e.key].seconds if e.key in known else float("inf"))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--suite", nargs="+", choices=list(SUITES), help="only these (default: all that are installed)")
    parser.add_argument(
        "--name", nargs="+", default=["*"], metavar="GLOB", help="only names (or suite/name) like these"
    )
    parser.add_argument("--resume", action="store_true", help="keep the results that are there, check the rest")
    parser.add_argument("--failed", action="store_true", help="only what did not pass the last time")
    parser.add_argument("--timeout", type=float, default=900, metavar="SECONDS", help="for one model")
    parser.add_argument("--memory", type=float, default=12, metavar="GIB", help="for one model")
    parser.add_argument("--jobs", type=int, choices=(1, 2), default=1, help="models at once")
    parser.add_argument("--out", type=Path, default=DOCS, help="where coverage.md and coverage.json are")
    parser.add_argument("--failures", action="store_true", help="print the failures grouped by error, and run nothing")
    return parser.parse_args()


if __name__ == "__main__":
    main()
