"""A real headless Chromium, if this machine has one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "SURGERY_CHROMIUM"
NAMES = (
    "chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome",
    "microsoft-edge",
)  # fmt: skip


class NoBrowser(Exception):
    """Why there is none, and what to do."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A running browser of playwright's. Raises NoBrowser where playwright or every Chromium is missing."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise NoBrowser("playwright is missing: pip install 'model-surgery[browser]'") from error
    with sync_playwright() as playwright:
        path = _path(playwright.chromium.executable_path)
        alone = [] if os.name == "nt" or os.geteuid() else ["--no-sandbox"]  # its sandbox refuses to run as root
        browser = playwright.chromium.launch(executable_path=path, args=alone)
        yield browser
        browser.close()


def _path(bundled: str) -> str:
    """The variable's, else the first on the PATH, else the one that `playwright install chromium` puts in place."""
    if given := os.environ.get(VARIABLE):
        return given
    found = next(filter(None, map(shutil.which, NAMES)), bundled)
    if not Path(found).exists():
        raise NoBrowser(f"no Chromium: set {VARIABLE}, or run `playwright install chromium`")
    return found
