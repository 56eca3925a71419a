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

from surgery.axes.algebra import Dims, fresh
from surgery.rules import call as rules
from surgery.rules.registry import RULES
from tests.laws.calls import TABLE, Draw, call, plain
from tests.laws.conformance import Apply, Disagreement, Verdict, conforms, through_a_view


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


# One needs a device that this machine may not have; of the other, calls on one tensor alone are explained.
ELSEWHERE = {torch.Tensor.cuda, torch.Tensor.data.__set__}
SPELLINGS: defaultdict[str, list[Any]] = defaultdict(list)
for _operation in RULES:
    _function = spelling(_operation)
    if _function is not None and _function not in ELSEWHERE and not hidden(_function):
        SPELLINGS[plain(_operation)].append(_function)
ALIKE = Counter(RULES.values())


def draws(name: str) -> int:
    """How often a rule is tried: less for each of many operations that share one."""
    many = max(ALIKE[RULES[_operation]] for _operation in RULES if plain(_operation) == name) > 40
    return max(2, settings().max_examples // (150 if many else 75))


# Nothing is free in calls of these: they number, draw or read positions, or have no dimensions.
ORDERED = frozenset(
    "_assert _is_all_true _is_any_true _parse_to arange argwhere as_strided_scatter bartlett_window "
    "bernoulli bincount blackman_window cartesian_prod cauchy combinations exponential gumbel_softmax geometric "
    "hamming_window hann_window kaiser_window linspace log_normal logspace meshgrid multinomial nonzero normal put "
    "poisson rand rand_like randint randint_like randn randn_like randperm random scalar_tensor tensor "
    "torchvision::nms tril_indices triu_indices uniform unique unique_consecutive new_tensor tolist item numpy __int__ "
    "__index__ __bool__ __float__ __format__ __contains__".split()
)


@pytest.mark.filterwarnings("ignore")  # the deviation of a single unit, and the like: both sides are NaN alike
@pytest.mark.parametrize("name", sorted(SPELLINGS))
def test_a_rule_says_what_its_operation_does(name: str) -> None:
    explained: set[Any] = set()
    free: set[Any] = set()

    @settings(max_examples=draws(name))
    @given(random=st.randoms(), seed=st.integers(0, 2**16))
    def law(random: Random, seed: int) -> None:
        draw = Draw(random, torch.Generator().manual_seed(seed))
        for function in SPELLINGS[name]:
            verdict = holds(function, name, draw)
            explained.update([function] if verdict else [])
            free.update([function] if verdict and verdict.free else [])

    with torch.random.fork_rng(devices=[]):
        law()
    assert explained >= set(SPELLINGS[name]), "no call in tests/laws/calls.py that the rule explains"
    assert free or name in ORDERED, "the rule leaves nothing free, so nothing was tested"


def holds(function: Callable, name: str, draw: Draw) -> Verdict | None:
    """What the rule says of one of the calls that the operation accepts. Raises Disagreement where it is wrong.

    Some calls write into `out=`; some take, and write into, views of other tensors.
    """
    makers = [(maker, entry) for entry in TABLE[name] for maker in entry.makers]
    for maker, entry in draw.random.sample(makers, len(makers)):
        args, kwargs = maker(draw)
        plain = Apply(function, args, kwargs)
        made = runs(plain)
        if made is None:
            continue
        models = [Apply(function, args, {**kwargs, **written(made[0])}, through_a_view(draw.random))]
        models += [Apply(function, args, kwargs, through_a_view(draw.random)), plain]
        for model in models[draw.between(0, 2) if entry.views else 2 :]:
            result = runs(model)
            if result is None or (entry.filled and not alike(result[0], made[0])):
                continue  # this form is not accepted; some operations write past the strides of a view
            verdict = conforms(model, draw.generator, not entry.mixes, entry.least, entry.filled)
            if verdict.explained:
                return verdict
    return None


def runs(model: Apply) -> Any:
    """What a call makes, or None where it is refused."""
    torch.default_generator.manual_seed(0)
    try:
        with torch.no_grad():
            return model()
    except Exception:
        return None


def written(made: Any) -> dict[str, Any]:
    """An `out=` argument for what was made."""
    if not isinstance(made, Tensor | tuple | list) or not made_of_tensors(made):
        return {}
    return {"out": torch.zeros_like(made) if isinstance(made, Tensor) else tuple(map(torch.zeros_like, made))}


def made_of_tensors(made: Any) -> bool:
    return isinstance(made, Tensor) or all(isinstance(one, Tensor) for one in made)


def alike(a: Any, b: Any) -> bool:
    """Whether two calls made the same; memory that is not filled is whatever it is."""
    both = zip(pytree.tree_leaves(a), pytree.tree_leaves(b), strict=True)
    return all(x.shape == y.shape and torch.allclose(x, y, equal_nan=True) for x, y in both if isinstance(x, Tensor))


WRONG: dict[str, tuple[Any, Callable, Callable]] = {
    "an order that matters": (torch.cumsum, lambda x, dim: x, lambda d: call(d.ints(4, 3), 0)),
    "dimensions that change places": (torch.transpose, lambda x, i, j: x, lambda d: call(d.ints(3, 3), 0, 1)),
    "a size that must follow": (
        torch.narrow, lambda x, dim, start, n: Dims((fresh(int(n)), *x[1:])), lambda d: call(d.ints(4, 3), 0, 1, 2)),
    "halves that are apart": (
        torch.chunk, lambda x, n, dim: [Dims((fresh(2), x[1]))] * 2, lambda d: call(d.ints(4, 3), 2, 0)),
    "a factor on the wrong side": (
        torch.repeat_interleave, lambda x, n, dim: Dims((fresh(3) + x[0],)), lambda d: call(d.ints(4), 3, 0)),
    "a mean of features": (torch.softmax, lambda x, dim: x, lambda d: call(d.real(2, 4), 1)),
    "indices of positions": (torch.argmax, lambda x, dim: Dims(x[:1]), lambda d: call(d.ints(2, 6), 1)),
    "another size": (torch.flatten, lambda x: Dims((x[0],)), lambda d: call(d.ints(2, 3))),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_rule_is_caught(wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    function, rule, maker = wrong
    monkeypatch.setitem(RULES, function, rule)
    draw = Draw(Random(0), torch.Generator().manual_seed(0))
    args, kwargs = maker(draw)
    try:
        found = not conforms(Apply(function, args, kwargs), draw.generator).explained
    except Disagreement:
        found = True
    assert found


def test_what_an_operation_writes_into_is_held_to_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that leaves out what is written would be caught, as would a table that lacks an operation."""
    generator = torch.Generator().manual_seed(0)
    base = torch.zeros(3, 4, dtype=torch.float64)
    model = Apply(torch.mul, (base[0] + 2, base[1] + 3), {"out": base[2]}, lambda x: (x.repeat(2), lambda y: y[4:]))
    assert conforms(model, generator).free
    monkeypatch.setattr(rules, "_written", lambda *_: None)
    with pytest.raises(Disagreement):
        conforms(model, generator)
    assert not holds(torch.linalg.vecdot, "linalg_vecdot", Draw(Random(0), generator))
