"""One program from its seed to what is wrong with it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from types import ModuleType

import torch

import surgery
from tests.laws.fuzz.checks import CHECKS, MODES, Trial, quiet, ran, takes
from tests.laws.fuzz.oracles import ORACLES
from tests.laws.fuzz.program import Program, Recipe, built, imported, program, recipe

PASSED, REFUSED, BROKEN, FAILED = "passed", "refused", "broken", "failed"


@dataclass(frozen=True)
class Outcome:
    """What came of a program. A program that is broken does not run itself: the generator is wrong, not the library."""

    recipe: Recipe
    kind: str
    check: str = ""
    message: str = ""
    trace: str = ""
    share: float = 0.0  # of the parameters that is elastic

    @property
    def headline(self) -> str:
        text = " ".join(self.message.split())
        return f"seed {self.recipe.seed} {self.kind} {self.check} [{self.recipe.story}]: {text[:300]}"


def run(seed: int) -> Outcome:
    return tried(recipe(seed))


def tried(drawn: Recipe) -> Outcome:
    """All checks of the program of a recipe."""
    made = program(drawn)
    stage = "program"
    with quiet():
        try:
            with imported(made.source) as module:
                taken = {mode: [one for one in made.inputs if takes(built(module).train(mode), one)] for mode in MODES}
                if not all(made.inputs[0] in runs for runs in taken.values()):
                    return Outcome(drawn, BROKEN, stage, _why(module, made))
                stage = "wrap"
                twin = surgery.wrap(built(module), made.inputs[0], depth=drawn.lists, experts=drawn.lists).eval()
                plan, generator = surgery.inspect(twin), torch.Generator().manual_seed(drawn.seed)
                trial = Trial(made, module, plan, twin, generator, taken)
                for check in (*CHECKS, *ORACLES):
                    stage = check.__name__
                    check(trial)
        except Exception as error:
            kind = BROKEN if stage == "program" else FAILED
            if stage == "wrap" and isinstance(error, surgery.SurgeryError):
                kind = PASSED if "no axis that can change its width" in str(error) else REFUSED
            return Outcome(drawn, kind, stage, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(drawn, PASSED, share=plan.elastic_share)


def _why(module: ModuleType, made: Program) -> str:
    """Why a program does not run on its example."""
    try:
        for mode in MODES:
            with torch.no_grad():
                ran(built(module).train(mode), made.inputs[0])
    except Exception:
        return traceback.format_exc(limit=-3)
    return "it gives no numbers on its example"


def minimal(outcome: Outcome) -> Outcome:
    """The same failure with as few pieces as possible."""
    pieces = outcome.recipe.pieces
    fewer = [(one,) for one in pieces] + [pieces[:i] + pieces[i + 1 :] for i in range(len(pieces))]
    for some in fewer:
        if 0 < len(some) < len(pieces):
            again = tried(replace(outcome.recipe, pieces=some))
            if (again.kind, again.check) == (outcome.kind, outcome.check):
                return minimal(again)
    return outcome
