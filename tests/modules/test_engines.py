"""What engines put onto modules, and what only has such a name."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from surgery.modules.engines import is_changed, own_attributes


@pytest.mark.parametrize("value", [[], [print], None, "no"], ids=str)
def test_an_attribute_that_is_called_hooks_and_is_no_table_stays(value: Any) -> None:
    layer = nn.Linear(2, 2)
    layer._my_hooks = value  # as models of transformers have under gradient checkpointing
    assert not is_changed(layer) and own_attributes(layer)["_my_hooks"] is value
