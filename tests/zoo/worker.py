"""One model in a process of its own, which leaves its record in a file: also of the stage in which it died."""

from __future__ import annotations

import json
import os
from multiprocessing.context import BaseContext
from pathlib import Path

import torch

from . import memory
from .check import check
from .entry import Entry
from .record import Record


def preload(suites: set[str]) -> list[str]:
    """What the process that others are forked from imports once, for these suites."""
    own = {"thirdparty": "tests.zoo.thirdparty.loaded"}
    return ["tests.zoo.worker", "torch._dynamo", *(own.get(suite, suite) for suite in sorted(suites))]


def work(entry: Entry, file: str, gib: float) -> None:
    """Check one model; after each stage the record is written to `file`."""
    torch.set_num_threads(1)
    memory.limit(gib)

    def write(record: Record) -> None:
        made = Path(f"{file}.new")
        made.write_text(json.dumps(record.plain()))
        os.replace(made, file)  # a reader never sees half a record

    check(entry, write)


def start(context: BaseContext, entry: Entry, file: Path, gib: float):  # type: ignore[no-untyped-def]
    process = context.Process(target=work, args=(entry, str(file), gib), daemon=True)  # type: ignore[attr-defined]
    process.start()
    return process
