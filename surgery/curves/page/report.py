"""What a sweep found, as one page that a person can explore: no other file, nothing from the network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from os import PathLike
from pathlib import Path
from typing import Any, cast

from surgery.curves.page.page import page
from surgery.curves.page.section import Section
from surgery.curves.page.words import difference, summary
from surgery.curves.plot import figure_class, plot_curves
from surgery.curves.points import Rows
from surgery.errors import InputError
from surgery.html.document import write

__all__ = ["Section", "difference", "report", "summary"]
TITLE = "Accuracy against cost"


def report(
    curves: Rows | Mapping[str, Rows] | Iterable[Section],
    path: str | PathLike[str],
    *,
    title: str = TITLE,
    score: str = "score",
    files: bool = False,
    made: date | None = None,
    **limits: Any,
) -> list[Path]:
    """Write a page with the curves, a budget to set, and the widths and the Python of the point that it picks.

    Everything is inside the file. Its script works without a network, and the page can be read without it. Texts are
    escaped. Where all scores lie in [0, 1] they are taken for shares, and told in percent and points.

    Args:
        curves: one curve; or several by name, of which those of one model share a picture; or sections.
        path: where the page goes, such as `report.html`.
        title: the heading of the page.
        score: what the score is called, such as `accuracy`.
        files: write a PNG and a CSV of each section beside the page.
        made: the day that the page says it was made on; by default today's, in UTC.
        limits: what the page opens with, as keywords of `Curve.choose`. Sections have limits of their own.

    Returns:
        The files that were written, the page first.

    Raises:
        InputError: there is no curve, a curve is empty, a path cannot be written, or matplotlib is missing.
        WidthError: no point is within the limits.
    """
    if isinstance(curves, list | tuple) and any(isinstance(one, Rows) for one in curves):
        raise InputError("report takes one curve, or a mapping of names to several: {'first': one, 'second': another}")
    if isinstance(curves, str | PathLike) or isinstance(path, Rows | Mapping):
        raise InputError("report takes curves, then a path: report(curve, 'report.html')")
    figure_class()  # without matplotlib nothing is written
    sections = _sections(curves, score, limits)
    target = write(path, page(title, sections, made))
    try:
        beside = list(_beside(target, sections)) if files else []
    except OSError as error:
        where = error.filename or path
        raise InputError(f"report: {where}: cannot be written ({error.strerror}): name another file") from error
    return [target, *beside]


def _sections(
    curves: Rows | Mapping[str, Rows] | Iterable[Section], score: str, limits: Mapping[str, Any]
) -> list[Section]:
    """Sections for what `report` was given."""
    if isinstance(curves, Mapping):
        models = _by_model(curves)
        several = len(models) > 1
        if not curves:
            raise InputError("report: there is no curve to show")
        return [Section(" and ".join(group) if several else "", group, limits, score) for group in models]
    items: list[object] = list(curves)
    sections = [item for item in items if isinstance(item, Section)]
    if not sections or len(sections) < len(items):
        return [Section("", {"": cast("Rows", curves)}, limits, score)]
    if limits:
        raise InputError(f"report: {', '.join(limits)}: sections have limits of their own, Section.limits=")
    return sections


def _by_model(curves: Mapping[str, Rows]) -> list[dict[str, Rows]]:
    """Curves of one plan together. A curve that does not know its plan stands alone."""
    models: dict[object, dict[str, Rows]] = {}
    for name, curve in curves.items():
        known = (curve.plan_fingerprint, tuple(sorted(curve.full.items())))
        models.setdefault(known if curve.plan_fingerprint else name, {})[name] = curve
    return list(models.values())


def _beside(page: Path, sections: list[Section]) -> Iterator[Path]:
    """Write a PNG of each section and a CSV of each curve, named after the page and what tells them apart."""
    for section in sections:
        stem = page.stem + (_slug(section.title) if len(sections) > 1 else "")
        picture = page.with_name(f"{stem}.png")
        plot_curves(section.curves, picture, chosen=section.curve[section.pick()], score=section.score)
        yield picture
        for name, curve in section.curves.items():
            table = page.with_name(f"{stem}{_slug(name) if len(section.curves) > 1 else ''}.csv")
            curve.to_csv(table)
            yield table


def _slug(name: str) -> str:
    return "-" + (re.sub(r"\W+", "-", name.lower()).strip("-") or "curve")
