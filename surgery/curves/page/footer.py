"""When a page was made, and with what."""

from __future__ import annotations

from datetime import UTC, date, datetime
from importlib import metadata
from xml.etree.ElementTree import Element

from surgery.html.tags import tag

LIBRARY = "model-surgery"


def footer(made: date | None = None) -> Element:
    """The day, which is today's in UTC where none is given, and the version of the library."""
    day = (made or datetime.now(UTC).date()).strftime("%Y-%m-%d")
    time = tag("time", day, datetime=day)
    return tag("footer", tag("p", "Made on ", time, f" (UTC) with {_library()}."))


def _library() -> str:
    """Its name and version; the name alone where it runs from a folder that was never installed."""
    try:
        return f"{LIBRARY} {metadata.version(LIBRARY)}"
    except metadata.PackageNotFoundError:
        return LIBRARY
