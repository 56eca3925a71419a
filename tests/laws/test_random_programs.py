"""The laws over random models."""

from hypothesis import given, note
from hypothesis import strategies as st
from torch import nn

from tests.laws.laws import all_laws
from tests.laws.programs import Program, programs


@given(program=programs(), seed=st.integers(0, 2**16))
def test_laws_hold_for_random_programs(program: Program, seed: int) -> None:
    note(repr(program))
    counted = not any(isinstance(module, nn.LSTM) for module in program.model)  # torch does not count recurrences
    all_laws(program.model, (program.inputs(0),), (program.inputs(1, batch=3),), seed, macs=counted)
