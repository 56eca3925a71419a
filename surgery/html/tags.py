"""Trees of HTML and SVG. All text and every attribute is escaped when a tree is written: there is no raw text."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.etree.ElementTree import Element


def tag(name: str, /, *children: Element | str | None, **attributes: object) -> Element:
    """An element with these children. `data_axis="x"` becomes `data-axis="x"`, `class_` is `class`.

    An attribute of None or False is left out, one of True is written without a value. A child of None is left out.
    """
    element = Element(name)
    for key, value in attributes.items():
        if value is not None and value is not False:
            element.set(key.rstrip("_").replace("_", "-"), "" if value is True else str(value))
    for child in children:
        add(element, child)
    return element


def add(element: Element, child: Element | str | None) -> None:
    """Append an element, or text behind what is there."""
    if child is None:
        return
    if not isinstance(child, str):
        element.append(child)
    elif len(element):
        element[-1].tail = (element[-1].tail or "") + child
    else:
        element.text = (element.text or "") + child


def html(root: Element) -> str:
    """The whole document, with its doctype."""
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def breakable(name: str) -> Iterator[Element | str]:
    """A name that may go on in a new line behind each dot."""
    first, *others = name.split(".")
    yield first
    for part in others:
        yield "."
        yield tag("wbr")
        yield part
