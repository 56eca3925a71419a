"""What the page's script needs to know of each point: numbers to choose by, and the words to show."""

from __future__ import annotations

import json

from surgery.curves.page.asked import ANYTHING, ASKED, HOW, LUCK, compared, phrases, units
from surgery.curves.page.section import Section
from surgery.curves.page.words import budget_words, change, error_words, score_words
from surgery.curves.points import Point
from surgery.html.numbers import COST_WORDS, percent

LINE = 50  # characters of code that fit beside the picture


def facts(section: Section, picked: int) -> str:
    """JSON for the script: the points in the order of `section.curve`, the limits to open with, and texts."""
    points = [
        {
            **{measure: getattr(point, measure) for measure in ("score", "error", *COST_WORDS)},
            "name": name_of(section, place),
            "row": row,
            "tiles": tiles(section, point),
            "code": code(section, place),
            "widths": [point.widths.get(group, size) for group, size in section.groups.items()],
        }
        for place, (_, row, point) in enumerate(section.rows)
    ]
    document = {
        "points": points,
        "picked": picked,
        "limits": section.limit_of(),
        "errors": section.opening().get("errors", 0),
        "reference": section.reference.score,
        "sizes": list(section.groups.values()),
        "units": units(section),
        "phrases": phrases(section),
        "words": {"how": HOW, "asked": ASKED, "anything": ANYTHING, "luck": LUCK},
    }
    return json.dumps(document).replace("<", "\\u003c")  # nothing in it can end the element that holds it


def name_of(section: Section, place: int) -> str:
    """What a point is called: its curve, where there are several, and its width or row, with the budget of a search."""
    series, row, point = section.rows[place]
    name, curve = list(section.curves.items())[series]
    width = f"width {point.fraction:.4g}" if point.fraction is not None else None
    if curve.uniform:
        own = ", ".join(filter(None, (f"row {row}", budget_words(curve, point), width)))
    else:
        own = width or f"row {row}"
    return f"{name}, {own}" if len(section.curves) > 1 else own


def tiles(section: Section, point: Point) -> list[tuple[str, str]]:
    """The score and the costs of a point as a person reads them, each with a note below."""
    return [_score_tile(section, point), *(_cost_tile(section, point, measure) for measure in section.measures)]


def _score_tile(section: Section, point: Point) -> tuple[str, str]:
    share, widest = section.share, section.reference
    value = score_words(point.score, share) + error_words(point.error, share)
    if point is widest:
        return value, compared(section)
    apart = change(widest.score, point.score, share)
    word = "less" if point.score < widest.score else "more"
    other = compared(section)
    return value, f"{apart} {word} than {other}" if apart else f"as {other}"


def _cost_tile(section: Section, point: Point, measure: str) -> tuple[str, str]:
    value = getattr(point, measure)
    whole = section.curve.full.get(measure) or getattr(section.reference, measure) or section.most(measure)
    words = COST_WORDS[measure].words(value)
    if measure == "latency" and point.spread:
        words += f" ± {point.spread / COST_WORDS[measure].unit(value)[1]:.2g}"
    return words, f"{percent(value, whole)} of full"


def code(section: Section, place: int) -> str:
    """Two lines of Python that make the model of a point."""
    series, _, point = section.rows[place]
    curve = list(section.curves.values())[series]
    more = ", refit=batches" if curve.refitted else ", recalibrate=batches" if curve.recalibrated else ""
    if point.fraction is not None:
        widths = repr(float(point.fraction))
        more = f", multiple={curve.multiple}{more}" if curve.multiple > 1 else more
    else:
        cut = {group: width for group, width in point.widths.items() if width != section.curve.sizes.get(group)}
        widths = _mapping(cut) if cut else "1.0"
    return f"widths = {widths}\nsmall = surgery.shrink(wrapped, widths{more})"


def _mapping(cut: dict[str, int]) -> str:
    """A dict as Python, on one line if it is short."""
    entries = [f"{group!r}: {width}" for group, width in cut.items()]
    line = "{" + ", ".join(entries) + "}"
    return line if len(line) <= LINE else "{\n" + "".join(f"    {entry},\n" for entry in entries) + "}"
