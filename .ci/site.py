"""Hooks of mkdocs.yml: pages that lie elsewhere in the repository, and the reference, a page per section of api.md."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
ELSEWHERE = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "adapters.md": "adapters/README.md"}
MODULES = """
## `surgery.adapters` and `surgery.rules` {: #modules }

What layers and operations declare, one file for each family: [adapters](../adapters.md), [rules](../writing-rules.md).
"""


def sections() -> dict[str, tuple[str, list[str]]]:
    """The pages of the reference: a heading of api.md and the names below it. A test holds that none is missing."""
    found = {}
    for part in re.split(r"^## ", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        if names := re.findall(r"^\*\*`([\w.]+)", body, re.MULTILINE):
            found["reference/" + re.sub(r"\W+", "-", title.lower()) + ".md"] = (title, names)
    return found


def full(name: str) -> str:
    return name if "." in name else f"surgery.{name}"


def on_config(config: Any) -> Any:
    reference = next(entry["Reference"] for entry in config.nav if "Reference" in entry)
    reference += [{title: page} for page, (title, _) in sections().items()]
    return config


def on_files(files: Any, config: Any) -> Any:
    for page, source in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for page, (title, names) in sections().items():
        anchor = title.lower().replace(" ", "-")
        exact = f"Arguments and results, from the code. More exactly: [What names mean](../api.md#{anchor}).\n\n"
        text = f"# {title}\n\n{exact}" + "".join(f"::: {full(name)}\n\n" for name in names)
        files.append(File.generated(config, page, content=text + MODULES * ("adapter" in names)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links to files of the repository lead to their pages; those to files without a page are their words alone."""
    source = ELSEWHERE.get(page.file.src_uri)
    if (source is None and "../" not in markdown) or page.file.src_uri.startswith("reference/"):
        return markdown
    pages = {there: here for here, there in ELSEWHERE.items()}
    folder = posixpath.dirname(source or f"docs/{page.file.src_uri}")

    def turned(link: re.Match[str]) -> str:
        text, target, anchor = link.groups(default="")
        path = posixpath.normpath(posixpath.join(folder, target))
        there = pages.get(path) or path.removeprefix("docs/")
        return f"[{text}]({there}{anchor})" if files.get_file_from_path(there) else text

    return re.sub(r"\[([^\]]*)\]\(((?![a-z]+://|#)[^)#\s]+)(#[^)]*)?\)", turned, markdown)
