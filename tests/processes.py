"""Code that runs in processes of its own: one that is killed in the middle of it, or the ranks that torchrun starts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def started(code: str, threads: int, **environment: str) -> subprocess.Popen[bytes]:
    """A process that runs Python code in the folder of the project."""
    count = str(threads)  # the last bits of a sum depend on how many there are
    known = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=known | environment)


def killed(code: str, seconds: float = 240) -> None:
    """Run code in a process of its own, with the threads of this one. It must end by SIGKILL."""
    assert _ended([started(code, torch.get_num_threads())], seconds) == [-signal.SIGKILL]


def launched(code: str, count: int = 2, seconds: float = 240) -> None:
    """Run code in so many processes, one thread each, with the environment that torchrun gives. All must succeed."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(found.getsockname()[1])}
    places = [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
    assert _ended([started(code, 1, **place) for place in places], seconds) == [0] * count


def _ended(processes: list[subprocess.Popen[bytes]], seconds: float) -> list[int]:
    try:
        return [process.wait(seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
