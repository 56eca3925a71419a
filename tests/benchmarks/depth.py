"""Does depth pay beside width? `python -m tests.benchmarks depth`: two nested families and models of their own.

A language model of eight blocks and a residual network, each trained once with elastic widths, and once with elastic
widths and depths, by the same loop. For shares of the time of a call (batch of one, one thread), the model of each
family that is best on validation data within that time is scored on test data, and so is a model of the size that
depth and width gave, trained alone. Times are of the processor, all sizes in turn.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import surgery
from tests.benchmarks.depth_subjects import SUBJECTS, Step, Subject, timed
from tests.benchmarks.plots import lines
from tests.benchmarks.run import Run

Value = dict[str, Any]
BUDGETS = (0.6, 0.4, 0.25)  # of the time of the full model
SEARCHED, EVALUATIONS = (0.5, 0.25), 60  # budgets of MACs that a search is given, and how often it may look
ROUNDS = 15


def plain(subject: Subject) -> Step:
    return lambda model, x, y: subject.loss(model(x), y).backward()


def nested(subject: Subject) -> Step:
    """The default step of the library: the full model, then three small ones."""
    return lambda model, x, y: surgery.train_step(model, x, lambda output: subject.loss(output, y))


def wrapped(subject: Subject, model: nn.Module, depth: bool, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    return surgery.wrap(model, subject.inputs(2), depth=depth, generator=generator)


def family(name: str, depth: bool, seed: int, quick: bool) -> Value:
    """The weights of one training for all sizes."""
    subject = SUBJECTS[name]
    torch.manual_seed(seed)
    model = subject.build()
    twin = wrapped(subject, model, depth, seed)
    seconds = timed(lambda: subject.fit(twin, seed, nested(subject), quick))
    return {"seconds": seconds, "weights": model.state_dict()}


def loaded(name: str, depth: bool, weights: Value) -> nn.Module:
    subject = SUBJECTS[name]
    model = subject.build()
    model.load_state_dict(weights)
    return wrapped(subject, model, depth, 0).eval()


def sizes(subject: Subject, twin: nn.Module) -> list[dict[str, float]]:
    """Depths and widths to look at."""
    groups = surgery.inspect(twin).groups
    deep = [name for name, group in groups.items() if group.kind == "depth"]
    depths = subject.depths if deep else (1.0,)
    return [{"*": width, **dict.fromkeys(deep, share)} for share in depths for width in subject.fractions]


def goodness(subject: Subject, twin: nn.Module, size: dict[str, float], samples: Any) -> Tensor:
    with surgery.at_widths(twin, size):
        surgery.recalibrate(twin, subject.calibration())
        found: Tensor = samples(twin)
    return found


def times(models: dict[int, nn.Module], x: Tensor, rounds: int) -> dict[int, float]:
    """The time of each model, of that of the first one: medians, all of them in turn."""
    taken: dict[int, list[float]] = {key: [] for key in models}
    with torch.inference_mode():
        for i in range(rounds + 2):
            for key, model in models.items():
                start = time.process_time()
                model(x)
                if i > 1:
                    taken[key].append(time.process_time() - start)
    whole = statistics.median(taken[next(iter(taken))])
    return {key: round(statistics.median(found) / whole, 3) for key, found in taken.items()}


def looked_at(name: str, depth: bool, quick: bool, weights: Value) -> Value:
    """Every size of a family: its time, its goodness on validation data; and for each budget the best, on test data."""
    subject, twin = SUBJECTS[name], loaded(name, depth, weights)
    listed = sizes(subject, twin)
    small = {i: surgery.shrink(twin, size, recalibrate=False) for i, size in enumerate(listed)}
    share = times(small, subject.inputs(1), 3 if quick else ROUNDS)
    known = [goodness(subject, twin, size, subject.validation).mean().item() for size in listed]
    best = []
    for budget in (1.0, *BUDGETS):
        fitting = [i for i in small if share[i] <= budget] or [min(small, key=lambda i: share[i])]
        i = 0 if budget == 1 else max(fitting, key=known.__getitem__)
        found = goodness(subject, twin, listed[i], subject.test)
        best.append({"size": listed[i], "time": share[i], "test": found.tolist()})
    return {"sizes": listed, "times": list(share.values()), "validation": known, "best": best}


def alone(name: str, size: dict[str, float], seed: int, quick: bool) -> Value:
    """A model of this size from random weights, trained as the full one is."""
    subject = SUBJECTS[name]
    torch.manual_seed(seed)
    small = surgery.shrink(wrapped(subject, subject.build(), True, 0), size, recalibrate=False)
    subject.start(small)
    seconds = timed(lambda: subject.fit(small, seed, plain(subject), quick))
    return {"seconds": seconds, "test": subject.test(small).tolist()}


def searched(name: str, quick: bool, weights: Value) -> Value:
    """What a search over depth and widths finds, against uniform sizes, on validation and on test data."""
    subject, twin = SUBJECTS[name], loaded(name, True, weights)
    curve = surgery.search(
        twin, subject.validation, SEARCHED, evaluations=12 if quick else EVALUATIONS, measure_latency=False,
        recalibrate=subject.calibration() or None, progress=False,
    )  # fmt: skip
    pairs = list(zip(curve, curve.uniform, strict=True))
    tests = [[goodness(subject, twin, dict(p.widths), subject.test).mean().item() for p in pair] for pair in pairs]
    return {"validation": [[p.score for p in pair] for pair in pairs], "test": tests}


def main(run: Run) -> list[Value]:
    """Print and return a row for each model, seed and budget of time; and one for each budget of the search."""
    rows: list[Value] = []
    for name in SUBJECTS:
        for seed in run.seeds(3):
            rows += by_time(run, name, seed)
        rows += by_search(run, name)
    return rows


def by_time(run: Run, name: str, seed: int) -> list[Value]:
    """A row for each budget of time."""
    subject, rows = SUBJECTS[name], []
    unit, scale = subject.unit
    base = run.cell(alone, name=name, size={"*": 1.0}, seed=seed, quick=run.quick)
    families = [run.cell(family, name=name, depth=depth, seed=seed, quick=run.quick) for depth in (False, True)]
    seen = [
        run.cell(_keyed(seed), {"weights": one["weights"]}, name=name, depth=depth, quick=run.quick)["best"]
        for depth, one in zip((False, True), families, strict=True)
    ]
    cost = [round(one["seconds"] / base["seconds"], 2) for one in families]
    for i, budget in enumerate((1.0, *BUDGETS)):
        width, both = (found[i] for found in seen)
        own = base if i == 0 else run.cell(alone, name=name, size=both["size"], seed=seed, quick=run.quick)
        tests = [round(scale * statistics.mean(one["test"]), 3) for one in (width, both, own)]
        rows.append({
            "model": name, "seed": seed, "budget": budget, "unit": unit,
            **dict(zip(("width alone", "depth and width", "trained alone"), tests, strict=True)),
            "times": [width["time"], both["time"]], "sizes": [_told(width["size"]), _told(both["size"])],
            "training, of a plain one": cost,
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def by_search(run: Run, name: str) -> list[Value]:
    """A row for each budget that a search is given, of the first seed."""
    unit, scale = SUBJECTS[name].unit
    trained = run.cell(family, name=name, depth=True, seed=0, quick=run.quick)
    value = run.cell(searched, {"weights": trained["weights"]}, name=name, quick=run.quick)
    rows = []
    for budget, validation, test in zip(SEARCHED, value["validation"], value["test"], strict=True):
        told = {"searched, uniform on validation": validation, "on test": test}
        scaled = {key: [round(scale * score, 3) for score in pair] for key, pair in told.items()}
        rows.append({"model": name, "MACs": budget, "unit": unit, **scaled})
        print(rows[-1], flush=True)
    return rows


def _keyed(seed: int) -> Any:
    """`looked_at` of one seed: a cell is known by the name of its function."""

    def function(**settings: Any) -> Value:
        return looked_at(**settings)

    function.__name__ = f"looked_at_{seed}"
    return function


def _told(size: dict[str, float]) -> str:
    deep = [share for name, share in size.items() if name != "*"]
    return f"width {size['*']:g}" + (f", depth {deep[0]:g}" if deep else "")


def plot(rows: list[Value], path: Path) -> None:
    """Goodness above that of models trained alone, by the time of a call: means over seeds, with their deviation."""
    series: dict[str, list[tuple[float, float, float]]] = {}
    for name in SUBJECTS:
        scale = 1 if name == "cnn" else 100
        for kind in ("width alone", "depth and width"):
            points = []
            for budget in (1.0, *BUDGETS):
                found = [r for r in rows if r["model"] == name and r.get("budget") == budget]
                gaps = torch.tensor([scale * (r[kind] - r["trained alone"]) for r in found])
                error = gaps.std().item() if len(gaps) > 1 else 0.0
                points.append((budget, gaps.mean().item(), error))
            label = f"{name}, {kind}, {'points' if scale == 1 else '0.01 nats per byte'}"
            series[label] = points
    lines(path, series, "time of a call, of the full model's", "above models trained alone", "Depth and width")
