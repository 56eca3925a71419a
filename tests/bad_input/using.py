"""Ways to use a model, for tests that every one of them refuses it alike."""

from __future__ import annotations

from typing import Any

import surgery
from tests.small_models import X


def enter_at_widths(wrapped: Any, spec: Any) -> None:
    with surgery.at_widths(wrapped, spec):
        raise AssertionError("not reached")


ANALYSING = [
    lambda model: surgery.wrap(model, X),
    lambda model: surgery.inspect(model, X),
    lambda model: surgery.shrink(model, 0.5, X),
    lambda model: surgery.reorder(model, {}, X),
    lambda model: surgery.cost(model, 0.5, X),
]
