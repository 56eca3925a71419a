"""One program from its seed to what is wrong with it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace

import torch

import surgery
from tests.laws.fuzz.checks import CHECKS, MODES, Trial, quiet, takes
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
    made = program(drawn)
    with quiet():
        stage = "program"
        try:
            with imported(made.source) as module:
                model = built(module)
                taken = {mode: [one for one in made.inputs if takes(model.train(mode), one)] for mode in MODES}
                if not all(made.inputs[0] in runs for runs in _by_identity(taken)):
                    return _outcome(drawn, BROKEN, stage, _why(built(module), made))
                stage = "wrap"
                trial = _trial(made, module, taken)
                if isinstance(trial, Outcome):
                    return trial
                for check in (*CHECKS, *ORACLES):
                    stage = check.__name__
                    check(trial)
        except Exception as error:
            kind = BROKEN if stage == "program" else FAILED
            return _outcome(drawn, kind, stage, f"{type(error).__name__}: {error}", traceback.format_exc())
    return Outcome(drawn, PASSED, share=trial.plan.elastic_share)


def _by_identity(taken):  # type: ignore[no-untyped-def]
    return taken.values()


def _trial(made: Program, module: object, taken: dict) -> Trial | Outcome:  # type: ignore[type-arg]
    example = made.inputs[0]
    try:
        twin = surgery.wrap(built(module), example).eval()
        plan = surgery.inspect(twin)
    except surgery.SurgeryError as error:
        if "no axis that can change its width" in str(error):
            return _outcome(made.recipe, PASSED, "", "nothing is elastic")
        return _outcome(made.recipe, REFUSED, "wrap", f"{type(error).__name__}: {error}", traceback.format_exc())
    return Trial(made, module, plan, twin, torch.Generator().manual_seed(made.recipe.seed), taken)  # type: ignore[arg-type]


def _outcome(drawn: Recipe, kind: str, check: str, message: str, trace: str = "") -> Outcome:
    return Outcome(drawn, kind, check, message, trace)


def _why(model, made: Program) -> str:  # type: ignore[no-untyped-def]
    try:
        from tests.laws.fuzz.checks import ran

        with torch.no_grad():
            ran(model, made.inputs[0])
            ran(model.train(), made.inputs[0])
    except Exception:
        return traceback.format_exc(limit=-3)
    return "the model gives no numbers on its example"


def minimal(outcome: Outcome) -> Outcome:
    """The same failure with as few pieces as possible."""
    for pieces in [(one,) for one in outcome.recipe.pieces] + [
        outcome.recipe.pieces[:i] + outcome.recipe.pieces[i + 1 :] for i in range(len(outcome.recipe.pieces))
    ]:
        if 0 < len(pieces) < len(outcome.recipe.pieces):
            again = tried(replace(outcome.recipe, pieces=pieces))
            if again.kind == outcome.kind and again.check == outcome.check:
                return minimal(again)
    return outcome
