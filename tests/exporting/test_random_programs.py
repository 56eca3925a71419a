"""Small models of random programs, in the spellings of real code, are what is written; or the refusal says why."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

import surgery
from tests.exporting.written import again
from tests.laws.fuzz.checks import quiet, ran, same, takes
from tests.laws.fuzz.program import built, imported, program, recipe

EACH = 20
REFUSED = "hooks|parametrizations|<lambda> cannot be imported"


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 160, EACH))
def test_programs(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + EACH):
        made, folder = program(recipe(seed)), tmp_path / str(seed)
        folder.mkdir()
        with quiet(), imported(made.source) as module:
            try:
                small = surgery.shrink(built(module).eval(), 0.5, made.inputs[0])
            except surgery.SurgeryError:
                continue  # that is tested elsewhere
            taken = [one for one in made.inputs if takes(copy.deepcopy(small), one)]
            for one in taken:
                try:
                    model = again(small, folder)
                except surgery.InputError as error:
                    assert any(reason in str(error) for reason in REFUSED.split("|")), (seed, error)
                    break
                same(f"seed {seed}", ran(copy.deepcopy(small), one), ran(model, one))
