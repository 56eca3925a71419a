"""A page of curves in a real Chromium, which must ask for nothing and complain about nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import surgery
from tests.chromium import NoBrowser, chromium

DESK = {"width": 1200, "height": 900}
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    try:
        with chromium() as running:
            yield running
    except NoBrowser as reason:
        pytest.skip(str(reason))


@pytest.fixture
def visit(browser: Any, tmp_path: Path) -> Iterator[Open]:
    """Writes a report and opens it. Afterwards nothing may have been asked for, refused or complained about."""
    seen: list[str] = []
    contexts = []

    def open_(
        curves: Any,
        *,
        viewport: dict[str, int] = DESK,
        script: bool = True,
        dark: bool = False,
        touch: bool = False,
        **options: Any,
    ) -> Any:
        path = surgery.report(curves, tmp_path / "report.html", **options)[0]
        scheme = "dark" if dark else "light"
        looks = {"viewport": viewport, "color_scheme": scheme, "has_touch": touch}
        context = browser.new_context(java_script_enabled=script, **looks)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: seen.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: seen.append(f"error: {error}"))
        page.on("request", lambda request: seen.append(f"request: {request.url}"))
        page.goto(path.as_uri())
        assert seen == [f"request: {path.as_uri()}"]  # the page itself
        seen.clear()
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not seen
