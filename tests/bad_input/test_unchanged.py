"""The instrument of this folder: what `tests.unchanged` takes a picture of, it sees changes in."""

from __future__ import annotations

from typing import Any

import surgery
from tests.unchanged import picture


def test_the_picture_sees_changes(wrapped: Any) -> None:
    """Each of these is noticed."""
    for change in (
        lambda: surgery.set_widths(wrapped, 0.5),
        lambda: wrapped.head.bias.data.add_(1),
        lambda: setattr(wrapped.fc2, "in_features", 3),
        lambda: wrapped.fc1.register_forward_hook(print),
        lambda: wrapped.eval(),
        lambda: wrapped.norm.running_mean.add_(1),
    ):
        before = picture(wrapped)
        change()
        assert picture(wrapped) != before
