"""Several runs on one file of `resume=`: nothing is lost, nothing is computed twice, and it can always be read."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

import surgery
from surgery.curves.curve import Curve
from surgery.errors import FileError
from surgery.measuring import timer
from surgery.measuring.locked import locked
from tests.measuring import one_run
from tests.measuring.forked import PROCESSES
from tests.measuring.one_run import QUIET
from tests.measuring.scoring import loss, wrapped

WIDTHS = [(i + 1) / 16 for i in range(16)]
LIMIT = 60  # seconds for a run


def started(folder: Path, *runs: list[float], seconds: float = 0.02):
    """Processes that sweep these widths at the same time, and what each has called so far."""
    logs = [folder / f"{number}.log" for number in range(len(runs))]
    processes = [
        PROCESSES.Process(target=one_run.run, args=(folder / "curve.json", widths, log, seconds, len(runs)))
        for widths, log in zip(runs, logs, strict=True)
    ]
    for process in processes:
        process.start()
    return processes, lambda: [log.read_text().split() if log.exists() else [] for log in logs]


def ended(processes) -> None:
    for process in processes:
        process.join(LIMIT)
        assert process.exitcode == 0


@pytest.fixture(scope="module")
def serial():
    torch.set_num_threads(1)
    curve = surgery.sweep(wrapped(), loss, WIDTHS, **QUIET)
    return {point.fraction: point.score for point in curve}


def scores(path: Path) -> dict[float, float]:
    return {point.fraction: point.score for point in Curve.from_json(path)}


def test_two_runs_share_their_rows(tmp_path, serial):
    """The same widths at the same time: each row is computed by one of them."""
    processes, calls = started(tmp_path, WIDTHS, WIDTHS)
    ended(processes)
    first, second = calls()
    assert sorted(first + second, key=int) == [str(i + 1) for i in range(16)] and first and second
    assert scores(tmp_path / "curve.json") == serial
    assert {path.name for path in tmp_path.iterdir()} == {"0.log", "1.log", "curve.json"}


def test_rows_of_other_widths_are_merged(tmp_path, serial):
    processes, calls = started(tmp_path, WIDTHS[:10], WIDTHS[:5:-1])
    ended(processes)
    assert scores(tmp_path / "curve.json") == serial
    assert sum(map(len, calls())) == 16


def test_a_killed_run_leaves_what_another_goes_on_with(tmp_path, serial):
    """One of two is killed in the middle of a row, which the other then computes."""
    path = tmp_path / "curve.json"
    processes, calls = started(tmp_path, WIDTHS, WIDTHS, seconds=0.1)
    while len(calls()[0]) < 3:
        assert processes[0].is_alive()
        if path.exists():
            Curve.from_json(path)
        time.sleep(0.005)
    os.kill(processes[0].pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    ended(processes[1:])
    first, second = calls()
    assert scores(path) == serial
    assert set(first[:-1]).isdisjoint(second) and first[-1] in second  # the row that was under way


def test_a_file_can_be_read_whenever_a_run_is_killed(tmp_path, serial):
    path = tmp_path / "curve.json"
    known = 0
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        (process,), calls = started(folder, WIDTHS, seconds=0.0)
        (folder / "curve.json").symlink_to(path)
        while not calls()[0] and process.is_alive():
            time.sleep(0.001)
        time.sleep(0.003 * number)
        process.kill()
        process.join(LIMIT)
        if path.exists():  # the link leads there, and stays a link
            found = scores(folder / "curve.json")
            assert found.items() <= serial.items() and len(found) >= known
            known = len(found)
    assert known


def test_a_row_that_was_there_first_stays_and_times_are_added(tmp_path):
    path, widths = tmp_path / "curve.json", [1.0, 0.5]
    other = []

    def validate(model):
        if not other:  # another run has the first row meanwhile, with times
            other.append(surgery.sweep(wrapped(), loss, widths[:1], resume=tmp_path / "other.json", progress=False))
            os.replace(tmp_path / "other.json", path)
            return 0.0
        return loss(model)

    curve = surgery.sweep(wrapped(), validate, widths, resume=path, **QUIET)
    assert curve[0] == other[0][0] and curve[0].latency > 0 and curve.timing == other[0].timing
    assert Curve.from_json(path)[0] == curve[0] and len(Curve.from_json(path)) == 2


def test_times_of_another_device_that_come_meanwhile_are_not_taken(tmp_path, monkeypatch):
    path = tmp_path / "curve.json"
    measure, measured = timer.timing, []

    def counted(model, inputs):
        measured.append(model)
        return measure(model, inputs)

    def validate(model):
        if path.exists():
            document = json.loads(path.read_text())
            document["timing"]["device"] = "cuda:0"
            for point in document["points"]:
                point["latency"] = 1e6
            path.write_text(json.dumps(document))
        return loss(model)

    monkeypatch.setattr(timer, "timing", counted)
    surgery.sweep(wrapped(), loss, [0.25], resume=path, **QUIET)
    curve = surgery.sweep(wrapped(), validate, [1.0, 0.5, 0.25], resume=path, progress=False)
    for found in (curve, Curve.from_json(path)):
        assert found.timing["device"] == "cpu" and all(0 < point.latency < 1e6 for point in found)
    assert len(measured) == 3  # what was measured here is not measured again


def test_a_file_that_another_model_takes_over_ends_the_sweep_and_stays(tmp_path):
    path = tmp_path / "curve.json"

    def validate(model):
        other = wrapped()
        with torch.no_grad():
            other[0].weight[0, 0] += 1
        surgery.sweep(other, loss, [0.25], resume=path, **QUIET)
        return loss(model)

    with pytest.raises(surgery.SweepError, match="holds rows of the model with other weights") as raised:
        surgery.sweep(wrapped(), validate, [1.0, 0.5], resume=path, **QUIET)
    assert isinstance(raised.value.__cause__, FileError) and len(raised.value.curve) == 1
    assert [point.fraction for point in Curve.from_json(path)] == [0.25]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows locks files everywhere")
def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def never(*arguments):
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr("fcntl.flock", never)
    with pytest.warns(UserWarning, match="the file system cannot lock files .* let one run at a time"):
        surgery.sweep(wrapped(), loss, [1.0, 0.5], resume=tmp_path / "curve.json", **QUIET)
    assert len(Curve.from_json(tmp_path / "curve.json")) == 2


def test_a_lock_is_one_process_alone(tmp_path):
    path = tmp_path / "lock"
    with locked(path) as first, locked(path, wait=False) as second:
        assert first and not second and path.exists()
    assert not path.exists()
    path.touch()  # left by a process that was killed
    with locked(path) as held:
        assert held
    assert not path.exists()
