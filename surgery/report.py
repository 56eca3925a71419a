"""What a sweep found, in plain words: a sentence, and a page that needs nothing but a browser."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from os import PathLike
from pathlib import Path

from surgery.curve import Curve, Point


@dataclass(frozen=True)
class Section:
    """One model of a report.

    Attributes:
        title: its heading.
        curve: what the sweep found.
        chosen: the point that was picked.
        notes: further paragraphs of plain text, such as the score on test data.
        code: how to load the small model, as Python; empty to leave it out.
    """

    title: str
    curve: Curve
    chosen: Point
    notes: tuple[str, ...] = ()
    code: str = ""


def summary(curve: Curve, point: Point) -> str:
    """What `point` keeps and loses against the widest point of the curve, in a sentence.

    Where all scores lie in [0, 1] they are taken for shares, and differences are given in points (1 point is 0.01).
    """
    widest = max(curve, key=lambda row: row.params)
    share = all(0 <= row.score <= 1 for row in curve)
    words = [
        f"Kept {_percent(point.params, curve.full['params'])} of the parameters "
        f"({point.params:,} of {curve.full['params']:,}) "
        f"and {_percent(point.macs, curve.full['macs'])} of the multiply-adds; "
        f"{difference(widest.score, point.score, share)}."
    ]
    if point.latency and widest.latency and point != widest:
        words.append(f"One call takes {_ms(point.latency)} instead of {_ms(widest.latency)}.")
    return " ".join(words)


def difference(before: float, after: float, share: bool = True) -> str:
    """A change of score in words: `lost 0.4 points (97.8 % to 97.4 %)`; as plain numbers where it is not a share."""
    scale, unit, shown = (100, " points", "{:.1f} %") if share else (1, "", "{:.4g}")
    change = abs(after - before) * scale
    amount = f"{change:.1f}" if share else f"{change:.4g}"
    if float(amount) == 0:
        return f"the score is the same ({shown.format(scale * after)})"
    word = "lost" if after < before else "gained"
    if share and amount == "1.0":
        unit = " point"
    return f"{word} {amount}{unit} ({shown.format(scale * before)} to {shown.format(scale * after)})"


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole if whole else 100.0
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %"


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms"


def write_report(path: str | PathLike[str], title: str, sections: Iterable[Section]) -> None:
    """Write one HTML file: for each section a summary, the curve, its table, and how to load the small model.

    Everything is inside the file: no script, no other file, nothing from the network. All texts are escaped.

    Raises:
        InputError: matplotlib is missing, or a curve is empty.
    """
    body = "\n".join(_section(section) for section in sections)
    page = PAGE.format(title=escape(title), style=STYLE, body=body)
    Path(path).write_text(page, encoding="utf-8")


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in (summary(section.curve, section.chosen), *section.notes)]
    parts += [_picture(section), _table(section.curve, section.chosen)]
    if section.code:
        parts += ["<p>To load the small model:</p>", f"<pre>{escape(section.code)}</pre>"]
    return "\n".join(parts)


def _picture(section: Section) -> str:
    file = io.BytesIO()
    section.curve.plot(file, chosen=section.chosen)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return f'<img alt="Score against parameters, {escape(section.title)}" src="data:image/png;base64,{data}">'


def _table(curve: Curve, chosen: Point) -> str:
    header, *rows = curve.table()
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in header) + "</tr>"]
    for point, row in zip(curve, rows, strict=True):
        mark = ' class="chosen"' if point == chosen else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; }
img { width: 100%; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #ddd; }
.chosen td { background: #fdeedd; font-weight: 600; }
pre { background: #f4f4f4; padding: .8rem; overflow-x: auto; }
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
