"""The site's reference has every public name, and the files that say the version say the same."""

from __future__ import annotations

import importlib.util
import re
import types
from pathlib import Path

import pytest

import surgery

ROOT = Path(__file__).resolve().parents[1]


def test_the_reference_has_every_public_name() -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed: pip install 'model-surgery[docs]'")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / ".ci" / "site.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    names = [name for _, found in hooks.sections().values() for name in found]
    modules = {name for name in surgery.__all__ if isinstance(getattr(surgery, name), types.ModuleType)}
    elsewhere = {name for name in names if "." in name}  # in modules that need what not everybody has
    assert set(names) - elsewhere == set(surgery.__all__) - modules and len(names) == len(set(names))
    assert all(importlib.util.find_spec(name.rpartition(".")[0]) for name in elsewhere)
    assert all(f"surgery.{name}" in hooks.MODULES for name in modules)


def test_the_citation_is_of_this_version() -> None:
    (version,) = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert version == surgery.__version__
