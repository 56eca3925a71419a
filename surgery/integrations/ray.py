"""Ray as an executor of sweeps."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from surgery.errors import InputError

P = ParamSpec("P")
T = TypeVar("T")


class RayExecutor(Executor):
    """A `concurrent.futures.Executor` whose calls are tasks of Ray, for `sweep(..., executor=RayExecutor())`.

    What a task is given is copied into its process. Ray tries a task again whose worker died (`max_retries`, three
    times unless you say otherwise), and not one that raised.

    Args:
        options: of each task, as `ray.remote` takes them: `num_cpus=2`, `num_gpus=1`, `max_retries=1`.

    Raises InputError where Ray is not installed.
    """

    def __init__(self, **options: Any):
        try:
            import ray
        except ImportError as error:
            raise InputError("RayExecutor needs Ray: pip install 'model-surgery[cluster]'") from error
        if not ray.is_initialized():
            ray.init()
        self._ray = ray
        self._call: Any = ray.remote(**options)(_called) if options else ray.remote(_called)
        self._pending: set[Future[Any]] = set()
        self._closed = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """A future of the call. A task that has not begun is taken back by `cancel`."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        reference = self._call.remote(fn, *args, **kwargs)
        future: Future[T] = Future()
        self._pending.add(future)
        future.add_done_callback(lambda done: self._ended(done, reference))
        reference.future().add_done_callback(lambda done: self._done(done, future))
        return future

    def dumps(self, value: object) -> bytes:
        """A pickle with the code of what workers cannot import, as Ray pickles functions."""
        found: bytes = self._ray.cloudpickle.dumps(value)
        return found

    def scatter(self, value: object) -> object:
        """What stands for a value in arguments: it is sent to each machine once."""
        return self._ray.put(value)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls. Ray itself stays as it is."""
        self._closed = True
        pending = list(self._pending)
        if cancel_futures:
            for future in pending:
                future.cancel()
        if wait:
            for future in pending:
                if not future.cancelled():
                    future.exception()

    def _ended(self, future: Future[Any], reference: Any) -> None:
        self._pending.discard(future)
        if future.cancelled():
            self._ray.cancel(reference)

    def _done(self, done: Future[Any], future: Future[Any]) -> None:
        """Tell what became of a task: an error of the call is that error, and not Ray's of it."""
        if not future.set_running_or_notify_cancel():
            return
        error = done.exception()
        if isinstance(error, self._ray.exceptions.RayTaskError):
            error = error.cause
        if error is None:
            future.set_result(done.result())
        else:
            future.set_exception(error)


def _called(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Ray makes tasks of functions only, and not of everything that can be called."""
    return fn(*args, **kwargs)
