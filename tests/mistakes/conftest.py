"""What rows declare is gone afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from surgery.adapters.base import _REGISTRY
from surgery.rules.registry import RULES


@pytest.fixture(autouse=True)
def declarations() -> Iterator[None]:
    tables = [(table, dict(table)) for table in (RULES, _REGISTRY)]
    yield
    for table, before in tables:
        table.clear()
        table.update(before)
