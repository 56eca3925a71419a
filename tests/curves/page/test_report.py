"""A report says in plain words what a point keeps and loses, needs no other file, and holds nothing that can harm."""

import base64
import dataclasses
import hashlib
import json
import re
import sys
from html.parser import HTMLParser

import pytest

import surgery
from surgery.curves.curve import Curve
from surgery.curves.inversions import inversion_notes
from surgery.curves.page.words import COST_WORDS, difference, summary
from surgery.curves.points import Point
from surgery.errors import InputError, WidthError
from tests.curves.made import SIZES, drawn, nested

FULL = {"params": 1000, "bytes": 4000, "macs": 50_000}
EVIL = '</script><script>alert(1)</script><img src="http://x/y" onerror="alert(2)"> & "friends" \u2028'
VOID = ("meta", "input", "wbr")


def curve(*scores: float) -> Curve:
    rows = zip((1.0, 0.5, 0.25), scores, strict=False)
    return Curve(
        tuple(
            Point({"a": 1}, score, round(f * 1000), round(f * 4000), round(f * f * 50_000), f / 100, f)
            for f, score in rows
        ),
        FULL,
    )


# ---- words


def test_summary_in_points():
    small = curve(0.978, 0.974, 0.6)
    assert summary(small, small[1]) == (
        "Kept 50 % of the parameters (500 of 1,000) and 25 % of the multiply-adds; "
        "lost 0.4 points (97.8 % to 97.4 %). One call takes 5 ms instead of 10 ms."
    )
    assert "6.2 % of the multiply-adds" in summary(small, small[2])
    assert "the score is the same (97.8 %)" in summary(small, small[0])
    assert "One call" not in summary(small, small[0])


@pytest.mark.parametrize(
    "before, after, share, words",
    [
        (0.5, 0.52, True, "gained 2.0 points (50.0 % to 52.0 %)"),
        (0.5, 0.49, True, "lost 1.0 point (50.0 % to 49.0 %)"),
        (0.5, 0.5001, True, "the score is the same (50.0 %)"),
        (-4.5, -4.75, False, "lost 0.25 (-4.5 to -4.75)"),
        (-3.0, -3.0, False, "the score is the same (-3)"),
    ],
)
def test_differences(before, after, share, words):
    assert difference(before, after, share) == words


def test_scores_outside_of_zero_to_one_are_plain_numbers():
    losses = curve(-4.5, -4.75)
    assert "lost 0.25 (-4.5 to -4.75)" in summary(losses, losses[1])


@pytest.mark.parametrize(
    "measure, value, words",
    [
        ("bytes", 0, "0 bytes"),
        ("bytes", 999, "999 bytes"),
        ("bytes", 1_500, "1.5 kB"),
        ("bytes", 2_345_678, "2.35 MB"),
        ("params", 28_410, "28,410"),
        ("params", 6_738_415_616, "6.74 billion"),
        ("macs", 1_210_000, "1.21 million"),
        ("latency", 0.00512, "5.12 ms"),
        ("latency", 2e-5, "20 µs"),
    ],
)
def test_costs_in_words(measure, value, words):
    assert COST_WORDS[measure].words(value) == words


# ---- the page


class Page(HTMLParser):
    """The tags, attributes and texts of a page; complains where tags do not close."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "a tag is not closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attributes]
        if tag not in VOID:
            self.open.append(tag)
            self.texts.append((tag, ""))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def of(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag and text]

    def facts(self) -> list[dict]:
        """What the script is given, one for each section."""
        return [json.loads(text) for text in self.of("script") if text.startswith("{")]


def page(tmp_path, curves, **options) -> Page:
    written = surgery.report(curves, tmp_path / "report.html", **options)
    assert written[0] == tmp_path / "report.html"
    return Page(written[0].read_text(encoding="utf-8"))


def test_texts_are_shown_and_never_run(tmp_path):
    renamed = Point({EVIL: 3}, 0.5, 10, 40, 500)
    evil = Curve((renamed, Point({EVIL: 9}, 0.6, 1000, 4000, 50_000)), FULL, plan_fingerprint="x", sizes={EVIL: 9})
    section = surgery.Section(EVIL, {EVIL: evil, "b": evil}, score=EVIL, notes=(EVIL,), load=f"load({EVIL!r})")
    found = page(tmp_path, [section], title=EVIL)
    assert found.tags.count("script") == 2 and "img" not in found.tags
    assert not [name for _, name, _ in found.attributes if name.startswith("on") or name in ("src", "href")]
    for tag in ("h1", "h2", "title"):
        assert found.of(tag) == [EVIL]
    assert EVIL in found.of("p") and EVIL in found.of("caption") and EVIL in found.of("caption")
    assert repr(EVIL) in found.facts()[0]["points"][0]["code"]


def test_only_its_own_style_and_script_may_run(tmp_path):
    found = page(tmp_path, nested())
    policy = next(value for tag, name, value in found.attributes if tag == "meta" and name == "content")
    assert policy.startswith("default-src 'none'; ")
    for kind, text in (("style", found.of("style")[0]), ("script", found.of("script")[-1])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not [value for _, name, value in found.attributes if name == "style"]
    assert "unsafe" not in policy and "http" not in found.of("script")[-1]


def test_ids_are_unique_and_labels_find_theirs(tmp_path):
    found = page(tmp_path, {"a": nested(), "b": drawn(1, 5)})
    ids = [value for _, name, value in found.attributes if name == "id"]
    used = {value for _, name, value in found.attributes if name in ("for", "aria-describedby")}
    assert len(ids) == len(set(ids)) and used == set(ids)


def test_every_cell_of_the_table_is_on_the_page(tmp_path):
    both = {"uniform": nested(), "searched": nested(tilt=0.1, gain=0.01)}
    cells = page(tmp_path, both).of("td")
    assert cells == [cell for found in both.values() for row in found.table()[1:] for cell in row if cell]


def test_a_page_is_small(tmp_path):
    surgery.report(nested(), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 100_000


def test_every_point_is_in_every_picture(tmp_path):
    found = page(tmp_path, nested())
    marks = [value for tag, name, value in found.attributes if (tag, name) == ("path", "data-point")]
    assert sorted(map(int, marks)) == sorted(list(range(6)) * 8)  # four costs, two sizes
    untimed = page(tmp_path, drawn(0, 4, timed=False))
    assert {v for _, name, v in untimed.attributes if name == "data-axis"} == {"bytes", "macs", "params"}


def test_costs_of_zero_can_be_drawn(tmp_path):
    free = Curve(
        (Point({"a": 2}, 0.5, 8, 32, 0), Point({"a": 1}, 0.5, 4, 16, 0)), {"params": 8, "bytes": 32, "macs": 0}
    )
    assert len(page(tmp_path, free).facts()[0]["points"]) == 2


# ---- sections and limits


def test_curves_of_one_model_share_a_picture(tmp_path):
    curves = {"uniform": nested(), "searched": nested(tilt=0.1), "other": drawn(1, 5, fingerprint="bar")}
    found = page(tmp_path, curves)
    assert found.of("h2") == ["uniform and searched", "other"]
    assert [len(facts["points"]) for facts in found.facts()] == [12, 5]
    unknown = {"a": drawn(1, 5), "b": drawn(2, 5)}  # nothing tells that they are of one model
    assert page(tmp_path, unknown).of("h2") == ["a", "b"]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_bytes": 1_000_000},
        {"max_params": 0.3},
        {"max_latency": 0.01, "min_score": 0.5},
        {"min_score": 0.9},
        {"max_bytes": 0.9, "errors": 1},
    ],
)
def test_it_opens_with_what_choose_picks(limits, tmp_path):
    curve = nested()
    picked = curve.index(curve.choose(**limits))
    facts = page(tmp_path, curve, **limits).facts()[0]
    assert facts["picked"] == picked and len(facts["limits"]) == len(limits.keys() - {"errors"})
    nested().report(tmp_path / "method.html", **limits)
    assert (tmp_path / "method.html").read_bytes() == (tmp_path / "report.html").read_bytes()


def test_without_limits_a_share_may_lose_a_point_and_other_scores_are_best(tmp_path):
    facts = page(tmp_path, nested()).facts()[0]
    assert facts["limits"]["score"] == pytest.approx(nested()[0].score - 0.01, abs=1e-5)
    losses = drawn(3, 9, share=False)
    facts = page(tmp_path, losses).facts()[0]
    assert facts["limits"] == {} and facts["picked"] == losses.index(losses.choose())


def test_the_picked_model_is_told_without_a_script(tmp_path):
    found = page(tmp_path, nested(), max_bytes=0.3)
    assert "1.12 MB" in found.of("dd") and "25 % of full" in found.of("dd")
    assert found.of("b") == ["16", "32", "2", "64"]
    assert found.of("code") == ["widths = 0.5\nsmall = surgery.shrink(wrapped, widths)"]


def test_the_code_names_what_is_cut(tmp_path):
    part = {**SIZES, "down.o": 40}
    one = Curve((Point(dict(SIZES), 0.9, 9, 36, 99), Point(part, 0.9, 8, 32, 90)), FULL, sizes=SIZES)
    codes = [point["code"].splitlines()[0] for point in page(tmp_path, one).facts()[0]["points"]]
    assert codes == ["widths = 1.0", "widths = {'down.o': 40}"]
    long = page(tmp_path, nested(tilt=0.1)).facts()[0]["points"][2]["code"]
    scope: dict = {}
    exec(long.splitlines()[0] + "\n".join(long.splitlines()[1:-1]), scope)
    assert scope["widths"] == nested(tilt=0.1)[2].widths


def test_what_else_the_sweep_said_is_told(tmp_path):
    found = dataclasses.replace(
        nested(), recalibrated=3, notes=("A remark & more.",), timing={"device": "cpu", "threads": 2}
    )
    slow = dataclasses.replace(found, points=(*found.points[:2], dataclasses.replace(found[2], latency=1.0)))
    seen = page(tmp_path, slow)
    assert "A remark & more." in seen.of("p") and inversion_notes(slow)[0] in seen.of("p")
    assert "Time: one call on cpu, 2 CPU threads." in "".join(seen.of("figcaption"))
    line = seen.facts()[0]["points"][0]["code"].splitlines()[1]
    assert line == "small = surgery.shrink(wrapped, widths, recalibrate=batches)"
    assert any(text.startswith("batches: the 3 batches of training inputs") for text in seen.of("p"))


def test_files_beside_the_page(tmp_path):
    alone = surgery.report(nested(), tmp_path / "report.html", files=True)
    assert [path.name for path in alone] == ["report.html", "report.png", "report.csv"]
    both = {"One width": nested(), "per layer!": nested(tilt=0.1), "other": drawn(1, 5, fingerprint="bar")}
    names = [path.name for path in surgery.report(both, tmp_path / "r.html", files=True)]
    assert names == [
        "r.html", "r-one-width-and-per-layer.png", "r-one-width-and-per-layer-one-width.csv",
        "r-one-width-and-per-layer-per-layer.csv", "r-other.png", "r-other.csv",
    ]  # fmt: skip
    assert all((tmp_path / name).stat().st_size for name in names)
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


REFUSED = {
    "no curves": ({}, {}, InputError, "no curve"),
    "an empty curve": (nested()[:0], {}, InputError, "without points"),
    "an empty list": ([], {}, InputError, "without points"),
    "no such limit": (nested(), {"max_size": 3}, InputError, r"max_size is no limit.*max_bytes"),
    "a limit that is no number": (nested(), {"max_bytes": "2 MB"}, InputError, "not a finite number"),
    "a limit that nothing fits": (nested(), {"max_bytes": 10}, WidthError, "none of the 6 points fits"),
    "limits of sections": ([surgery.Section("", {"": nested()})], {"max_bytes": 1.0}, InputError, "Section.limits="),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_written(case, tmp_path):
    curves, limits, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        surgery.report(curves, tmp_path / "report.html", **limits)
    assert not list(tmp_path.iterdir())


def test_curves_of_different_models_do_not_share_a_section():
    with pytest.raises(InputError, match="a, b are of different models: give each model a section"):
        surgery.Section("", {"a": nested(), "b": curve(0.5)})


def test_what_cannot_be_written_is_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=re.escape(f"{tmp_path / 'no' / 'r.html'}: cannot be written")):
        surgery.report(nested(), tmp_path / "no" / "r.html")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=re.escape("pip install 'model-surgery[plot]'")):
        surgery.report(nested(), tmp_path / "r.html")
    assert not list(tmp_path.iterdir())


def test_a_page_opens_where_no_row_is_near_the_full_model(tmp_path) -> None:
    """A searched curve knows the full model beside its rows; all of them may lose more than a page opens with."""
    curve = nested()
    base = dataclasses.replace(curve[0], score=0.99)
    points = tuple(dataclasses.replace(point, score=point.score / 2) for point in curve[1:])
    few = dataclasses.replace(curve[1:], points=points, base=base, uniform=())
    assert surgery.report(few, tmp_path / "page.html")
