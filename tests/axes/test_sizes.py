"""Integers that remember where they came from: they are the integers that they stand for, and their origin says so."""

from __future__ import annotations

import copy
import itertools
import math
import operator
from collections.abc import Callable
from typing import Any

import pytest

from surgery.axes.formulas import Attribute, Constant, Origin, evaluate
from surgery.axes.sizes import COMPARISONS, Decision, Real, Sign, Size, observing, origin_of
from surgery.capture.decisions import Range
from tests.copies import pickled

VALUES = (-7, -2, -1, 0, 1, 2, 3, 12)
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "//": operator.floordiv, "%": operator.mod,
}  # fmt: skip
UNARY: dict[str, Callable[[Any], Any]] = {
    "+x": operator.pos, "-x": operator.neg, "abs": abs, "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc,
    "round": round, "round to 0": lambda x: round(x, 0), "square": lambda x: x**2, "eight times": lambda x: x << 3,
    "an eighth": lambda x: x >> 3, "index": operator.index, "deepcopy": copy.deepcopy,
}  # fmt: skip
KINDS = ("size, size", "size, int", "int, size")


def size(value: int, name: str = "x") -> Size:
    return Size(value, Attribute("m", (name,), value))


def pair(kind: str, left: int, right: int) -> tuple[Any, Any]:
    one, other = kind.split(", ")
    return size(left) if one == "size" else left, size(right, "y") if other == "size" else right


def comes_to(origin: Origin, **known: int) -> int:
    """The value of an origin; attributes have the values that they had, or these."""
    return evaluate(origin, lambda leaf: known.get(leaf.path[0], leaf.value))


def decided(use: Callable[[], Any]) -> tuple[Any, list[Decision]]:
    """What a call gives, and what it decided by sizes."""
    seen: list[Decision] = []
    with observing(seen.append):
        result = use()
    return result, seen


def is_true(decision: Decision) -> bool:
    left, right = comes_to(decision.left), comes_to(decision.right)
    return COMPARISONS.get(decision.sign, operator.eq)(left, right) is decision.outcome


# --- arithmetic that stays ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", BINARY)
def test_arithmetic_is_that_of_integers_and_keeps_the_origin(sign: str, kind: str) -> None:
    for left, right in itertools.product(VALUES, repeat=2):
        a, b = pair(kind, left, right)
        if sign in ("//", "%") and right == 0:
            with pytest.raises(ZeroDivisionError):
                BINARY[sign](a, b)
            continue
        result, seen = decided(lambda a=a, b=b: BINARY[sign](a, b))
        expected = BINARY[sign](left, right)
        assert type(result) is Size and result == expected and comes_to(result.origin) == expected
        assert seen == [], "nothing is decided"


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_size_are_those_of_an_integer_and_keep_the_origin(name: str) -> None:
    for value in VALUES:
        result = UNARY[name](size(value))
        assert result == UNARY[name](value)
        if name != "index":  # which Python itself makes a plain integer of
            assert type(result) is Size and comes_to(result.origin) == UNARY[name](value)


def test_divmod_is_both() -> None:
    for left, right in itertools.product(VALUES, (-3, 1, 5)):
        found = divmod(size(left), right)
        assert found == divmod(left, right) and tuple(comes_to(part.origin) for part in found) == found


FORMULAS: dict[str, Callable[[Any, Any], Any]] = {
    "a head": lambda x, y: x // y,
    "a view": lambda x, y: 3 * x - x % y,
    "ceil": lambda x, y: -(-x // y),
    "rounded": lambda x, y: (x + 8 // 2) // 8 * 8 + y,
    "divmod": lambda x, y: sum(divmod(x, y)),
    "shifts": lambda x, y: (x << 3) - (y >> 3),
    "square": lambda x, y: x**2 + (y * 2) ** 2,
    "sum": lambda x, y: sum([x, y, x, 1]),
    "product": lambda x, y: math.prod([x, 2, y]),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_an_origin_is_the_formula_at_other_sizes_too(name: str) -> None:
    function = FORMULAS[name]
    origin = origin_of(function(size(12), size(4, "y")))
    for x, y in itertools.product((1, 5, 12, 30), (1, 2, 7)):
        assert comes_to(origin, x=x, y=y) == function(x, y)


@pytest.mark.parametrize("other", [True, "a", None, 1j])
def test_what_is_no_integer_is_no_arithmetic_of_sizes(other: Any) -> None:
    for left, right in ((size(3), other), (other, size(3))):
        for function in BINARY.values():
            try:
                expected = function(*(int.__int__(v) if isinstance(v, Size) else v for v in (left, right)))
            except TypeError:
                with pytest.raises(TypeError):
                    function(left, right)
                continue
            assert function(left, right) == expected and type(function(left, right)) is type(expected)


def test_a_plain_integer_is_a_constant_and_a_size_is_hashed_as_one() -> None:
    assert origin_of(5) == Constant(5) and origin_of(True) == Constant(1)
    assert {size(5): 1}[5] == 1 and hash(size(5)) == hash(5)
    assert type(pickled(size(5))) is int
    assert [0, 1, 2, 3][size(2)] == 2


# --- decisions ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sign", COMPARISONS)
def test_a_comparison_is_one_decision_that_is_true(sign: Sign, kind: str) -> None:
    for left, right in itertools.product(VALUES, repeat=2):
        a, b = pair(kind, left, right)
        outcome, seen = decided(lambda a=a, b=b: COMPARISONS[sign](a, b))
        assert outcome is COMPARISONS[sign](left, right)
        (decision,) = seen
        assert is_true(decision)
        assert {decision.left, decision.right} == {origin_of(a), origin_of(b)}
        if kind != "int, size":  # Python asks the size on the right, the other way round
            assert decision == Decision(sign, origin_of(a), origin_of(b), outcome)


@pytest.mark.parametrize("value", VALUES)
def test_truth_is_the_decision_that_it_is_not_zero(value: int) -> None:
    outcome, seen = decided(lambda: bool(size(value)))
    assert outcome is bool(value) and seen == [Decision(Sign.NE, size(value).origin, Constant(0), outcome)]


@pytest.mark.parametrize("other", ["a", None, (1,), 1.5])
def test_what_is_no_integer_is_compared_without_a_decision(other: Any) -> None:
    outcome, seen = decided(lambda: size(3) == other)
    assert outcome is False and seen == []


LEAVING: dict[str, tuple[Callable[[Any], Any], int]] = {  # and which operand the size is
    "float": (float, 0),
    "int": (int, 0),
    "true division": (lambda x: x / 5, 0),
    "true division by it": (lambda x: 5 / x, 1),
    "a root": (lambda x: x**0.5, 0),
    "a third power": (lambda x: x**3, 0),
    "a power of it": (lambda x: 2**x, 1),
    "a power and a modulus": (lambda x: pow(x, 3, 5), 0),
    "times a float": (lambda x: x * 0.5, 0),
    "floor division by a float": (lambda x: x // 2.5, 0),
    "a loop": (lambda x: len(Range(x)), 0),
    "a loop's step": (lambda x: len(Range(0, 100, x)), 2),
}


@pytest.mark.parametrize("name", LEAVING)
def test_a_size_that_leaves_the_arithmetic_is_noticed(name: str) -> None:
    function, operand = LEAVING[name]
    for value in (1, 2, 12):
        result, seen = decided(lambda value=value: function(size(value)))
        assert result == function(value) and type(result) in (int, Real, float)
        assert Decision(Sign.VALUE, size(value).origin, Constant(value), True, operand) == seen[0]


WHOLE: dict[str, Callable[[Any], int]] = {
    "int of a product": lambda x: int(x * 0.3),
    "round": lambda x: round(x / 5),
    "floor": lambda x: math.floor(x * 1.5),
    "ceil": lambda x: math.ceil(x / 7),
    "trunc": lambda x: math.trunc(-(x / 7)),
    "root": lambda x: int(x**0.5),
    "more arithmetic": lambda x: int((1 + x * 0.25) % 7 - 2 / (x / 3)),
    "rounded first": lambda x: int(round(x / 7, 1) * 10),
    "power": lambda x: x**3,
    "tens": lambda x: round(x, -1),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_integer_that_is_made_of_a_size_is_noticed(name: str) -> None:
    for value in (1, 5, 12, 30):
        result, seen = decided(lambda value=value: WHOLE[name](size(value)))
        assert type(result) is int and result == WHOLE[name](value)
        assert seen[-1] == Decision(Sign.INT, size(value).origin, Constant(result), True)


@pytest.mark.parametrize("function", [operator.truediv, operator.pow])
def test_a_float_of_one_size_by_another_remembers_both(function: Callable[[Any, Any], Any]) -> None:
    made, seen = decided(lambda: function(size(12), size(5, "y")) * 1.0)
    assert made == function(12, 5)
    assert {decision.left for decision in seen} >= {size(12).origin, size(5, "y").origin}


def test_a_float_of_two_sizes_remembers_both_once() -> None:
    x, y = size(12), size(5, "y")
    ratio = x / 5 + y * 0.5 + x * 1.0
    assert ratio == 12 / 5 + 2.5 + 12 and ratio.origins == (x.origin, y.origin)
    result, seen = decided(lambda: int(ratio))
    assert result == 16 and [decision.left for decision in seen] == [x.origin, y.origin]
    assert copy.deepcopy(ratio) is ratio and type(pickled(ratio)) is float
