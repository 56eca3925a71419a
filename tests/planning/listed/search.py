"""What tests of lists of modules share."""

from __future__ import annotations

import fnmatch
from typing import Any

import torch
from torch import nn

from surgery.capture.runs import record_runs
from surgery.modules.tensors import parts_of
from surgery.planning.listed.candidates import candidates
from surgery.planning.listed.find import find
from surgery.planning.listed.found import Found


def searched(model: nn.Module, x: Any, *patterns: str) -> tuple[dict[str, Found], list[str]]:
    """The groups of modules that are found, by name, and the notes; nothing of the model may change by it."""
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    children = {path: list(module._modules) for path, module in model.named_modules()}
    state = torch.get_rng_state()
    parts = parts_of(model)
    captures, _ = record_runs(parts, x)
    known, wanted = candidates(captures, parts), patterns or ("*",)
    chosen = [one for one in known if any(fnmatch.fnmatch(one.name, p) or one.name.startswith(f"{p}.") for p in wanted)]
    found, notes = find(parts, captures, x, chosen)
    assert torch.equal(state, torch.get_rng_state())
    assert {path: list(module._modules) for path, module in model.named_modules()} == children
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    listed = {(one.name, one.kind, one.size) for one in candidates(captures, parts)}
    assert {(one.name, one.kind, one.size) for one in found} <= listed
    return {one.name: one for one in found}, notes
