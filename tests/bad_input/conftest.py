"""A twin with widths of its own, for bad input to leave as it is."""

from __future__ import annotations

from typing import Any

import pytest

import surgery
from tests.small_models import Net, X


@pytest.fixture
def wrapped(model: Net) -> Any:
    twin = surgery.wrap(model, X, granularity={"fc1.o": 4})
    surgery.set_widths(twin, {"fc1.o": 12, "fc2.o": 5})
    return twin
