"""Functions that run on two ranks at once: processes of their own, joined by gloo, which are started once."""

from __future__ import annotations

import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp

WORLD, PATIENCE = 2, 120.0  # seconds for one function, so that ranks which wait for each other do not wait for ever


class Ranks:
    """Two processes. A call runs a function (of a module's top level) on both, and gives what each has returned.

    Raises RuntimeError with the traceback of a rank on which it fails; both are started anew then.
    """

    def __init__(self) -> None:
        self.processes: list[Any] = []
        self.pipes: list[Connection] = []

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        if not self.processes:
            self._start()
        for pipe in self.pipes:
            pipe.send((function, args))
        answers = []
        for rank, pipe in enumerate(self.pipes):
            if not pipe.poll(PATIENCE):
                self.stop()
                raise RuntimeError(f"rank {rank} of {function.__name__} has not finished in {PATIENCE:.0f} s")
            try:
                answers.append(pipe.recv())
            except EOFError:
                self.stop()
                raise RuntimeError(f"rank {rank} of {function.__name__} has died") from None
            if isinstance(answers[-1], _Failed):
                self.stop()
                raise RuntimeError(f"rank {rank} of {function.__name__}:\n{answers[-1].text}")
        return answers

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.join()
        self.processes, self.pipes = [], []

    def _start(self) -> None:
        context = mp.get_context("spawn")
        with tempfile.NamedTemporaryFile(delete=False) as file:
            store = file.name
        Path(store).unlink()
        for rank in range(WORLD):
            mine, theirs = context.Pipe()
            process = context.Process(target=_work, args=(rank, store, theirs), daemon=True)
            process.start()
            theirs.close()
            self.processes.append(process)
            self.pipes.append(mine)


class _Failed:
    def __init__(self, text: str):
        self.text = text


def _work(rank: int, store: str, pipe: Connection) -> None:
    torch.set_num_threads(1)
    os.environ["TORCH_DISTRIBUTED_DEBUG"] = "OFF"
    warnings.simplefilter("ignore")  # of engines, which are not what is tested
    distributed = torch.distributed
    distributed.init_process_group("gloo", store=distributed.FileStore(store, WORLD), rank=rank, world_size=WORLD)
    while True:
        try:
            function, args = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(function(*args))
        except Exception:
            pipe.send(_Failed(traceback.format_exc()))
