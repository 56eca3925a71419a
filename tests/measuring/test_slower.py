"""A row with fewer MACs that takes longer is named, unless noise explains it."""

import pytest
import torch

import surgery
from surgery.curves.curve import Curve
from surgery.curves.points import Point
from surgery.modules.latency import Timing, side_by_side
from tests.measuring.scoring import INPUTS, loss, wrapped

FULL = {"params": 100, "bytes": 400, "macs": 1000}


def curve(*rows: tuple[int, float, float]) -> Curve:
    """Rows of MACs, milliseconds, and their error."""
    points = (Point({"a": macs}, 0.5, 1, 1, macs, ms / 1e3, spread=noise / 1e3) for macs, ms, noise in rows)
    return Curve(tuple(points), FULL)


@pytest.mark.parametrize(
    "rows, pairs",
    [
        ([(1000, 10, 0), (500, 6, 0), (250, 4, 0)], []),
        ([(1000, 10, 0), (500, 12, 0), (250, 4, 0)], [(1, 0)]),
        ([(250, 4, 0), (500, 12, 0), (1000, 10, 0)], [(1, 2)]),  # in any order
        ([(1000, 10, 1), (500, 12, 1)], []),  # that is noise
        ([(1000, 10, 0), (500, 10.1, 0)], []),  # so little does not matter
        ([(1000, 10, 0), (1000, 12, 0)], []),
        ([(1000, 10, 0), (500, 3, 0), (250, 11, 0)], [(2, 1)]),  # against the fastest
    ],
)
def test_slower_rows(rows, pairs):
    found = curve(*rows)
    assert found.slower() == pairs
    assert ("Fewer MACs did not mean less time" in str(found)) == bool(pairs)
    for row, other in pairs:
        assert f"row {row} (" in str(found) and f"against row {other} (" in str(found) and "multiple=16" in str(found)


def test_rows_without_times_are_passed_over():
    points = Point({"a": 2}, 0.5, 1, 1, 500, None), *curve((1000, 10, 0))
    assert Curve(points, FULL).slower() == []


def test_a_sweep_times_such_rows_again_and_warns(monkeypatch):
    def take(first, second, examples):
        times = [0.004 if model[0].out_features == 8 else 0.001 for model in (first, second)]
        return tuple(Timing(seconds, 0.0) for seconds in times)

    monkeypatch.setattr("surgery.measuring.timer.timing", lambda m, _: Timing(m[0].out_features ** -2, 0.0))
    monkeypatch.setattr("surgery.measuring.timer.side_by_side", take)
    with pytest.warns(UserWarning, match=r"Fewer MACs did not mean less time: row 1 .* against row 0"):
        found = surgery.sweep(wrapped(), loss, [1.0, 0.5], progress=False)
    assert [point.latency for point in found] == [0.001, 0.004]


def test_turns_see_the_same_machine(monkeypatch):
    """A machine that gets slower and slower moves both models alike."""
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Timed(torch.nn.Module):
        def __init__(self, seconds):
            super().__init__()
            self.seconds = seconds

        def forward(self, x):
            clock[0] += self.seconds * (1 + clock[0] / 500)

    first, second = side_by_side(Timed(1.0), Timed(2.0), INPUTS)
    assert 1.7 < second.seconds / first.seconds < 2.5 and first.spread > 0
