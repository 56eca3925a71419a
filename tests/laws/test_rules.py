"""Law 6 for every rule: what it says of an operation is what the operation does, in every spelling."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.rules.base import RULES
from tests.laws.calls import TABLE, Draw, plain
from tests.laws.conformance import Apply, conforms

SPELLINGS: defaultdict[str, list[Any]] = defaultdict(list)
for _function in RULES:
    SPELLINGS[plain(_function)].append(_function)
DRAWS = max(1, settings().max_examples // 60)


@pytest.mark.parametrize("name", sorted(SPELLINGS))
def test_a_rule_says_what_its_operation_does(name: str) -> None:
    agreed: set[Any] = set()

    @settings(max_examples=DRAWS)
    @given(random=st.randoms(), seed=st.integers(0, 2**16))
    def law(random: Random, seed: int) -> None:
        draw = Draw(random, torch.Generator().manual_seed(seed))
        agreed.update(function for function in SPELLINGS[name] if holds(function, name, draw))

    law()
    assert agreed >= set(SPELLINGS[name]), "no call in tests/laws/calls.py that the rule explains"


def holds(function: Callable, name: str, draw: Draw) -> bool:
    """Whether one of the calls that the operation accepts is explained by its rule, and rightly."""
    makers = [(maker, entry) for entry in TABLE[name] for maker in entry.makers]
    for maker, entry in draw.random.sample(makers, len(makers)):
        args, kwargs = maker(draw)
        if accepts(function, args, kwargs):
            model = Apply(function, args, kwargs, {})
            if conforms(model, draw.generator, not entry.mixes, entry.least, entry.filled).explained:
                return True
    return False


def accepts(function: Callable, args: Any, kwargs: Any) -> bool:
    try:
        with torch.no_grad():
            Apply(function, args, kwargs, {})()
    except Exception:
        return False
    return True
