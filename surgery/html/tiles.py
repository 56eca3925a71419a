"""Shares as bars, and numbers in large with their names above and notes below."""

from __future__ import annotations

from xml.etree.ElementTree import Element

from surgery.html.tags import tag


def bar(share: float) -> Element:
    """A bar that is filled up to this share of it."""
    whole = tag("rect", class_="whole", width="100%", height="100%")
    kept = tag("rect", class_="kept", width=f"{100 * share:.4g}%", height="100%")
    return tag("svg", whole, kept, class_="bar", aria_hidden="true")


def tile(name: str, value: str, *note: Element | str | None) -> Element:
    """One number of a `dl`."""
    return tag("div", tag("dt", name), tag("dd", value, class_="value"), tag("dd", *note, class_="note"))
