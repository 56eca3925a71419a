"""The examples in the documentation run, and print what the page says; lists in it are complete."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import io
import itertools
import linecache
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import surgery
from surgery.adapters.base import _REGISTRY
from surgery.rules.registry import RULES

ROOT = Path(__file__).parent.parent
PAGES = [page for page in (ROOT / "README.md", ROOT / "adapters" / "README.md") if page.exists()]
PAGES += sorted((ROOT / "docs").glob("*.md"))
OTHERS = [ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"(surgery|adapters|tests|docs|\.ci)/[\w./*-]*|\w+\.(py|js|css)|(surgery|tests)(\.[a-z_]+)+")
SKIP = "<!-- not run -->"


@dataclass(frozen=True)
class Block:
    """A python block, and what it prints if the page says so."""

    code: str
    printed: str | None


def blocks(text: str) -> Iterator[Block]:
    """The python blocks of a page that are run. A `text` block right after one is what it prints."""
    found = list(FENCE.finditer(text))
    for fence, follower in itertools.zip_longest(found, found[1:]):
        if fence[1] != "python" or text[: fence.start()].rstrip().endswith(SKIP):
            continue
        said = follower is not None and follower[1] == "text" and not text[fence.end() : follower.start()].strip()
        yield Block(fence[2], follower[2] if said and follower is not None else None)


def run(page: Path) -> Iterator[tuple[Block, str]]:
    """Each block with what it printed. Line numbers are those of a file `example.py` that holds the page's blocks."""
    module = types.ModuleType("example")
    source = ""
    for block in blocks(page.read_text(encoding="utf-8")):
        printed = io.StringIO()
        code = compile("\n" * source.count("\n") + block.code, "example.py", "exec")
        source += block.code
        linecache.cache["example.py"] = (len(source), None, source.splitlines(keepends=True), "example.py")
        with contextlib.redirect_stdout(printed):
            exec(code, vars(module))
        yield block, printed.getvalue()


@pytest.fixture
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Examples write into an empty folder; what they declare and draw is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    tables = [(table, dict(table)) for table in (RULES, _REGISTRY)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
    for table, before in tables:
        table.clear()
        table.update(before)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_print_what_the_page_says(page: Path, as_before: None) -> None:
    for block, printed in run(page):
        if block.printed is not None:
            assert printed.rstrip() == block.printed.rstrip(), block.code


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert "://" in target or (page.parent / target).exists(), target


def named(text: str) -> Iterator[str]:
    """The files, folders and modules of this project that a page names in `code`, outside of its examples."""
    for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", text)):
        if NAMED.fullmatch(code):
            yield code


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    files = {file.name for folder in ("surgery", "adapters", "tests") for file in (ROOT / folder).rglob("*.*")}
    for name in named(page.read_text(encoding="utf-8")):
        if "/" in name:
            assert any(ROOT.glob(name.rstrip("/"))), name
        elif name.endswith((".py", ".js", ".css")):
            assert name in files, name
        else:
            module, _, attribute = name.rpartition(".")
            assert importlib.util.find_spec(name) or hasattr(importlib.import_module(module), attribute), name


def test_every_public_name_has_an_entry() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    public = {n for n, v in vars(surgery).items() if n[0] != "_" and not isinstance(v, types.ModuleType)}
    entries = set(re.findall(r"^\*\*`(\w+)", page, re.MULTILINE))
    assert not public - entries


READERS = ("ordered", "positions", "addressed", "pointed", "_listed")


def test_every_reason_of_a_rule_has_an_entry() -> None:
    """The texts that rules give to `ordered` and `positions` are explained in docs/fixed.md."""
    page = (ROOT / "docs" / "fixed.md").read_text(encoding="utf-8")
    reasons = set()
    for file in (ROOT / "surgery" / "rules").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in READERS:
                reasons |= {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    assert len(reasons) > 20
    assert not {reason for reason in reasons if reason not in page}
