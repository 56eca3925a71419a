"""A curve is kept whole in files, and `choose` gives the best point that fits, or says why none does."""

import csv
import json
import math
import pickle
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.curves.curve import Curve
from surgery.curves.plot import chains, plot_curves
from surgery.curves.points import Point
from surgery.errors import FileError, InputError, WidthError

FULL = {"params": 1000, "bytes": 4000, "macs": 50_000}


def point(fraction: float, score: float, /, **changes) -> Point:
    """A point that costs `fraction` squared of the full model."""
    share = fraction * fraction
    costs = {name: round(share * whole) for name, whole in FULL.items()}
    known = {"widths": {"a.o": round(64 * fraction)}, "latency": fraction / 100, "fraction": fraction}
    return Point(**{"score": score, **costs, **known, **changes})


ROWS = point(1.0, 0.98), point(0.75, 0.98), point(0.5, 0.95), point(0.25, 0.8)
CURVE = Curve(ROWS, FULL, plan_fingerprint="f00", sizes={"a.o": 64})


@pytest.mark.parametrize(
    "bounds, row",
    [
        ({}, 1),  # of equal scores the cheaper
        ({"max_params": 1.0}, 1),
        ({"max_params": 0.3}, 2),  # a float up to 1: of the full model
        ({"max_params": 250}, 2),
        ({"max_params": 249.9}, 3),
        ({"max_macs": 0.1}, 3),
        ({"max_macs": 12_500}, 2),
        ({"max_bytes": 0.6}, 1),
        ({"max_latency": 0.005}, 2),  # seconds
        ({"max_latency": 1}, 1),
        ({"min_score": 0.9}, 2),  # alone: the cheapest
        ({"min_score": 0.9, "max_params": 0.9}, 1),  # with another bound: the best
        ({"min_score": 0.5, "max_params": 0.3, "max_latency": 0.004}, 3),
    ],
)
def test_choose(bounds, row):
    assert CURVE.choose(**bounds) is CURVE[row]


NOISY = Curve(tuple(point(p.fraction, p.score, error=0.02) for p in ROWS), FULL)


@pytest.mark.parametrize(
    "bounds, row",
    [
        ({}, 1),
        ({"errors": 1}, 1),
        ({"errors": 2}, 2),  # 0.95 is within two errors of 0.98, and cheaper
        ({"errors": 10}, 3),
        ({"errors": 2, "max_params": 0.3}, 2),  # among those that fit
        ({"min_score": 0.94}, 2),
        ({"min_score": 0.94, "errors": 1}, 1),  # 0.95 less 0.02 is not enough
        ({"min_score": 0.9, "errors": 1, "max_macs": 0.9}, 1),
        ({"min_score": 0.9, "errors": 2, "max_macs": 0.9}, 2),
    ],
)
def test_choose_allows_for_errors(bounds, row):
    assert NOISY.choose(**bounds) is NOISY[row]
    unknown = Curve(ROWS, FULL)  # without errors, scores are exact
    assert (
        unknown.choose(**bounds)
        is unknown[CURVE.index(CURVE.choose(**{k: v for k, v in bounds.items() if k != "errors"}))]
    )


def test_errors_are_a_number_and_said():
    with pytest.raises(WidthError, match=r"it has score 0\.96 less 1 standard errors, min_score=0\.97 asks for"):
        NOISY.choose(min_score=0.97, errors=1)
    for bad in (-1, math.nan, "one", True):
        with pytest.raises(InputError, match="is not a number of standard errors"):
            NOISY.choose(errors=bad)


def test_one_is_a_number_and_one_point_zero_a_fraction():
    tiny = Curve((point(1.0, 0.9), point(0.1, 0.5, params=1)), FULL)
    assert tiny.choose(max_params=1) is tiny[1]
    assert tiny.choose(max_params=1.0) is tiny[0]


@pytest.mark.parametrize(
    "bounds, message",
    [
        ({"max_params": 0.01}, "none of the 4 points fits. The nearest is curve[3]: it has 62 parameters, "
                               "max_params=0.01 asks for at most 10 parameters"),
        ({"max_latency": 1e-3}, "it has 0.0025 s per call, max_latency=0.001 asks for at most 0.001 s"),
        ({"min_score": 0.99}, "The nearest is curve[0]: it has score 0.98, min_score=0.99 asks for at least"),
        ({"min_score": 0.94, "max_macs": 12_000}, "The nearest is curve[2]: it has 12,500 MACs"),
    ],
)  # fmt: skip
def test_when_nothing_fits_the_error_names_the_nearest(bounds, message):
    with pytest.raises(WidthError, match=re.escape(message)):
        CURVE.choose(**bounds)


@pytest.mark.parametrize("value", [math.nan, math.inf, "half", True])
@pytest.mark.parametrize("name", ["max_params", "max_latency", "min_score"])
def test_a_bound_is_a_number(name, value):
    with pytest.raises(InputError, match=f"{name}={value!r} is not a finite number"):
        CURVE.choose(**{name: value})


def test_bounds_that_cannot_be_met_or_checked():
    with pytest.raises(InputError, match="max_macs=0, but it must be above 0"):
        CURVE.choose(max_macs=0)
    with pytest.raises(InputError, match="sweep with measure_latency=True"):
        Curve((point(1.0, 0.9, latency=None),), FULL).choose(max_latency=1.0)
    with pytest.raises(InputError, match="no points"):
        CURVE[:0].choose()


points = st.builds(
    Point,
    widths=st.dictionaries(st.text(max_size=4), st.integers(1, 99), max_size=3),
    score=st.floats(-1e6, 1e6),
    params=st.integers(0, 10**9),
    bytes=st.integers(0, 10**9),
    macs=st.integers(0, 10**12),
    latency=st.none() | st.floats(1e-7, 10),
    fraction=st.none() | st.floats(0.001, 1),
    error=st.none() | st.floats(0, 1e3),
)


sizes = st.dictionaries(st.text(max_size=4), st.integers(1, 99), max_size=3)


@given(rows=st.lists(points, max_size=5), fingerprint=st.text(max_size=4), sizes=sizes)
def test_json_keeps_everything(rows, fingerprint, sizes, tmp_path_factory):
    path = tmp_path_factory.mktemp("curve") / "curve.json"
    curve = Curve(tuple(rows), FULL, plan_fingerprint=fingerprint, sizes=sizes)
    curve.to_json(path)
    assert Curve.from_json(path) == curve


@pytest.mark.parametrize("widest, sizes", [(1.0, {"a.o": 64}), (0.75, {})])
def test_files_of_the_first_format_are_read(widest, sizes, tmp_path):
    path = tmp_path / "curve.json"
    rows = [vars(point(f, 0.9)) for f in (0.5, widest)]
    for row in rows:
        del row["error"]
    path.write_text(json.dumps({"format": "surgery.curve/1", "plan_fingerprint": "f00", "full": FULL, "points": rows}))
    assert Curve.from_json(path) == Curve(
        (point(0.5, 0.9), point(widest, 0.9)), FULL, plan_fingerprint="f00", sizes=sizes
    )


@given(rows=st.lists(points, min_size=1, max_size=8), share=st.floats(0.001, 1))
def test_what_is_chosen_fits_and_nothing_that_fits_is_better(rows, share):
    curve = Curve(tuple(rows), {name: max(getattr(row, name) for row in rows) for name in FULL})
    fitting = [row for row in rows if row.params <= share * curve.full["params"]]
    if fitting:
        chosen = curve.choose(max_params=share)
        assert chosen in fitting and chosen.score == max(row.score for row in fitting)
    else:
        with pytest.raises(WidthError):
            curve.choose(max_params=share)


def document(**changes: object) -> str:
    """A curve of one row as JSON, some of it changed: of the row what is named `row_...`."""
    row = {"widths": {"a": 1}, "score": 0.5, "params": 1, "bytes": 1, "macs": 1, "fraction": 1.0}
    row |= {name.removeprefix("row_"): value for name, value in changes.items() if name.startswith("row_")}
    rest = {name: value for name, value in changes.items() if not name.startswith("row_")}
    header = {"format": "surgery.curve/1", "plan_fingerprint": "", "full": FULL, "points": [row]}
    return json.dumps(header | rest)


DAMAGES = {
    "missing": (None, "cannot be read"),
    "empty": ("", "cannot be read as JSON"),
    "foreign": ('{"points": []}', "is not a curve"),
    "a list": ("[]", "is not a curve"),
    "other format": (json.dumps({"format": "surgery.curve/9"}), "this version reads 'surgery.curve/1'"),
    "text for a number": (
        json.dumps({"format": "surgery.curve/1", "plan_fingerprint": "", "full": FULL,
                    "points": [{"widths": {}, "score": "high", "params": 1, "bytes": 1, "macs": 1}]}),
        "'high' is not a finite number",
    ),
    "no number": (document(row_score=math.nan), "is not a finite number"),
    "no cost": (document(full=FULL | {"params": math.inf}), "is not a finite number"),
    "no count": (document(recalibrated=math.inf), "is not a finite number"),
    "a list for widths": (document(row_widths=[1]), "is not a curve"),
    "a number for sizes": (document(sizes=3), "is not a curve"),
    "no fraction": (document(row_fraction=0), "is not above 0"),
    "deep": ("[" * 100_000, "cannot be read as JSON"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage, tmp_path):
    text, message = DAMAGES[damage]
    path = tmp_path / "curve.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(FileError, match=message) as raised:
        Curve.from_json(path)
    assert str(path) in str(raised.value)


def test_csv_has_a_column_for_every_group(tmp_path):
    other = point(0.5, 0.7, widths={"b, c.o": 3}, latency=None, fraction=None, error=0.02)
    Curve((CURVE[0], other), FULL).to_csv(tmp_path / "curve.csv")
    with open(tmp_path / "curve.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["width:a.o"], first["width:b, c.o"], first["latency"]) == ("64", "", "0.01")
    assert (second["width:a.o"], second["width:b, c.o"], second["fraction"]) == ("", "3", "")
    assert (first["error"], second["error"]) == ("", "0.02")
    assert float(second["score"]) == 0.7 and int(second["params"]) == other.params


def test_the_table_lines_up_and_leaves_out_what_was_not_measured():
    lines = str(CURVE).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["row", "fraction", "score", "parameters", "of", "full", "MACs", "of", "full", "ms"]
    assert lines[3].split() == ["2", "0.5000", "0.9500", "250", "25.0", "%", "12,500", "25.0", "%", "5.000"]
    unmeasured = Curve(tuple(point(f, 0.5, latency=None) for f in (1.0, 0.5)), FULL)
    assert "ms" not in str(unmeasured) and "±" not in str(unmeasured)
    sure, unsure = str(Curve((point(1.0, 0.9), point(0.5, 0.8, error=0.0123)), FULL)).splitlines()[1:]
    assert unsure.split()[2:4] == ["0.8000", "0.0123"] and sure.split()[2:4] == ["0.9000", "1,000"]
    assert str(CURVE[:0]).split()[0] == "row"


def test_a_curve_is_a_sequence():
    assert len(CURVE) == 4 and CURVE[-1] in CURVE and CURVE.index(CURVE[2]) == 2
    assert CURVE[1:3].points == CURVE.points[1:3]
    assert (CURVE[1:3].plan_fingerprint, CURVE[1:3].full, CURVE[1:3].sizes) == ("f00", FULL, {"a.o": 64})


@pytest.mark.parametrize("x", ["params", "macs", "latency", "bytes"])
def test_plot_writes_a_png(x, tmp_path):
    mixed = Curve((*CURVE, point(0.6, 0.9, fraction=None)), FULL)
    mixed.plot(tmp_path / "curve.png", x=x, chosen=mixed[2])
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_lines_lead_from_slices_to_what_they_are_slices_of():
    shapes = [(8, 8), (4, 8), (2, 8), (8, 4), (8, 2)]  # each of two groups is cut by itself
    alone = [point(1.0, 0.9, widths={"a": a, "b": b}, params=a * b) for a, b in shapes]
    assert sorted(chains([p.params for p in alone], alone)) == [[2, 1, 0], [4, 3, 0]]
    one = list(CURVE)
    assert chains([p.params for p in one], one) == [[3, 2, 1, 0]]
    apart = [point(1.0, 0.9, widths={"a": 2, "b": 1}), point(0.5, 0.9, widths={"a": 1, "b": 2})]
    assert chains([2.0, 1.0], apart) == [[1], [0]]


def test_several_curves_are_one_picture(tmp_path):
    plot_curves({"a": CURVE, "b": CURVE[1:]}, tmp_path / "curves.png", chosen=CURVE[2], score="accuracy")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_plot_says_what_it_lacks(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="x='width' is not one of params, macs, latency, bytes"):
        CURVE.plot(tmp_path / "curve.png", x="width")
    with pytest.raises(InputError, match="sweep with measure_latency=True"):
        Curve((point(1.0, 0.9, latency=None),), FULL).plot(tmp_path / "curve.png", x="latency")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=re.escape("pip install 'model-surgery[plot]'")):
        CURVE.plot(tmp_path / "curve.png")
    assert not list(tmp_path.iterdir())


def test_costs_of_the_full_model_are_attributes_too():
    assert (CURVE.full.params, CURVE.full.macs, CURVE.full.bytes) == tuple(FULL[n] for n in ("params", "macs", "bytes"))
    assert CURVE[:2].full == FULL and pickle.loads(pickle.dumps(CURVE)).full.macs == FULL["macs"]
    with pytest.raises(AttributeError, match="there is no flops"):
        CURVE.full.flops  # noqa: B018
