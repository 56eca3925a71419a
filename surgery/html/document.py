"""A whole page in one file: its head with a strict security policy, the style, a body, and at most one script."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from os import PathLike
from pathlib import Path
from xml.etree.ElementTree import Element

from surgery.errors import InputError
from surgery.html.tags import html, tag


def resource(package: str, name: str) -> str:
    """The text of a file that is installed beside a package's modules."""
    return files(package).joinpath(name).read_text(encoding="utf-8")


def document(title: str, style: str, script: str, *body: Element | str | None) -> str:
    """The text of a page. Its style sheet is the common one, and then `style`."""
    style = resource("surgery.html", "base.css") + style
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_policy(style, script)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    return html(tag("html", head, tag("body", *body, tag("script", script)), lang="en"))


def _policy(style: str, script: str) -> str:
    """Nothing is loaded or sent; only this style sheet applies, and only this script runs."""
    allowed = {"style-src": style, "script-src": script}
    hashes = {kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in allowed.items()}
    return (
        "default-src 'none'; "
        + "; ".join(f"{kind} 'sha256-{value}'" for kind, value in hashes.items())
        + ("; base-uri 'none'; form-action 'none'")
    )


def write(path: str | PathLike[str], text: str) -> Path:
    """Write a page. Raises InputError where that cannot be done."""
    target = Path(path)
    try:
        target.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise InputError(f"report: {path}: cannot be written ({error.strerror}): name another file") from error
    return target
