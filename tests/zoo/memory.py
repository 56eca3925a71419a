"""Limits and measurements of a process's memory, where the system has them (Linux)."""

from __future__ import annotations

import re
from pathlib import Path


def limit(gib: float) -> None:
    """Let this process use no more than this for its data; beyond it, allocations fail."""
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30),) * 2)
    except (ImportError, ValueError, OSError):
        return


def reset_peak() -> float | None:
    """Forget the highest use so far. Returns the present use in MiB, None where that cannot be told."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def peak() -> float | None:
    """The highest use since `reset_peak`, in MiB."""
    return _status("VmHWM")


def _status(name: str) -> float | None:
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return int(found[1]) / 1024 if found else None
