"""What `verify` counts as a difference between two outputs, how large it is, and what it says of it."""

from __future__ import annotations

import collections
import dataclasses
import math
import types
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import ProofError
from surgery.modules.verify import TOLERANCES, difference
from tests.small_models import Given
from tests.unchanged import unchanged

INF, NAN = math.inf, math.nan
FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Record:
    value: Any


@dataclasses.dataclass(slots=True)
class Slots:
    value: Any


class Opaque:
    __slots__ = ()


class Equal(Opaque):
    """Equal to what it is told; or it does not say."""

    __slots__ = ("_answer",)

    def __init__(self, answer: Any):
        self._answer = answer

    def __eq__(self, other: object) -> Any:
        return self._answer

    __hash__ = None


def one(*values: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(values, dtype=dtype)


# --- tensors ---


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("gap", [0.0, 1e-3, 0.25])
def test_a_difference_is_relative_to_the_largest_value(scale: float, gap: float) -> None:
    other = one(1, -4, 2) * scale
    changed = other + one(0, 0, 4 * gap) * scale
    assert difference(changed, other, tolerance=1.0) == pytest.approx(gap, rel=1e-9, abs=1e-15)


def test_a_difference_from_zeros_and_from_nothing() -> None:
    assert difference(one(0, 0.25), one(0, 0), tolerance=1) == 0.25, "zeros have no scale: it is absolute"
    assert difference(one(), one()) == difference((), ()) == difference(None, None) == 0.0


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_tolerance_is_that_of_the_type_and_is_the_border(dtype: torch.dtype) -> None:
    whole = torch.ones(2, dtype=dtype)
    for factor, passes in ((0.5, True), (2.0, False)):
        step = 1 + factor * TOLERANCES[dtype]
        changed = (whole.double() * step).to(dtype)
        assert changed.ne(whole).all()
        if passes:
            assert 0 < difference(changed, whole) <= TOLERANCES[dtype]
        else:
            with pytest.raises(
                ProofError, match=r"output differs by \d\.\d\de-\d\d of its scale \(\de-\d\d is allowed\)"
            ):
                difference(changed, whole)


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.1])
def test_a_given_tolerance_is_the_border(tolerance: float) -> None:
    assert difference(one(1 + tolerance * 0.999), one(1), tolerance) <= tolerance
    with pytest.raises(ProofError, match="differs by"):
        difference(one(1 + tolerance * 1.001 + 1e-12), one(1), tolerance)


def test_complex_numbers_are_as_far_apart_as_their_moduli_say() -> None:
    assert difference(torch.tensor([3 + 4j]), torch.tensor([5j]), tolerance=1) == pytest.approx(abs(3 - 1j) / 5)
    with pytest.raises(ProofError, match="differs by"):
        difference(torch.tensor([3 + 4j]), torch.tensor([3 - 4j]))


SAME: dict[str, tuple[Any, Any]] = {
    "equal": (one(1, 2), one(1, 2)),
    "equal infinities": (one(INF, -INF, 1), one(INF, -INF, 1)),
    "only infinities": (one(INF), one(INF)),
    "integers": (torch.arange(3), torch.arange(3)),
    "booleans": (torch.tensor([True, False]), torch.tensor([True, False])),
    "strides": (torch.arange(6.0).view(2, 3).t(), torch.arange(6.0).view(2, 3).t().contiguous()),
    "a parameter": (nn.Parameter(one(1)), one(1)),
    "a tuple and a list": ((one(1), 2), [one(1), 2]),
    "a named tuple": (Pair(one(1), 2), Pair(one(1), 2)),
    "dicts of two classes": (collections.OrderedDict(a=one(1)), {"a": one(1)}),
    "nested": ({"a": [one(1), ({"b": one(2)},)]}, {"a": [one(1), ({"b": one(2)},)]}),
    "objects": (types.SimpleNamespace(y=one(1), n=3), types.SimpleNamespace(y=one(1), n=3)),
    "records": (Record(one(1)), Record(one(1))),
    "objects without attributes": (Opaque(), Opaque()),
    "modules": (nn.Linear(1, 1), nn.Linear(1, 1)),
    "numbers": ((1, 2.5, 1j, "a", b"a", True, None), (1, 2.5, 1j, "a", b"a", True, None)),
    "a number that is none": ({"loss": NAN}, {"loss": NAN}),
    "arrays": (np.array([1.0, INF]), np.array([1.0, INF])),
    "arrays that are views": (np.arange(4.0)[::-1], np.array([3.0, 2.0, 1.0, 0.0])),
    "arrays of texts": (np.array(["a", "b"]), np.array(["a", "b"])),
    "scalars of numpy": ((np.float32(1), np.int64(2), np.bool_(True)), (np.float32(1), np.int64(2), np.bool_(True))),
    "sets": ({1, "a"}, {"a", 1}),
    "frozen sets": (frozenset((1, 2)), frozenset((2, 1))),
    "types of tensors": (torch.float32, torch.float32),
    "ranges": (range(3), range(0, 3, 1)),
    "slots": (Slots(one(1)), Slots(one(1))),
    "objects that are equal": (Equal(True), Equal(True)),
    "objects that do not say": (Equal(one(1, 2)), Equal(NotImplemented)),
    "functions": (one, dataclasses.asdict),
    "classes": (Opaque, Record),
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_the_same_is_no_difference(name: str) -> None:
    left, right = SAME[name]
    assert difference(left, right) == difference(right, left) == 0.0


@pytest.mark.parametrize("hold", [np.array, lambda values: Slots(one(*values)), lambda values: np.float32(values[1])])
def test_what_holds_numbers_may_differ_by_rounding(hold: Any) -> None:
    assert 0 < difference(hold([1.0, 2.0]), hold([1.0, 2.0 * (1 + 1e-6)]), tolerance=1e-5) < 1e-5


OTHER: dict[str, tuple[Any, Any, str]] = {  # and what is said, of the left against the right
    "NaN on one side": (one(1, NAN), one(1, 2), r"output holds NaN: 1 values against 0"),
    "NaN in other places": (one(1, NAN), one(NAN, 2), r"output holds NaN: 1 values against 1"),
    "a complex NaN": (torch.tensor([complex(NAN, 0)]), torch.tensor([1j]), "output holds NaN: 1 values against 0"),
    "infinity": (one(INF, 1), one(1, 1), "output differs by inf"),
    "the other infinity": (one(INF, 1), one(-INF, 1), "output differs by inf"),
    "a shape": (one(1, 2), one(1, 2)[None], r"output: torch\.float64 \[2\] against torch\.float64 \[1, 2\]"),
    "a shape that is broadcast": (one(1), one(1, 1), r"\[1\] against torch\.float64 \[2\]"),
    "nothing": (one(), one(1), r"\[0\] against torch\.float64 \[1\]"),
    "a type": (one(1), one(1).float(), r"output: torch\.float64 \[1\] against torch\.float32 \[1\]"),
    "integers": (torch.arange(4), torch.tensor([0, 1, 3, 2]), r"output: 2 of 4 torch\.int64 values differ"),
    "booleans": (torch.tensor([True]), torch.tensor([False]), r"output: 1 of 1 torch\.bool values differ"),
    "a number of values": ((one(1), one(2)), [one(1)], "output: 2 values against 1"),
    "keys": ({"a": one(1)}, {"b": one(1)}, r"output: keys \['a'\] against \['b'\]"),
    "the order of keys": ({"a": 1, "b": 2}, {"b": 2, "a": 1}, r"keys \['a', 'b'\] against \['b', 'a'\]"),
    "a tensor and a number": (one(1), 1.0, "output: Tensor against float"),
    "a tensor and nothing": ({"a": one(1)}, {"a": None}, r"output\['a'\]: Tensor against NoneType"),
    "a list and a dict": ([one(1)], {"a": one(1)}, "output: list against dict"),
    "a number": ((1, 2), (1, 3), r"output\[1\]: 2 against 3"),
    "a boolean and a number": (True, 1, "output: bool against int"),
    "a text": (["a"], ["b"], r"output\[0\]: 'a' against 'b'"),
    "a float": (1.0, 1.0 + 1e-12, "output: 1.0 against 1.000000000001"),
    "a float that is none": (NAN, 1.0, "output: nan against 1.0"),
    "a place inside": ({"a": [0, (one(1),)]}, {"a": [0, (one(2),)]}, r"output\['a'\]\[1\]\[0\] differs by 5\.00e-01"),
    "a field of a named tuple": (Pair(one(1), one(1)), Pair(one(1), one(3)), r"output\[1\] differs by 6\.67e-01"),
    "objects of two classes": (Record(one(1)), types.SimpleNamespace(value=one(1)), "Record against SimpleNamespace"),
    "an attribute": (Record(one(1)), Record(one(2)), r"output\['value'\] differs by 5\.00e-01"),
    "an array": (np.array([1.0, 2.0]), np.array([1.0, 3.0]), r"output differs by 3\.33e-01"),
    "the shape of an array": (np.zeros((2, 1)), np.zeros(2), r"output: torch\.float64 \[2, 1\] against torch\.float64"),
    "the type of an array": (np.zeros(2), np.zeros(2, "float32"), "torch.float64 .* against torch.float32"),
    "an array of integers": (np.array([1, 2]), np.array([1, 3]), r"1 of 2 torch\.int64 values differ"),
    "an array of texts": (np.array(["a", "b"]), np.array(["a", "c"]), "array.*'b'.* against array.*'c'"),
    "an array and a tensor": (one(1), np.ones(1), "Tensor against ndarray"),
    "a scalar of numpy": (np.float32(1), np.float32(2), "output differs by"),
    "a set": ({1, 2}, {1, 3}, r"output: \{1, 2\} against \{1, 3\}"),
    "a set and a frozen set": ({1}, frozenset({1}), "set against frozenset"),
    "a type of tensors": (torch.float32, torch.float64, "torch.float32 against torch.float64"),
    "a range": (range(3), range(4), r"range\(0, 3\) against range\(0, 4\)"),
    "slots": (Slots(one(1)), Slots(one(2)), r"output\['value'\] differs by 5\.00e-01"),
    "an object that is not equal": (Equal(False), Equal(False), "Equal.* against .*Equal"),
    "an attribute more": (types.SimpleNamespace(a=1), types.SimpleNamespace(a=1, b=2), r"\['a'\] against \['a', 'b'\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER)
def test_what_is_another_output_is_named_with_its_place(name: str) -> None:
    left, right, message = OTHER[name]
    with pytest.raises(ProofError, match=message):
        difference(left, right)
    with pytest.raises(ProofError):
        difference(right, left)


@pytest.mark.parametrize("name", [name for name in OTHER if "NaN" in name or "infinity" in name or name == "a number"])
def test_no_tolerance_lets_pass_what_is_no_small_difference(name: str) -> None:
    with pytest.raises(ProofError):
        difference(*OTHER[name][:2], tolerance=1e30)


def test_objects_of_some_classes_are_left_apart() -> None:
    left, right = {"y": one(1), "state": Record(one(1))}, {"y": one(1), "state": Record(one(2))}
    with pytest.raises(ProofError, match=r"output\['state'\]\['value'\]"):
        difference(left, right)
    assert difference(left, right, apart={f"{__name__}.Record"}) == 0.0
    with pytest.raises(ProofError, match="Record against"):
        difference(left, {"y": one(1), "state": None}, apart={f"{__name__}.Record"})


# --- models ---

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


def scaled(factor: float) -> Given:
    return Given(lambda s, x: (s.b(s.a(x)) * factor, s.training, torch.is_grad_enabled())).train()


def test_the_worst_of_all_outputs_and_runs_is_what_is_given() -> None:
    other = Given(lambda s, x: (s.b(s.a(x)) * (1 + 0.01 * len(x)), False, False))
    runs = surgery.batches([X[:1], X[:4], X[:2]])
    assert surgery.verify(other, scaled(1), runs, tolerance=1) == pytest.approx(0.04, rel=1e-3)
    with pytest.raises(ProofError, match=r"output\[0\] differs by 4\.00e-02 of its scale \(3e-02 is allowed\)"):
        surgery.verify(other, scaled(1), runs, tolerance=0.03)


def test_models_are_compared_in_eval_mode_without_gradients_and_left_as_they_were() -> None:
    first, second = scaled(1), Given(lambda s, x: (s.b(s.a(x)), False, False))
    with unchanged(first, second):
        assert surgery.verify(first, second, X) == 0
    assert first.training


def test_models_that_draw_are_compared_from_the_same_random_state() -> None:
    first, second = (Given(lambda s, x: s.b(s.a(x)) + torch.randn(3)) for _ in range(2))
    with unchanged(first, second):
        assert surgery.verify(first, second, X) == 0
