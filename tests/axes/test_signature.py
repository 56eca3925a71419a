"""Signatures: what a string is read as, how a fault in it is shown, and what it says of dimensions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from surgery.axes.algebra import Dim, Sum, concat, extent, fresh, pinned, resolve
from surgery.axes.signature import (
    Binding,
    Concatenation,
    Name,
    Product,
    Rest,
    Signature,
    bind,
    broadcast,
    names,
    parse,
    parse_tensors,
)
from surgery.errors import AxisError

# --- reading ---

A, B, C = Name("a"), Name("b"), Name("c")
READ: dict[str, tuple] = {
    "": ((),),
    "a": ((A,),),
    "a b": ((A, B),),
    "a, b": ((A,), (B,)),
    "a,": ((A,), ()),
    ", a": ((), (A,)),
    "3 a": ((3, A),),
    "~a": ((Name("a", ordered=True),),),
    "... a": ((Rest(), A),),
    "a ~... b": ((A, Rest(ordered=True), B),),
    "..., ...": ((Rest(),), (Rest(),)),
    "(a b)": ((Product((A, B)),),),
    "(a 3 ~b)": ((Product((A, 3, Name("b", ordered=True))),),),
    "(a + b)": ((Concatenation((Product((A,)), Product((B,)))),),),
    "(a b + 2 + c)": ((Concatenation((Product((A, B)), Product((2,)), Product((C,)))),),),
    "((a b) c)": ((Product((Product((A, B)), C)),),),
    "((a + b) c)": ((Product((Concatenation((Product((A,)), Product((B,)))), C)),),),
    "heads_2 _x": ((Name("heads_2"), Name("_x")),),
}


@pytest.mark.parametrize("text", READ)
def test_a_pattern_is_read(text: str) -> None:
    assert parse_tensors(text) == READ[text]


@pytest.mark.parametrize("text", READ)
def test_spaces_are_needed_between_names_only(text: str) -> None:
    assert parse_tensors(f"  {text.replace(' ', '   ')}  ") == READ[text]
    for sign in ",+()":
        assert parse_tensors(text.replace(f" {sign}", sign).replace(f"{sign} ", sign)) == READ[text]


@pytest.mark.parametrize(("left", "right"), list(itertools.product(["a b", "..., ~a", "(a + b) 3", ""], repeat=2)))
def test_a_signature_is_two_lists_of_patterns(left: str, right: str) -> None:
    assert parse(f"{left} -> {right}") == Signature(parse_tensors(left), parse_tensors(right))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a (b c) 3 ... ~d", "abcd"), ("(a + b c) a", "abca"), ("((a b) + (c + d))", "abcd"), ("3 ...", "")],
)
def test_names_are_those_of_axes_in_order(text: str, expected: str) -> None:
    (pattern,) = parse_tensors(text)
    assert names(pattern) == tuple(expected)


FAULTS = [  # a pattern, what is said of it, and the place of the fault
    ("a- b", "'- b' is no part of a pattern", 1),
    ("a b?", "'?' is no part of a pattern", 3),
    ("a   ? b", "'? b' is no part of a pattern", 4),
    ("a,é", "'é' is no part of a pattern", 2),
    ("a,.. b", "'..' is no part of a pattern", 2),
    ("a (b c", "'(b' is never closed", 2),
    ("((a) b", "'((a' is never closed", 0),
    ("(a (b c)", "'(a' is never closed", 0),
    ("a ~", "'~' must stand before a name", 2),
    ("a ~(b c)", "'~(b' must stand before a name", 2),
    ("a ~ 3", "'~ 3' must stand before a name", 2),
    ("a ) b", "') b' cannot stand here", 2),
    ("a + b", "'+ b' cannot stand here", 2),
    ("a -> b", "'->' cannot stand here", 2),
    ("(a , b)", "', b' cannot stand here", 3),
    ("(a ~, b)", "', b' cannot stand here", 4),
    ("~~a", "'~a' cannot stand here", 1),
    ("~+", "'+' cannot stand here", 1),
    ("a ... b ...", "'...' stands more than once in one tensor", 8),
    ("... a, b ~... ~...", "'...' stands more than once in one tensor", 15),
    ("(... a)", "'...' cannot stand inside of brackets", 1),
    ("((a ~...) + b)", "'...' cannot stand inside of brackets", 5),
    ("a () b", "') b' has no dimension before it", 3),
    ("(a + )", "')' has no dimension before it", 5),
    ("( + a)", "'+ a' has no dimension before it", 2),
    ("(a + + b)", "'+ b' has no dimension before it", 5),
]


@pytest.mark.parametrize(("text", "said", "place"), FAULTS)
def test_a_fault_is_shown_where_it_is(text: str, said: str, place: int) -> None:
    with pytest.raises(AxisError) as raised:
        parse_tensors(text)
    assert str(raised.value) == f"{said}:\n  {text}\n  {' ' * place}^"
    assert not text[place].isspace()


@pytest.mark.parametrize(("text", "said", "place"), [fault for fault in FAULTS if "->" not in fault[0]])
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_fault_in_a_signature_is_shown_in_all_of_it(text: str, said: str, place: int, side: str) -> None:
    whole, shift = (f"{text} -> a", 0) if side == "inputs" else (f"... a, b -> {text}", len("... a, b -> "))
    with pytest.raises(AxisError) as raised:
        parse(whole)
    assert str(raised.value) == f"{said}:\n  {whole}\n  {' ' * (place + shift)}^"


@pytest.mark.parametrize("text", ["a b", "a -> b -> c", "", "a > b", "a - > b"])
def test_a_signature_has_one_arrow(text: str) -> None:
    with pytest.raises(AxisError, match=r"exactly one '->', as in '\.\.\. i -> \.\.\. o'; got") as raised:
        parse(text)
    assert repr(text) in str(raised.value)


# --- inputs ---


def pattern(text: str) -> tuple:
    (found,) = parse_tensors(text)
    return found


def same(left: Dim, right: Dim) -> bool:
    return resolve(left) == resolve(right)


MATCHES: list[tuple[str, dict[str, int], tuple[int, ...], dict[str, int]]] = [
    # a pattern, sizes that are known, a shape, and the sizes that follow
    ("a b", {}, (4, 6), {"a": 4, "b": 6}),
    ("a b", {"a": 4}, (4, 6), {"a": 4, "b": 6}),
    ("a 3", {}, (4, 3), {"a": 4}),
    ("... a", {}, (6,), {"a": 6}),
    ("... a", {}, (2, 3, 6), {"a": 6}),
    ("a ... b", {}, (2, 3, 5, 6), {"a": 2, "b": 6}),
    ("a ...", {}, (2, 3), {"a": 2}),
    ("(a b)", {"a": 2}, (6,), {"a": 2, "b": 3}),
    ("(a b)", {"b": 2}, (6,), {"a": 3, "b": 2}),
    ("(3 a)", {}, (12,), {"a": 4}),
    ("(a 2 b)", {"b": 3}, (24,), {"a": 4, "b": 3}),
    ("(a b) a", {"a": 2}, (6, 2), {"a": 2, "b": 3}),
    ("(a + b)", {"a": 2, "b": 4}, (6,), {"a": 2, "b": 4}),
    ("(a 2 + b)", {"a": 2, "b": 4}, (8,), {"a": 2, "b": 4}),
    ("a", {}, (1,), {"a": 1}),
]


@pytest.mark.parametrize(("text", "sizes", "shape", "expected"), MATCHES)
def test_sizes_follow_from_a_tensor(text: str, sizes: dict, shape: tuple, expected: dict) -> None:
    binding = Binding("layer", dict(sizes))
    dims = [fresh(n) for n in shape]
    binding.match(pattern(text), dims)
    assert binding.sizes == expected
    assert {name: extent(binding.dims[name]) for name in binding.dims} == expected
    assert tuple(map(extent, dims)) == shape


REFUSED: list[tuple[str, dict[str, int], tuple[int, ...], str]] = [
    ("a b", {}, (4,), "a tensor of 1 dimensions does not fit 2 terms"),
    ("a", {}, (4, 6), "a tensor of 2 dimensions does not fit 1 terms"),
    ("a ... b", {}, (4,), "a tensor of 1 dimensions does not fit 3 terms"),
    ("a", {"a": 5}, (4,), "'a' is 5, but the tensor has 4"),
    ("a a", {}, (4, 6), "'a' is 4, but the tensor has 6"),
    ("(a b)", {"a": 2, "b": 2}, (6,), "'a b' is 4, but the tensor has 6"),
    ("(a + b)", {"a": 2, "b": 2}, (6,), "'a b' is 4, but the tensor has 6"),
    ("3", {}, (4,), "'' is 3, but the tensor has 4"),
    ("(a b)", {"a": 4}, (6,), "6 features do not divide into 4 equal parts"),
    ("(a b)", {}, (6,), "nothing says how large axis 'a' is"),
    ("(a + b)", {"a": 2}, (6,), "nothing says how large axis 'b' is"),
]


@pytest.mark.parametrize(("text", "sizes", "shape", "message"), REFUSED)
def test_a_tensor_that_does_not_fit_is_refused(text: str, sizes: dict, shape: tuple, message: str) -> None:
    with pytest.raises(AxisError) as raised:
        Binding("layer", dict(sizes)).match(pattern(text), [fresh(n) for n in shape])
    assert str(raised.value) == f"layer: {message}"


def test_one_name_is_one_axis() -> None:
    binding = Binding("layer", {"h": 2})
    (x,), (y, z), (w,) = ([fresh(n) for n in shape] for shape in ((6,), (2, 3), (12,)))
    binding.match(pattern("(h d)"), [x])
    binding.match(pattern("h d"), [y, z])
    binding.match(pattern("(h d 2)"), [w])
    assert same(x, y + z) and same(binding.dims["h"] + binding.dims["d"], x)
    assert len(resolve(w)) == 3 and same(resolve(w)[:2], x)
    assert not pinned(x)


def test_a_sum_is_its_terms_one_after_another() -> None:
    binding = Binding("layer", {"a": 2, "b": 4})
    (x,), (a, b) = [fresh(6)], (fresh(2), fresh(4))
    binding.match(pattern("a b"), [a, b])
    binding.match(pattern("(a + b)"), [x])
    assert resolve(x) == (Sum((resolve(a), resolve(b))),) and same(x, concat([a, b]))


@pytest.mark.parametrize(
    ("text", "shape", "positions"),
    [
        ("a ~b", (4, 6), [1]),
        ("~... a", (2, 3, 6), [0, 1]),
        ("a ~...", (4, 2, 3), [1, 2]),
        ("... a", (2, 3, 6), []),
        ("a 3", (4, 3), [1]),
        ("~a ... ~b", (2, 3, 4), [0, 2]),
    ],
)
def test_positions_are_pinned_and_features_are_not(text: str, shape: tuple, positions: list[int]) -> None:
    dims = [fresh(n) for n in shape]
    Binding("layer").match(pattern(text), dims)
    assert [i for i, dim in enumerate(dims) if pinned(dim)] == positions
    reason = "the constant 3 in the declaration of layer" if "3" in text else "positions of layer"
    assert all(resolve(dims[i])[0].pin == reason for i in positions)


def test_a_position_inside_a_product_is_pinned_alone() -> None:
    (dim,) = dims = [fresh(6)]
    Binding("layer", {"t": 3}).match(pattern("(c ~t)"), dims)
    channel, time = resolve(dim)
    assert (channel.pin, time.pin) == (None, "positions of layer")


def test_an_axis_that_is_a_position_anywhere_is_one_everywhere() -> None:
    binding = Binding("layer")
    (time,), (both,) = [fresh(3)], [fresh(6)]
    binding.match(pattern("t"), [time])
    assert not pinned(time)
    binding.match(pattern("(c ~t)"), [both])
    assert pinned(time) and not pinned(both)


# --- outputs ---

BUILT: list[tuple[str, str, tuple[int, ...], tuple[int, ...]]] = [
    # inputs, output, the shape of the input, and that of the output
    ("... i", "... i", (2, 3, 6), (2, 3, 6)),
    ("... i", "... o", (2, 3, 6), (2, 3, 8)),
    ("b c ~...", "b (c 2) ~...", (2, 4, 5, 5), (2, 8, 3, 3)),
    ("b c t", "b (c t)", (2, 4, 5), (2, 20)),
    ("b c t", "t b c", (2, 4, 5), (5, 2, 4)),
    ("b a", "b (a + a)", (2, 4), (2, 8)),
    ("b a", "b (a + 3)", (2, 4), (2, 7)),
    ("b a", "b 3", (2, 4), (2, 3)),
    ("b a", "b 1 a", (2, 4), (2, 1, 4)),
    ("b a", "", (2, 4), ()),
]


@pytest.mark.parametrize(("given", "made", "shape", "expected"), BUILT)
def test_an_output_has_its_shape(given: str, made: str, shape: tuple, expected: tuple) -> None:
    (dims,) = bind(parse(f"{given} -> {made}"), [[fresh(n) for n in shape]], [expected], Binding("layer"))
    assert tuple(map(extent, dims)) == expected


def test_an_output_is_made_of_the_axes_of_the_inputs() -> None:
    b, c, t, o = map(fresh, (2, 4, 5, 8))
    (dims,) = bind(parse("b c t, o c -> t (c b) o (c + o)"), [[b, c, t], [o, fresh(4)]], [(5, 8, 8, 12)], Binding("x"))
    assert dims == (t, c + b, o, (Sum((c, o)),))


def test_new_names_are_new_axes_and_new_positions_are_pinned() -> None:
    x = [fresh(2), fresh(4), fresh(5)]
    (dims,) = bind(parse("b c ~... -> b o ~..."), [x], [(2, 8, 3)], Binding("conv"))
    assert dims[0] == x[0] and not pinned(dims[1])
    assert pinned(dims[2]) and dims[2] != x[2], "an output has positions of its own"


@pytest.mark.parametrize("shapes", list(itertools.product([(6,), (3, 6), (1, 6), (2, 3, 6), (2, 1, 6)], repeat=2)))
def test_leading_dimensions_are_broadcast_as_torch_does(shapes: tuple) -> None:
    expected = tuple(torch.broadcast_shapes(*(shape[:-1] for shape in shapes)))
    inputs = [[fresh(n) for n in shape] for shape in shapes]
    (dims,) = bind(parse("... a, ... a -> ... a"), inputs, [(*expected, 6)], Binding("layer"))
    assert tuple(map(extent, dims)) == (*expected, 6)
    assert tuple(map(extent, broadcast(inputs, "add"))) == (*expected, 6)
    for shape, given in zip(shapes, inputs, strict=True):
        for place in range(1, len(shape) + 1):
            if shape[-place] > 1:
                assert same(given[-place], dims[-place])


@pytest.mark.parametrize(("read", "text"), [(parse, "a -> b"), (parse_tensors, "a b")])
def test_a_pattern_is_read_once(read: Callable[[str], Any], text: str) -> None:
    assert read(text) is read(text)
