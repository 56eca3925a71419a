"""Does a width for every axis pay without training? `python -m tests.benchmarks choice_start`.

As `choice`, on models that were trained plainly, sorted and nested: those of `fashion_mlp` and `fashion_cnn`, by their
test accuracy, and the feed-forward layers and heads of MiniLM, by the cosine of each sentence's embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

import surgery
from tests.benchmarks.choice import BUDGETS, Subject, compared, right
from tests.benchmarks.fashion import Fashion
from tests.benchmarks.image_cells import EXAMPLE, batches, parts
from tests.benchmarks.images import SETUPS
from tests.benchmarks.run import Run

Value = dict[str, Any]
EVALUATIONS = 40
ONLY = ("*.intermediate.dense.o", "*.query.o.0")


def images(name: str, quick: bool, weights: Value) -> Subject:
    model, calibration = SETUPS[name].build(1.0), batches(quick)
    model.load_state_dict(weights)
    _, validation, test = parts(quick)
    ordered = surgery.sort(model.eval(), EXAMPLE, by=surgery.absorbed(calibration))
    wrapped = surgery.wrap(surgery.nest(ordered, calibration, EXAMPLE), EXAMPLE)
    return Subject(wrapped, right(validation), right(test), calibration, 100)


def sentences(name: str, quick: bool, weights: Value) -> Subject:
    from tests.benchmarks.minilm import Batch, Encoder, embedded, texts

    known, model = texts(quick, 0), Encoder().eval()

    def alike(part: Sequence[Batch]) -> Callable[[nn.Module], Tensor]:
        full = embedded(model, part)
        return lambda other: (embedded(other.eval(), part) * full).sum(1).double()

    example = known.calibration[len(known.calibration) // 2]
    ordered = surgery.sort(model, example, by=surgery.absorbed(known.calibration))
    shares = [{glob: fraction for glob in ONLY} for fraction in (0.75, 0.5, 0.25)]
    nested = surgery.nest(ordered, known.calibration, example, widths=[1.0, *shares])
    return Subject(surgery.wrap(nested, example, only=ONLY), alike(known.choice), alike(known.test), None, 1)


SUBJECTS = {"mlp": images, "cnn": images, "minilm": sentences}


def searched(name: str, evaluations: int, quick: bool, seed: int, weights: Value) -> Value:
    """For each budget that some widths meet, the searched and the uniform widths, and their goodness on test data."""
    subject = SUBJECTS[name](name, quick, weights)
    least = surgery.cost(subject.wrapped, 0.01).macs / surgery.cost(subject.wrapped).macs
    curve = surgery.search(
        subject.wrapped, subject.validation, [budget for budget in BUDGETS if budget > least],
        evaluations=evaluations, measure_latency=False, recalibrate=subject.calibration,
    )  # fmt: skip
    found = [compared(subject, *pair) for pair in zip(curve, curve.uniform, strict=True)]
    return {"full macs": curve.full.macs, "budgets": found}


def main(run: Run) -> list[Value]:
    """Print and return a row for each model and budget; the error is of the difference, over the samples."""
    rows: list[Value] = []
    for name in SUBJECTS:
        weights = {} if name == "minilm" else Fashion(run, name).alone(1.0, 0)["weights"]
        evaluations = 8 if run.quick else EVALUATIONS
        value = run.cell(searched, {"weights": weights}, name=name, evaluations=evaluations, quick=run.quick, seed=0)
        for budget, found in zip(BUDGETS, value["budgets"], strict=False):
            cost = [round(macs / value["full macs"], 3) for macs in found["macs"]]
            scores = {key: round(found[key], 3) for key in ("searched", "uniform", "gain", "error")}
            rows.append({"model": name, "budget": budget, **scores, "MACs": cost})
            print(rows[-1], flush=True)
    return rows
