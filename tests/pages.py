"""Pages in a real Chromium, which must ask for nothing and complain about nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

Open: TypeAlias = "Callable[..., Any]"

DESK = {"width": 1200, "height": 900}

# JavaScript: the contrast of two colours, as WCAG defines it, and the looks of what a selector finds.
RATIO = r"""
  const channels = (color) => color.match(/[\d.]+/g).slice(0, 3).map(Number);
  const light = (color) => channels(color).map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ratio = (a, b) => (Math.max(light(a), light(b)) + 0.05) / (Math.min(light(a), light(b)) + 0.05);
  const style = (selector) => getComputedStyle(document.querySelector(selector));
"""


@contextmanager
def visiting(browser: Any) -> Iterator[Open]:
    """Gives a function that opens a file. Afterwards nothing may have been asked for, refused or complained about."""
    seen: list[str] = []
    contexts = []

    def visit(
        path: Path,
        *,
        viewport: dict[str, int] = DESK,
        script: bool = True,
        dark: bool = False,
        touch: bool = False,
    ) -> Any:
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

    yield visit
    for context in contexts:
        context.close()
    assert not seen
