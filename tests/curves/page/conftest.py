"""A page of curves in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import surgery
from tests.pages import DESK, Open, visiting


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Writes a report and opens it."""
    with visiting(browser) as open_:

        def visit(
            curves: Any,
            *,
            viewport: dict[str, int] = DESK,
            script: bool = True,
            dark: bool = False,
            touch: bool = False,
            **options: Any,
        ) -> Any:
            path = surgery.report(curves, tmp_path / "report.html", **options)[0]
            return open_(path, viewport=viewport, script=script, dark=dark, touch=touch)

        yield visit
