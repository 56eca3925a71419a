"""Formulas of sizes: their leaves, their value at any leaves, and what a leaf must be for a value."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from surgery.axes.formulas import (
    OPERATORS,
    Arithmetic,
    Attribute,
    Constant,
    Extent,
    Field,
    Origin,
    Untracked,
    evaluate,
    invert,
    is_untracked,
    leaves,
)

X, Y, T = (Attribute("m", (name,), value) for name, value in (("x", 12), ("y", 5), ("t", 0)))


def of(sign: str, left: Origin | int, right: Origin | int) -> Arithmetic:
    return Arithmetic(sign, *(Constant(side) if isinstance(side, int) else side for side in (left, right)))


def at(origin: Origin, **values: int) -> int:
    return evaluate(origin, lambda leaf: values[leaf.path[0]])


@pytest.mark.parametrize("sign", OPERATORS)
def test_a_formula_comes_to_what_its_operator_does(sign: str) -> None:
    for x, y in itertools.product((-5, -1, 0, 1, 3, 12), repeat=2):
        if y == 0 and sign in ("//", "%"):
            with pytest.raises(ZeroDivisionError):
                at(of(sign, X, Y), x=x, y=y)
        else:
            assert at(of(sign, X, Y), x=x, y=y) == eval(f"x {sign} y", {"x": x, "y": y})


def test_operands_keep_their_sides_and_constants_their_value() -> None:
    nested = of("-", of("//", of("+", X, 7), Y), of("%", 9, of("*", X, 2)))
    for x, y in itertools.product((1, 4, 12), (1, 2, 5)):
        assert at(nested, x=x, y=y) == (x + 7) // y - 9 % (x * 2)
    assert list(leaves(nested)) == [X, Constant(7), Y, Constant(9), X, Constant(2)]
    assert list(leaves(X)) == [X]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (X, False), (Constant(3), False), (Extent("node", 0, 3), False), (Untracked(3), True),
        (of("+", X, Untracked(3)), True), (of("*", of("-", Untracked(3), 1), Y), True), (of("*", X, Y), False),
    ],
)  # fmt: skip
def test_a_formula_is_untracked_where_one_of_its_leaves_is(origin: Origin, expected: bool) -> None:
    assert is_untracked(origin) is expected


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        (Attribute("a.b", ("width",), 3), "a.b.width"),
        (Attribute("", ("width",), 3), "width"),
        (Attribute("a", ("sizes", 0), 3), "a.sizes[0]"),
        (Attribute("a", ("sizes", "in"), 3), "a.sizes['in']"),
        (Attribute("a", ("config", Field("text"), Field("width")), 3), "a.config.text.width"),
    ],
)
def test_an_attribute_is_written_as_code_reads_it(attribute: Attribute, expected: str) -> None:
    assert str(attribute) == expected


# --- inversion ---

STEPS: dict[str, Callable[[Origin], Origin]] = {
    "x + 5": lambda x: of("+", x, 5),
    "5 + x": lambda x: of("+", 5, x),
    "x - 5": lambda x: of("-", x, 5),
    "5 - x": lambda x: of("-", 5, x),
    "x * 3": lambda x: of("*", x, 3),
    "3 * x": lambda x: of("*", 3, x),
    "x // 3": lambda x: of("//", x, 3),
    "60 // x": lambda x: of("//", 60, x),
    "x + y": lambda x: of("+", x, Y),
    "y * x": lambda x: of("*", Y, x),
}
WITHIN = [name for name in STEPS if "//" not in name]


@pytest.mark.parametrize("name", STEPS)
def test_the_inverse_gives_the_value_back(name: str) -> None:
    """A division has many that do: the inverse is one of them."""
    formula = STEPS[name](X)
    inverse = invert(formula, X, T)
    assert inverse is not None and X not in set(leaves(inverse))
    for x, y in itertools.product((1, 2, 4, 5, 6, 12, 30, 60), (1, 2, 5)):
        found = at(inverse, t=at(formula, x=x, y=y), y=y)
        assert at(formula, x=found, y=y) == at(formula, x=x, y=y)
        if "//" not in name:
            assert found == x


@pytest.mark.parametrize(("inner", "outer"), list(itertools.product(STEPS, WITHIN)))
def test_inverses_go_from_the_outside_in(inner: str, outer: str) -> None:
    formula = STEPS[outer](STEPS[inner](X))  # y may stand in several places, x may not
    inverse = invert(formula, X, T)
    assert inverse is not None
    for x in (1, 2, 6, 12, 60):
        target = at(formula, x=x, y=4)
        assert at(formula, x=at(inverse, t=target, y=4), y=4) == target


def test_a_multiple_that_is_divided_is_inverted_where_the_division_is_exact() -> None:
    inverse = invert(of("//", of("*", X, 3), 2), X, T)
    assert [at(inverse, t=3 * x // 2) for x in (2, 4, 12)] == [2, 4, 12]


NONE: dict[str, Origin] = {
    "twice": of("+", X, X),
    "on both sides": of("*", X, of("-", Y, X)),
    "a rest": of("%", X, 5),
    "a rest by it": of("%", 5, X),
    "a rest inside": of("+", of("%", X, 3), 1),
    "another leaf": Y,
    "without it": of("*", Y, 2),
}


@pytest.mark.parametrize("name", NONE)
def test_what_has_no_inverse_has_none(name: str) -> None:
    assert invert(NONE[name], X, T) is None


def test_a_leaf_is_its_own_inverse() -> None:
    assert invert(X, X, T) is T
