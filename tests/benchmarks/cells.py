"""Finished parts of a benchmark, kept in a file as they finish: an interrupted run loses one of them at most."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Value = dict[str, Any]
FORMAT = "surgery.benchmarks/1"


class Cells:
    """Results of functions by name and settings; with a file, also those of earlier runs and of other benchmarks.

    The name and the settings are the key, the code is not: after a change of the code, start a new file.
    """

    def __init__(self, path: Path | None, benchmark: str = "", settings: Value | None = None):
        self.path = path
        self.benchmark: Value = {"settings": settings, "rows": []}
        self.document: Value = {"format": FORMAT, "benchmarks": {}, "cells": {}}
        if path is not None and path.exists():
            self.document = _document(path)
        self.document["benchmarks"][benchmark] = self.benchmark

    def __call__(self, function: Callable[..., Value], given: Value | None = None, **settings: Any) -> Value:
        """What `function(**settings)` returned, now or in an earlier run.

        `given` is passed on too, and is no part of the key: what other cells have made. The function returns plain
        data, and under `weights`, where it has it, a state_dict, which goes into a folder beside the file.
        `cpu seconds` is added.
        """
        key = f"{function.__name__} {json.dumps(settings, sort_keys=True)}"
        if key not in self.document["cells"]:
            start = time.process_time()
            value = {**function(**settings, **(given or {})), "cpu seconds": 0.0}
            value["cpu seconds"] = round(time.process_time() - start, 3)
            self.document["cells"][key] = self._stored(key, value)
            self.write()
        return self._read(self.document["cells"][key])

    def rows(self, rows: list[Value]) -> None:
        """Keep the table that a benchmark has made of its cells."""
        self.benchmark["rows"] = rows
        self.write()

    def write(self) -> None:
        """The file is replaced whole, or not at all."""
        if self.path is not None:
            text = json.dumps(self.document, indent=1) + "\n"
            _replace(self.path, lambda part: part.write_text(text, encoding="utf-8"))

    def _stored(self, key: str, value: Value) -> Value:
        """Weights are written first: a cell that the file names is whole."""
        if self.path is None or "weights" not in value:
            return value
        name = hashlib.sha256(key.encode()).hexdigest()[:16]
        folder = self.path.with_suffix(".weights")
        folder.mkdir(exist_ok=True)
        _replace(folder / f"{name}.pt", functools.partial(torch.save, value["weights"]))
        return {**value, "weights": f"{folder.name}/{name}.pt"}

    def _read(self, value: Value) -> Value:
        if self.path is None or "weights" not in value:
            return value
        return {**value, "weights": torch.load(self.path.parent / value["weights"], weights_only=True)}


def _document(path: Path) -> Value:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] == FORMAT:
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise SystemExit(f"{path} is not of a benchmark, or of another version: name another with --json")


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)
