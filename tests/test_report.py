"""A report says in plain words what a point keeps and loses, needs no other file, and runs nothing."""

import base64
import re
from html.parser import HTMLParser

import pytest

from surgery.curve import Curve, Point
from surgery.report import Section, difference, summary, write_report

FULL = {"params": 1000, "bytes": 4000, "macs": 50_000}


def curve(*scores: float) -> Curve:
    rows = zip((1.0, 0.5, 0.25), scores, strict=False)
    return Curve(
        tuple(
            Point({"a": 1}, score, round(f * 1000), round(f * 4000), round(f * f * 50_000), f / 100, f)
            for f, score in rows
        ),
        FULL,
    )


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


class Page(HTMLParser):
    """The tags, attributes and text of a page; complains where tags do not close."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], {}, []
        self.feed(text)
        self.close()
        assert not self.open, "a tag is not closed"

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {(tag, name): value for name, value in attributes}
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def test_report_holds_everything_and_escapes_it(tmp_path):
    evil = '<script>alert(1)</script> & "friends"'
    found = curve(0.9, 0.8, 0.7)
    section = Section(evil, found, found[1], notes=(evil,), code=f"load({evil!r})")
    write_report(tmp_path / "report.html", evil, [section, section])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    links = [value for (_, name), value in page.attributes.items() if name in ("src", "href")]
    assert "script" not in page.tags and all(link.startswith("data:") for link in links)
    assert page.tags.count("img") == 2 and page.tags.count("tr") == 8
    data = page.attributes["img", "src"].removeprefix("data:image/png;base64,")
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    words = "".join(page.words)
    assert words.count(evil) >= 6 and f"load({evil!r})" in words
    assert all(cell in words for row in found.table() for cell in row)
    assert summary(found, found[1]) in words


def test_the_chosen_row_is_marked(tmp_path):
    found = curve(0.9, 0.8, 0.7)
    write_report(tmp_path / "report.html", "t", [Section("s", found, found[2])])
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r'<tr class="chosen"><td>(\d)</td>', text) == ["2"]
    assert "<pre>" not in text
