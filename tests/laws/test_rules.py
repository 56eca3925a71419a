"""Law 6 for every rule: what it says of an operation is what the operation does, in every spelling."""

from __future__ import annotations

import importlib
import importlib.util
from collections import Counter, defaultdict
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils import _pytree as pytree

from surgery.rules.base import RULES
from tests.laws.calls import TABLE, Draw, plain
from tests.laws.conformance import Apply, conforms, through_a_view

def spelling(operation: Any) -> Any:
    """An operation that is declared by its qualified name, if the library that has it is there."""
    if not isinstance(operation, str):
        return operation
    space, _, name = operation.partition("::")
    if importlib.util.find_spec(space) is None:
        return None
    importlib.import_module(space)
    return getattr(getattr(torch.ops, space), name)


def hidden(operation: Any) -> bool:
    """What torch calls inside of a function of its own of the same name is never seen."""
    name = getattr(operation, "__name__", "")
    inside = getattr(torch._C._VariableFunctions, name, None) is operation
    return inside and getattr(torch, name, operation) is not operation


ELSEWHERE = {torch.Tensor.cuda}  # needs a device that this machine may not have
SPELLINGS: defaultdict[str, list[Any]] = defaultdict(list)
for _operation in RULES:
    _function = spelling(_operation)
    if _function is not None and _function not in ELSEWHERE and not hidden(_function):
        SPELLINGS[plain(_operation)].append(_function)
ALIKE = Counter(RULES.values())


def draws(name: str) -> int:
    """How often a rule is tried: less for each of many operations that share one."""
    many = max(ALIKE[RULES[_operation]] for _operation in RULES if plain(_operation) == name) > 40
    return max(2, settings().max_examples // (150 if many else 50))


@pytest.mark.parametrize("name", sorted(SPELLINGS))
def test_a_rule_says_what_its_operation_does(name: str) -> None:
    agreed: set[Any] = set()

    @settings(max_examples=draws(name))
    @given(random=st.randoms(), seed=st.integers(0, 2**16))
    def law(random: Random, seed: int) -> None:
        draw = Draw(random, torch.Generator().manual_seed(seed))
        agreed.update(function for function in SPELLINGS[name] if holds(function, name, draw))

    with torch.random.fork_rng(devices=[]):
        law()
    assert agreed >= set(SPELLINGS[name]), "no call in tests/laws/calls.py that the rule explains"


def holds(function: Callable, name: str, draw: Draw) -> bool:
    """Whether one of the calls that the operation accepts is explained by its rule, and rightly.

    Some calls write into `out=`; some take, and write into, views of other tensors.
    """
    makers = [(maker, entry) for entry in TABLE[name] for maker in entry.makers]
    for maker, entry in draw.random.sample(makers, len(makers)):
        args, kwargs = maker(draw)
        more = written(function, args, kwargs) if draw.pick(True, False) else {}
        for view in (through_a_view(draw.random), None) if draw.pick(True, False) else (None,):
            model = Apply(function, args, {**kwargs, **more}, view)
            if runs(model) and conforms(model, draw.generator, not entry.mixes, entry.least, entry.filled).explained:
                return True
    return False


def written(function: Callable, args: Any, kwargs: Any) -> dict[str, Any]:
    """An `out=` argument, if the operation takes one."""
    args, kwargs = pytree.tree_map_only(Tensor, torch.clone, (args, kwargs))
    try:
        made = function(*args, **kwargs)
        several = not isinstance(made, Tensor)
        into = tuple(one.new_zeros(*one.shape, 2)[..., 0] for one in (made if several else (made,)))
        function(*args, **kwargs, out=into if several else into[0])
        if not all(map(torch.equal, into, made if several else (made,))):
            return {}  # some write past the strides of a view
    except Exception:
        return {}
    return {"out": pytree.tree_map(torch.zeros_like, into if several else into[0])}


def runs(model: Apply) -> bool:
    try:
        with torch.no_grad():
            model()
    except Exception:
        return False
    return True
