"""Executors of other libraries: the curve of a serial sweep, models sent once, and workers that die."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch

import surgery
from surgery.curves.curve import Curve
from surgery.measuring.engines import engine_of
from surgery.measuring.sweep import SweepError
from tests.measuring.scoring import kills, loss, wrapped

WIDTHS = (1.0, 0.75, 0.5, 0.25)
QUIET = {"progress": False, "measure_latency": False}


@pytest.fixture(scope="module")
def serial() -> Curve:
    torch.set_num_threads(1)
    return surgery.sweep(wrapped(), loss, WIDTHS, **QUIET)


@pytest.fixture(scope="module")
def dask() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="distributed is not installed")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def ray() -> Iterator[Executor]:
    library = pytest.importorskip("ray", reason="ray is not installed")
    from surgery.integrations.ray import RayExecutor

    library.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield RayExecutor(max_retries=1)
    library.shutdown()


def loky(module: str) -> Executor:
    found = pytest.importorskip(module, reason=f"{module.partition('.')[0]} is not installed")
    return found.get_reusable_executor(max_workers=2)


class Losing(ThreadPoolExecutor):
    """Loses its worker at half of the width, so many times, and goes on."""

    def __init__(self, times: int):
        super().__init__(1)
        self.times = times

    def submit(self, call, packed, widths, validate):
        if widths["0.o"] == 8 and self.times:
            self.times -= 1
            lost: Future[Any] = Future()
            lost.set_exception(BrokenExecutor("gone"))
            return lost
        return super().submit(call, packed, widths, validate)


def test_a_row_whose_worker_died_is_tried_once_more_when_all_others_are_done(serial):
    with Losing(1) as executor:
        assert surgery.sweep(wrapped(), loss, WIDTHS, executor=executor, **QUIET) == serial
    with Losing(2) as executor, pytest.raises(SweepError, match=r"widths 0.5 \(BrokenExecutor: gone\)") as raised:
        surgery.sweep(wrapped(), loss, WIDTHS, executor=executor, **QUIET)
    assert [point.fraction for point in raised.value.curve] == [1.0, 0.75, 0.25]


@pytest.mark.slow
def test_dask(dask, serial):
    for given in (dask, dask.get_executor()):
        assert surgery.sweep(wrapped(), loss, WIDTHS, executor=given, **QUIET) == serial
        assert surgery.sweep(wrapped(), lambda model: loss(model), WIDTHS, executor=given, **QUIET) == serial


@pytest.mark.slow
def test_workers_of_dask_that_die(dask, serial, tmp_path):
    once = functools.partial(kills, folder=tmp_path, times=1)
    assert surgery.sweep(wrapped(), once, WIDTHS, executor=dask, **QUIET) == serial
    always = functools.partial(kills, folder=tmp_path, times=99)
    with pytest.raises(SweepError, match=r"(?s)widths 0.5 \(KilledWorker: .*A worker died") as raised:
        surgery.sweep(wrapped(), always, WIDTHS, executor=dask, **QUIET)
    assert [point.fraction for point in raised.value.curve] == [1.0, 0.75, 0.25]


@pytest.mark.slow
def test_dask_gets_a_model_once(dask):
    """The tasks name the model: its bytes are in one task, and not in each."""
    sent = []
    engine = engine_of(dask)
    held = engine.scatter(b"0" * 10_000_000)
    for _ in range(3):
        future = engine.executor.submit(len, held, **engine.keywords)
        sent.append(future.result())
    assert sent == [10_000_000] * 3 and type(held).__module__.startswith("distributed")


@pytest.mark.slow
def test_ray(ray, serial, tmp_path):
    assert surgery.sweep(wrapped(), loss, WIDTHS, executor=ray, **QUIET) == serial
    assert surgery.sweep(wrapped(), lambda model: loss(model), WIDTHS, executor=ray, **QUIET) == serial
    once = functools.partial(kills, folder=tmp_path, times=1)
    assert surgery.sweep(wrapped(), once, WIDTHS, executor=ray, **QUIET) == serial
    with pytest.raises(SweepError, match=r"(?s)widths 0.5 \(WorkerCrashedError: .*A worker died") as raised:
        surgery.sweep(wrapped(), functools.partial(kills, folder=tmp_path, times=99), WIDTHS, executor=ray, **QUIET)
    assert [point.fraction for point in raised.value.curve] == [1.0, 0.75, 0.25]


@pytest.mark.slow
def test_a_call_of_ray_ends_as_futures_do(ray):
    from surgery.integrations.ray import RayExecutor

    executor = RayExecutor(num_cpus=2)
    assert executor.submit(pow, 2, 5).result() == 32
    with pytest.raises(ZeroDivisionError, match="by zero"):
        executor.submit(divmod, 1, 0).result()
    slow, waiting = executor.submit(time.sleep, 1), executor.submit(time.sleep, 60)
    assert waiting.cancel() and waiting.cancelled()
    executor.shutdown()
    assert slow.done()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 5)


@pytest.mark.slow
@pytest.mark.parametrize("module", ["loky", "joblib.externals.loky"])
def test_loky(module, serial, tmp_path):
    assert surgery.sweep(wrapped(), loss, WIDTHS, executor=loky(module), **QUIET) == serial
    assert surgery.sweep(wrapped(), lambda model: loss(model), WIDTHS, executor=loky(module), **QUIET) == serial
    goes_on(loky(module), tmp_path, serial, lambda: loky(module))


@pytest.mark.slow
def test_a_broken_pool_of_processes(serial, tmp_path):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        error = goes_on(pool, tmp_path, serial, lambda: None)
    assert isinstance(error.__cause__, BrokenProcessPool)


def goes_on(executor, folder, serial, another) -> SweepError:
    """A worker that dies breaks the pool. What was finished is kept, and another pool goes on from there."""
    path = folder / "curve.json"
    marks = folder / "marks"
    marks.mkdir()
    once = functools.partial(kills, folder=marks, times=1)
    with pytest.raises(SweepError, match=r"(?s)A worker died: .*in a new executor if this one takes no more") as raised:
        surgery.sweep(wrapped(), once, WIDTHS, executor=executor, resume=path, **QUIET)
    assert [point.fraction for point in raised.value.curve] == [1.0, 0.75, 0.25]
    assert surgery.sweep(wrapped(), once, WIDTHS, executor=another(), resume=path, **QUIET).points == serial.points
    return raised.value


SCRIPT = """
    import surgery, torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

        def forward(self, x):
            return self.b(torch.relu(self.a(x)))

    def validate(model):
        assert isinstance(model, Net)
        return float(model(torch.ones(2, 6)).sum())

    def main(executor):
        twin = surgery.wrap(Net(), torch.ones(2, 6))
        quiet = dict(progress=False, measure_latency=False)
        found = surgery.sweep(twin, validate, executor=executor, **quiet)
        assert found == surgery.sweep(twin, validate, **quiet)
        print("the same")
"""
ENGINES = {
    "distributed": """
        from distributed import Client, LocalCluster
        with LocalCluster(n_workers=1, dashboard_address=None) as cluster, Client(cluster) as client:
            main(client)
    """,
    "ray": """
        import ray
        from surgery.integrations.ray import RayExecutor
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
        main(RayExecutor())
    """,
    "joblib": """
        from joblib.externals.loky import get_reusable_executor
        main(get_reusable_executor(1))
    """,
    "concurrent": """
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            main(pool)
    """,
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_script_may_define_the_model_itself(engine, tmp_path):
    """Workers cannot import `__main__` of another machine: classes go there with their code."""
    pytest.importorskip(engine, reason=f"{engine} is not installed")
    file = tmp_path / "script.py"
    file.write_text(
        textwrap.dedent(SCRIPT)
        + "\nif __name__ == '__main__':"
        + textwrap.indent(textwrap.dedent(ENGINES[engine]), "    ")
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "the same" in done.stdout, done.stderr
