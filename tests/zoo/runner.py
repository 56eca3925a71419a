"""Runs the checks: a process per model, a limit on time and memory, results kept as they come."""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .entry import Entry
from .record import Failure, Record, restored
from .worker import preload, start


@dataclass
class Job:
    """A model that is being checked."""

    entry: Entry
    process: Any
    file: Path
    began: float


@dataclass(frozen=True)
class Limits:
    """What one model may use, and how many run at once."""

    seconds: float
    gib: float
    jobs: int


def run(entries: list[Entry], limits: Limits, finished: Callable[[Record], None]) -> None:
    """Check every entry; `finished` is told each record as it comes."""
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:
        context.set_forkserver_preload(preload({entry.suite for entry in entries}))
    waiting, running = list(reversed(entries)), list[Job]()
    with tempfile.TemporaryDirectory() as folder, tqdm(total=len(entries), smoothing=0) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < limits.jobs:
                    entry = waiting.pop()
                    file = Path(folder, entry.key.replace("/", "-"))
                    running.append(Job(entry, start(context, entry, file, limits.gib), file, time.monotonic()))
                bar.set_postfix_str(", ".join(job.entry.key for job in running), refresh=False)
                time.sleep(0.05)
                for job in [job for job in running if _over(job, limits)]:
                    running.remove(job)
                    finished(_result(job, limits))
                    bar.update()
        finally:
            for job in running:  # interrupted: no process is left behind
                job.process.kill()


def _over(job: Job, limits: Limits) -> bool:
    return not job.process.is_alive() or time.monotonic() - job.began > limits.seconds


def _result(job: Job, limits: Limits) -> Record:
    """The record that a process left, with the reason where it was stopped or died."""
    alive = job.process.is_alive()
    if alive:
        job.process.kill()
    job.process.join()
    record = Record(job.entry.suite, job.entry.name)
    if job.file.exists():
        record = restored(json.loads(job.file.read_text()))
    if record.stage:
        message = f"stopped after {limits.seconds:.0f} s" if alive else f"the process died ({job.process.exitcode})"
        record.failures.append(Failure(record.stage, "Timeout" if alive else "Died", message, ""))
        record.stage, record.passed = "", False
        record.seconds = round(time.monotonic() - job.began, 1)
    return record


def load(file: Path) -> dict[str, Record]:
    """The records of an earlier run, by suite/name."""
    if not file.exists():
        return {}
    records = [restored(data) for data in json.loads(file.read_text(encoding="utf-8"))["models"]]
    return {record.key: record for record in records}


def load_versions(file: Path) -> dict[str, str]:
    """What the models of an earlier run were made of."""
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["versions"] if file.exists() else {}
    return found


def dump(file: Path, records: Iterable[Record], versions: dict[str, str]) -> None:
    """Write the records, one a line, so that a diff shows which models changed."""
    lines = ",\n".join(json.dumps(record.plain()) for record in records)
    file.write_text(f'{{"versions": {json.dumps(versions)},\n"models": [\n{lines}\n]}}\n', encoding="utf-8")
