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


class Cells:
    """Results of functions by name and settings; with a file, also those of earlier runs.

    The name and the settings are the key, the code is not: after a change of the code, start a new file.
    """

    def __init__(self, path: Path | None, header: Value):
        self.path, self.document = path, {**header, "rows": [], "cells": {}}
        if path is None or not path.exists():
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            same, self.document["cells"] = found["benchmark"] == header["benchmark"], found["cells"]
        except (ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path} is no file of a benchmark ({error!r}): name another with --json") from error
        if not same:
            raise SystemExit(f"{path} is of the benchmark {found['benchmark']}: name another with --json")

    def __call__(self, function: Callable[..., Value], **settings: Any) -> Value:
        """What `function(**settings)` returned, now or in an earlier run.

        It returns plain data, and under `weights`, where it has it, a state_dict, which goes into a folder beside the
        file. `cpu seconds` is added.
        """
        key = f"{function.__name__} {json.dumps(settings, sort_keys=True)}"
        if key not in self.document["cells"]:
            start = time.process_time()
            value = {**function(**settings), "cpu seconds": 0.0}
            value["cpu seconds"] = round(time.process_time() - start, 3)
            self.document["cells"][key] = self._stored(key, value)
            self.write()
        return self._read(self.document["cells"][key])

    def rows(self, rows: list[Value]) -> None:
        """Keep the table that a benchmark has made of its cells."""
        self.document["rows"] = rows
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


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f"{path.name}.part")
    write(part)
    os.replace(part, path)
