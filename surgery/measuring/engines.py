"""What executors differ in: how a model is pickled for workers, and whether the engine keeps it for all tasks."""

from __future__ import annotations

import contextlib
import functools
import pickle
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from surgery.errors import InputError

LOCAL = (ProcessPoolExecutor, ThreadPoolExecutor)  # their workers find what `__main__` defines


def _same(value: object) -> object:
    return value


@dataclass(frozen=True)
class Engine:
    """An executor, and what it takes beside calls.

    Attributes:
        scatter: keeps a value where all workers reach it, and gives what stands for it in arguments of calls. Others
            send the value with each call.
        dumps: pickles with the code of classes that workers cannot import, as the engine itself does with functions.
        keywords: of every `submit`.
    """

    executor: Executor
    scatter: Callable[[object], object] = _same
    dumps: Callable[[object], bytes] | None = None
    keywords: Mapping[str, object] = field(default_factory=dict)

    def packed(self, value: object) -> bytes:
        """Bytes of which workers make copies of their own. Raises what pickle raises."""
        if self.dumps is None:
            return pickle.dumps(value)
        with contextlib.suppress(Exception):  # what it cannot pickle, the other may
            found = pickle.dumps(value)
            if b"__main__" not in found:
                return found
        return self.dumps(value)


def engine_of(given: Any) -> Engine:
    """The engine of a `concurrent.futures.Executor`, or of a Dask client. Raises InputError for anything else."""
    if not callable(getattr(given, "submit", None)):
        raise InputError(f"executor is a concurrent.futures.Executor or a Dask client, got {given!r}")
    if isinstance(given, LOCAL):
        return Engine(given)
    dumps = getattr(given, "dumps", None) or _cloudpickle()
    if type(given).__module__.partition(".")[0] == "distributed":
        client = given if callable(getattr(given, "get_executor", None)) else given._client
        executor = client.get_executor() if given is client else given
        # not pure: a row that failed is computed anew when it is asked for again
        return Engine(executor, functools.partial(_dask_task, client), dumps, {"pure": False})
    return Engine(given, getattr(given, "scatter", _same), dumps)


def _cloudpickle() -> Callable[[object], bytes] | None:
    """What Dask, joblib and others pickle functions with, where it is installed."""
    with contextlib.suppress(ImportError):
        import cloudpickle

        dumps: Callable[[object], bytes] = cloudpickle.dumps
        return dumps
    return None


def _dask_task(client: Any, value: object) -> object:
    """A task that gives a value: Dask runs it again where the worker that had it is gone, unlike what is scattered."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")  # once, as Dask advises
        return client.submit(_same, value, pure=False)
