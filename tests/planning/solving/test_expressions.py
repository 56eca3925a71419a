"""Expressions of widths: their value at any widths, what they depend on, and what comparisons of them come to."""

from __future__ import annotations

import itertools
import operator
from typing import Any

import pytest
from torch import nn

from surgery.axes.algebra import Axis, Dims, concat, fresh, pin
from surgery.axes.formulas import Arithmetic, Attribute, Constant, Extent, Origin, SizeOf, Untracked, evaluate
from surgery.axes.samples import Samples, every, many
from surgery.modules.tensors import parts_of
from surgery.planning.analysis import Analysis
from surgery.planning.solving.expressions import Expressions


class Setting:
    """A weight of (o, (h d)), an input of (batch, (h d)) in a graph, and expressions over their axes."""

    def __init__(self) -> None:
        self.o, self.h, self.d, self.batch, self.positions = map(fresh, (6, 3, 4, 2, 5))
        pin(self.positions, "positions")
        analysis = Analysis(parts_of(nn.Linear(12, 6, bias=False)))
        analysis.tensors["weight"] = Dims((self.o, self.h + self.d))
        analysis.values["x"] = Dims((self.batch, self.h + self.d))
        self.of = Expressions(analysis)

    def axes(self, *dims: tuple) -> list[Axis]:
        return [axis for dim in dims for axis in dim]


@pytest.fixture
def here() -> Setting:
    return Setting()


def of(sign: str, left: Origin | int, right: Origin | int) -> Arithmetic:
    return Arithmetic(sign, *(Constant(side) if isinstance(side, int) else side for side in (left, right)))


def attribute(name: str, value: int = 7) -> Attribute:
    return Attribute("", (name,), value)


def by_hand(origin: Origin, widths: dict[Axis, int]) -> int:
    """The value of an expression without attributes at one point."""

    def leaf(origin: Any) -> int:
        return Samples(1, {axis: [width] for axis, width in widths.items()}).width(origin.dim)[0]

    return evaluate(origin, leaf)


def formulas(s: Setting) -> dict[str, Origin]:
    o, h, d, x = SizeOf(s.o), SizeOf(s.h), SizeOf(s.d), SizeOf(s.h + s.d)
    return {
        "constant": Constant(3), "width": o, "product": x, "sum": SizeOf(concat([s.o, s.h + s.d])),
        "heads": of("//", x, d), "rest": of("%", x, of("+", o, 1)), "difference": of("-", of("*", o, 3), h),
        "nothing": SizeOf(()), "constant on the left": of("-", 100, x),
    }  # fmt: skip


FORMULAS = list(formulas(Setting()))


@pytest.mark.parametrize("name", FORMULAS)
def test_values_at_many_widths_are_those_at_each(here: Setting, name: str) -> None:
    origin, axes = formulas(here)[name], here.axes(here.o, here.h, here.d)
    points = many(axes)
    rows = list(itertools.product(*(range(1, axis.size + 1) for axis in axes)))
    assert points.count == len(rows) == 6 * 3 * 4
    assert here.of.values(origin, points) == [by_hand(origin, dict(zip(axes, row, strict=True))) for row in rows]


@pytest.mark.parametrize("name", FORMULAS)
def test_an_attribute_with_a_formula_is_the_formula(here: Setting, name: str) -> None:
    origin = formulas(here)[name]
    here.of.formulas["", ("size",)] = origin
    points = many(here.axes(here.o, here.h, here.d))
    for inside in (lambda part: part, lambda part: of("-", of("*", part, 2), 1)):
        read = inside(attribute("size"))
        assert here.of.values(read, points) == here.of.values(inside(origin), points)
        assert here.of.axes([read]) == here.of.axes([origin]) and here.of.divides(read) == here.of.divides(origin)
        assert here.of.values(inside(attribute("other")), points) == here.of.values(inside(Constant(7)), points)


def test_what_has_no_value_says_so(here: Setting) -> None:
    width, points = SizeOf(here.o), every(here.o[0])
    with pytest.raises(ZeroDivisionError):
        here.of.values(of("//", 12, of("-", width, 3)), points)
    with pytest.raises(ArithmeticError, match="an earlier run has computed it"):
        here.of.values(of("+", width, Untracked(3)), points)


def test_extents_are_known_by_the_dimensions_of_their_tensors(here: Setting) -> None:
    lost, found = Extent("y", 1, 12), Extent("x", 1, 12)
    assert here.of.known(found) == SizeOf(here.h + here.d)
    assert here.of.known(lost) == Untracked(12)
    assert here.of.known(of("//", found, of("+", lost, attribute("a")))) == of(
        "//", SizeOf(here.h + here.d), of("+", Untracked(12), attribute("a"))
    )


def test_the_width_of_a_plain_expression_is_its_dimension(here: Setting) -> None:
    here.of.formulas["", ("size",)] = SizeOf(here.h + here.d)
    assert here.of.width(SizeOf(here.o)) == here.o
    assert here.of.width(attribute("size")) == here.h + here.d
    for none in (attribute("other"), Constant(3), of("+", SizeOf(here.o), 0), Untracked(6)):
        assert here.of.width(none) is None


@pytest.mark.parametrize(("sign", "expected"), [("+", False), ("-", False), ("*", False), ("//", True), ("%", True)])
def test_an_expression_divides_where_any_part_of_it_does(here: Setting, sign: str, expected: bool) -> None:
    part = of(sign, SizeOf(here.o), 2)
    here.of.formulas["", ("size",)] = part
    for whole in (part, of("+", part, 1), of("*", 3, of("-", 1, part)), of("+", attribute("size"), 1)):
        assert here.of.divides(whole) is expected
    assert not here.of.divides(attribute("other"))


def test_axes_are_those_that_may_be_cut_each_once(here: Setting) -> None:
    sides = [of("*", SizeOf(here.h + here.d), SizeOf(here.positions)), of("+", SizeOf(here.batch), SizeOf(here.h))]
    assert here.of.axes(sides) == here.axes(here.h, here.d, here.batch)
    assert here.of.features_in(*sides) == here.axes(here.h, here.d), "no parameter has the batch"
    assert list(here.of.dims(sides[0])) == [here.h + here.d, here.positions]
    assert here.of.axes([Constant(3), attribute("other")]) == []


def test_factors_that_no_parameter_has_are_left_out(here: Setting) -> None:
    both = SizeOf(here.batch + here.h)
    assert here.of.of_features(both) == SizeOf(here.h) and here.of.of_features(SizeOf(here.batch)) == SizeOf(())
    assert here.of.of_features(of("-", both, of("//", SizeOf(here.o), 2))) == of(
        "-", SizeOf(here.h), of("//", SizeOf(here.o), 2)
    )
    assert here.of.of_features(attribute("a")) == attribute("a")


def test_attributes_are_found_through_the_formulas_of_others(here: Setting) -> None:
    here.of.formulas["", ("a",)] = of("*", attribute("b"), SizeOf(here.o))
    here.of.formulas["", ("b",)] = of("+", attribute("c"), 1)
    found = list(here.of.attributes(of("-", attribute("a"), attribute("d"))))
    assert found == [attribute(name) for name in "abcd"]


COMPARE = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize(("left", "right"), list(itertools.combinations(FORMULAS, 2)))
def test_the_outcomes_of_a_comparison_are_those_at_all_widths(here: Setting, left: str, right: str) -> None:
    a, b = formulas(here)[left], formulas(here)[right]
    axes = here.axes(here.o, here.h, here.d)
    rows = itertools.product(*(range(1, axis.size + 1) for axis in axes))
    points = [dict(zip(axes, row, strict=True)) for row in rows]
    for compare in COMPARE:
        expected = {compare(by_hand(a, point), by_hand(b, point)) for point in points}
        assert here.of.outcomes(compare, a, b) == expected
        assert here.of.sampled(compare, a, b, many(axes)) == expected


def test_outcomes_that_are_not_known_are_none_and_samples_of_them_both(here: Setting) -> None:
    fails = of("//", 12, of("-", SizeOf(here.o), 3)), of("+", SizeOf(here.o), Untracked(3))
    for origin in fails:
        assert here.of.outcomes(operator.eq, origin, Constant(1)) is None
        assert here.of.sampled(operator.eq, origin, Constant(1), every(here.o[0])) == {True, False}


def test_too_many_widths_of_two_axes_are_not_tried_and_all_of_one_are() -> None:
    analysis = Analysis(parts_of(nn.Linear(300, 2, bias=False)))
    wide, other = fresh(300), fresh(2)
    analysis.tensors["weight"] = Dims((other, wide))
    of_all = Expressions(analysis)
    assert of_all.outcomes(operator.eq, SizeOf(wide), Constant(299)) == {True, False}
    assert of_all.outcomes(operator.eq, SizeOf(wide), SizeOf(other)) is None
    assert of_all.outcomes(operator.eq, SizeOf(wide), Constant(301)) == {False}
