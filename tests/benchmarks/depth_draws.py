"""How should depths be drawn? `python -m tests.benchmarks depth_draws`: the models of `depth`, by what a step draws.

Each is trained once for all sizes, of the first seed, and scored on validation data alone: whole, at half of the depth,
at half of the widths, and at half of both. What `depth` has trained already in the same file is taken from it.
"""

from __future__ import annotations

from typing import Any

import torch

import surgery
from surgery.training.draws import DEPTHS, TURNS, Deep
from surgery.training.schedules import NARROW
from tests.benchmarks import depth
from tests.benchmarks.depth_subjects import SUBJECTS, timed
from tests.benchmarks.run import Run

Value = dict[str, Any]
DEPTH, WIDTHS, BOTH = (True, False), (False, True), (True, True)
DRAWS: dict[str, tuple[tuple[bool, bool], ...]] = {
    "one fraction for depths and widths": (),
    "a third depths, a third widths, a third both": (DEPTH, WIDTHS, BOTH),
    "half depths, half widths": (DEPTH, WIDTHS),
}
KEPT = "the default: two fifths, two fifths, a fifth"  # what `depth` trains


def narrow(turns: tuple[tuple[bool, bool], ...]) -> list[Any]:
    """The narrow passes of the default step, with other turns; without any, what `deep` is made of."""
    plain = [turn.draw for turn in NARROW if isinstance(turn, Deep)]
    return [Deep(draw, DEPTHS, turns) for draw in plain] if turns else plain


def drawn(name: str, draw: str, quick: bool) -> Value:
    """The weights of one training, in which narrow widths are drawn so."""
    subject = SUBJECTS[name]
    torch.manual_seed(0)
    model = subject.build()
    twin = depth.wrapped(subject, model, True, 0)

    def step(model: Any, x: Any, y: Any) -> object:
        return surgery.train_step(model, x, lambda output: subject.loss(output, y), narrow=narrow(DRAWS[draw]))

    return {"seconds": timed(lambda: subject.fit(twin, 0, step, quick)), "weights": model.state_dict()}


def scored(name: str, deep: bool, draw: str, weights: Value) -> Value:
    """Goodness on validation data: whole, half of the depth, half of the widths, half of both."""
    subject, twin = SUBJECTS[name], depth.loaded(name, deep, weights)
    lists = [name for name, group in surgery.inspect(twin).groups.items() if group.kind == "depth"]
    sizes = [(1.0, 1.0), (0.5, 1.0), (1.0, 0.5), (0.5, 0.5)] if deep else [(1.0, 1.0), (1.0, 0.5)]
    found = [
        depth.goodness(subject, twin, {"*": width, **dict.fromkeys(lists, share)}, subject.validation).mean().item()
        for share, width in sizes
    ]
    return {"draw": draw, "scores": [round(subject.unit[1] * score, 3) for score in found]}


def main(run: Run) -> list[Value]:
    """Print and return a row for each model and draw."""
    assert TURNS == (DEPTH, DEPTH, WIDTHS, WIDTHS, BOTH)
    rows = []
    for name in SUBJECTS:
        trained = {
            draw: run.cell(depth.family, name=name, depth=deep, seed=0, quick=run.quick)
            for draw, deep in (("widths alone", False), (KEPT, True))
        }
        trained |= {draw: run.cell(drawn, name=name, draw=draw, quick=run.quick) for draw in DRAWS}
        for draw, value in trained.items():
            given = {"weights": value["weights"]}
            found = run.cell(scored, given, name=name, deep=draw != "widths alone", draw=draw)
            rows.append({"model": name, "unit": SUBJECTS[name].unit[0], **found})
            print(rows[-1], flush=True)
    return rows
