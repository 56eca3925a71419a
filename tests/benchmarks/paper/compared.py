"""The rows of one experiment: every way of making a family, at every width, over seeds."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.paper.cells import FITTED, PARTS, Results
from tests.benchmarks.paper.experiment import Experiment
from tests.benchmarks.plots import Points, panels
from tests.benchmarks.run import Run

Value = dict[str, Any]
MIXED = "BatchNorm of all widths mixed"


@dataclass(frozen=True)
class Method:
    """A way of making a family: on which axes, which widths are looked at, and what is found with a seed."""

    name: str
    scope: str
    widths: Sequence[float]
    find: Callable[[int], Value]


def methods(results: Results) -> list[Method]:
    """All ways that are compared."""
    experiment = results.experiment
    found = []
    for mode, how in experiment.modes.items():
        name = mode.removesuffix(f", {how.scope}")
        if how.step != "plain":
            found.append(Method(name, how.scope, experiment.widths, partial(family, results, mode)))
        if how.step == "paper" and experiment.task.normed:
            find = partial(results.family, mode, calibrated=False)
            found.append(Method(f"{name}, {MIXED}", how.scope, experiment.widths, find))
    for scope in experiment.scopes:
        find = partial(results.family, "plain", scope=scope)
        found.append(Method("trained plainly, cut", scope, experiment.widths, find))
        for how in FITTED:
            name = f"trained plainly, {how}"
            found.append(Method(name, scope, experiment.few, partial(results.fitted, how, scope=scope)))
        if experiment.alone:
            found.append(Method("each width alone", scope, experiment.few, partial(alone, results)))
    return found


def family(results: Results, mode: str, seed: int) -> Value:
    """Scores by width of a training, its learning rate, and its time, of a plain one."""
    trained, plain = results.trained(mode, seed), results.trained("plain", seed)
    time = trained["seconds"] / plain["seconds"]
    return {**results.family(mode, seed), "rate, share": _chosen(trained), "time": time}


def alone(results: Results, seed: int) -> Value:
    """The same of a model for each width."""
    full = results.experiment.few[0]
    found = [results.trained("plain", seed, width / full) for width in results.experiment.few]
    time = sum(value["seconds"] for value in found) / found[0]["seconds"]
    scores = {part: [value[part] for value in found] for part in PARTS}
    return {**scores, "rate, share": [_chosen(value) for value in found], "time": time}


def main(run: Run, name: str, experiment: Experiment) -> list[Value]:
    """Print and return rows: of the plain training, and of each way of making a family."""
    results, seeds, measures = Results(run, name, experiment), run.seeds(3), experiment.task.measures
    trained = [results.trained("plain", seed) for seed in seeds]
    told = {measure: _mean([one["test"][i] for one in trained]) for i, measure in enumerate(measures)}
    told |= {"seconds": _mean([one["seconds"] for one in trained]), "rate, share": _chosen(trained[0])}
    rows: list[Value] = [{"experiment": name, "method": "plain training", "seeds": len(seeds), **told}]
    for method in methods(results):
        plain = [results.family("plain", seed, method.scope) for seed in seeds]
        row = {"experiment": name, "method": method.name, "scope": method.scope}
        rows.append(row | summary(experiment, method.widths, [method.find(seed) for seed in seeds], plain))
    for row in rows:
        print(_shown(row, experiment))
    return rows


def summary(experiment: Experiment, widths: Sequence[float], found: list[Value], plain: list[Value]) -> Value:
    """Test scores by width with their standard error, and how many features can go, of each measure."""
    row: Value = {"widths": [width / widths[0] for width in widths]}
    few = [list(widths).index(width) for width in experiment.few]
    shares, margin = [row["widths"][at] for at in few], experiment.task.margin
    for i, measure in enumerate(experiment.task.measures):
        row[measure] = [_mean([one["test"][at][i] for one in found]) for at in range(len(widths))]
        scores = [{part: [one[part][at][i] for at in few] for part in PARTS} for one in found]
        whole = [{part: one[part][0][i] for part in PARTS} for one in plain]
        own = [{part: one[part][0] for part in PARTS} for one in scores]
        for kind, part, against in (
            ("", "validation", whole),
            ("of its own, ", "validation", own),
            ("chosen on test, ", "test", whole),
        ):
            row[f"can go at -{margin:g}, {kind}{measure}"] = _columns(
                gone(margin, shares, one[part], one["test"], other[part], other["test"])
                for one, other in zip(scores, against, strict=True)
            )
    if "time" in found[0]:
        row |= {"time": _mean([one["time"] for one in found]), "rate, share": found[0]["rate, share"]}
    return row


def gone(
    margin: float, shares: Sequence[float], chosen: Sequence[float], tested: Sequence[float], plain: float, test: float
) -> tuple[float, float, bool]:
    """The share of features that can go, what is lost on test data by that, and whether any width is good enough.

    Args:
        shares: of the features, that are left at each width, from 1.0 down.
        chosen: scores that choose: the last width before one that is more than the margin below `plain`.
        tested: scores on test data, of which `test` is the plain model's.
    """
    good = list(itertools.takewhile(lambda at: chosen[at] >= plain - margin, range(len(shares))))
    at = good[-1] if good else 0
    return 1 - shares[at], tested[at] - test, bool(good)


def _columns(triples: Iterable[tuple[float, float, bool]]) -> Value:
    shares, lost, reached = zip(*triples, strict=True)
    return {"share": _mean(shares), "test": _mean(lost), "seeds": sum(reached)}


def _chosen(trained: Value) -> list[float]:
    return [trained["rate"], trained["share"]]


def _mean(values: Sequence[float]) -> list[float]:
    """The mean and its standard error."""
    error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return [round(statistics.mean(values), 3), round(error, 3)]


def _shown(row: Value, experiment: Experiment) -> Value:
    """A row of a few widths alone."""
    if "widths" not in row:
        return row
    few = [row["widths"].index(width / experiment.few[0]) for width in experiment.few]
    shown = {key: [row[key][at] for at in few] for key in ("widths", *experiment.task.measures)}
    return {**row, **shown}


def plot(rows: list[Value], path: Path, experiment: Experiment, title: str, depth: float) -> None:
    """A panel for each measure and scope: scores against width, one line for each method; see `panels`."""
    drawn: dict[str, dict[str, Points]] = {}
    seen = {width / experiment.few[0] for width in experiment.few}
    seen |= set() if len(experiment.widths) > 64 else set(experiment.widths)
    for measure in experiment.task.measures:
        for scope in experiment.scopes:
            named = ((measure, experiment.task.measures), (scope, tuple(experiment.scopes)))
            drawn[", ".join(name for name, every in named if len(every) > 1)] = {
                row["method"]: [(w, *score) for w, score in zip(row["widths"], row[measure], strict=True) if w in seen]
                for row in rows
                if row.get("scope") == scope
            }
    panels(path, drawn, "width of every elastic layer, of the full one", experiment.task.unit, title, depth)
