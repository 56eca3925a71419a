"""docs/coverage.md: how many real architectures pass, how elastic they are, and why others are not."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from .record import LOW, Record

HEAD = """# Coverage

Real architectures, each checked in a process of its own from its example inputs alone: `python -m tests.zoo`. What a
model must do to pass, and what the columns say, stands below; then every model, one by one.
"""

CHECKED = """## What is checked

This page and [coverage.json](coverage.json) are written by the command. With `--resume` it keeps the rows of earlier
runs, which may be of earlier commits: *inspect* then says what it took at that time.

A model passes when a random permutation of every group leaves its outputs unchanged; when it wraps, and trains at drawn
widths; and when at half width, at the smallest widths and at three random mixed widths `shrink` gives a model that
equals the wrapped one on two batches, with the parameters and multiply-adds that `cost` predicts, the same root class,
state_dict keys and ties, that trains; and when the original afterwards gives its old outputs bit for bit. Equal means:
the largest difference is at most 1e-9 of the largest output in float64. Models that cannot run in float64, or that cast
to float32 inside, are held to 1e-4, and are marked. Weights are random, inputs are small, and the batch is two.

Then once more with `depth=True, experts=True`: with half of the modules, the fewest, the fewest at the smallest widths,
and at two mixed vectors. Where each module that is left out makes one tensor of one, the small model is compared with
the original code, too, in which these modules hand on what they are given.

- *elastic*: the share of the parameters that some group cuts; *half*: the share of the parameters left at half width
- *inspect*: its processor time, the least of a few calls, relative to that of one forward and backward
- *MiB*: the memory that `inspect` needs beside the model
- *modules*: the lists of modules that may be left out (depth) or are side by side (experts), how many there are, and
  the fewest that can stay
- *new forwards*: submodules whose forward was rewritten; *replaced*: submodules of another class in the small model
"""


def page(records: Iterable[Record], versions: dict[str, str], missing: Sequence[str] = ()) -> str:
    """The whole page; `missing` are the models of the lists that no run has reached."""
    suites: dict[str, list[Record]] = {}
    for record in records:
        suites.setdefault(record.suite, []).append(record)
    parts = [HEAD, _summary(suites), "Run with " + ", ".join(f"{k} {v}" for k, v in versions.items()) + ".\n"]
    parts += [_missing(missing), _failed(suites), CHECKED, _modules(suites), _low(suites)]
    parts += [f"## {suite}\n\n{_table(MODELS, found)}" for suite, found in suites.items()]
    return "\n".join(part for part in parts if part)


Column = tuple[str, Callable[[Record], str]]


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def times(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}x"


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _precision(record: Record) -> str:
    if record.precision.startswith("float64,"):
        return "1e-4 (casts inside)"
    return "1e-9" if record.precision == "float64" else "1e-4 (float32)" if record.precision else ""


def _lists(record: Record) -> str:
    """The lists of modules, those of one kind, size and least together: `2 x depth 12 (from 1)`."""
    if record.lists is None:
        return ""
    counts = Counter(tuple(one) for one in record.lists.values())
    told = [f"{f'{n} x ' if n > 1 else ''}{kind} {size} (from {least})" for (kind, size, least), n in counts.items()]
    return ", ".join(told) or "none"


MODELS: Sequence[Column] = (
    ("model", lambda r: r.name),
    ("passes", lambda r: "yes" if r.passed else "**no**: " + ", ".join(dict.fromkeys(f.stage for f in r.failures))),
    ("elastic", lambda r: share(r.elastic)),
    ("half", lambda r: share(r.half)),
    ("inspect", lambda r: times(r.ratio)),
    ("MiB", lambda r: "" if r.memory is None else f"{r.memory:.0f}"),
    ("new forwards", lambda r: str(len(r.rewritten)) if r.groups else ""),
    ("replaced", lambda r: str(len(r.replaced)) if r.groups else ""),
    ("modules", _lists),
    ("held to", _precision),
    ("fixed, by elements", lambda r: "; ".join(f"{x.elements:,}: {cell(x.reason, 110)}" for x in r.fixed)),
)


def cell(text: str, longest: int = 300) -> str:
    """Text that cannot break a table, nor be read as a link."""
    text = " ".join(text.split()).replace("|", "\\|").replace("](", "] (")
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _table(columns: Sequence[Column], records: Sequence[Record]) -> str:
    lines = ["| " + " | ".join(name for name, _ in columns) + " |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(get(record) for _, get in columns) + " |" for record in records]
    return "\n".join(lines) + "\n"


def _summary(suites: dict[str, list[Record]]) -> str:
    lines = [
        "| suite | passed | median elastic | below 0.5 | median half | median inspect | worst inspect |",
        "|---" * 7 + "|",
    ]
    every = {**suites, "all": [record for found in suites.values() for record in found]}
    for suite, found in every.items():
        low = sum(1 for r in found if r.elastic is not None and r.elastic < LOW)
        ratios = [r.ratio for r in found if r.ratio is not None]
        cells = (
            suite, f"{sum(r.passed for r in found)}/{len(found)}", share(_median(r.elastic for r in found)), str(low),
            share(_median(r.half for r in found)), times(_median(ratios)), times(max(ratios, default=None)),
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "## Summary\n\n" + "\n".join(lines) + "\n"


def _missing(keys: Sequence[str]) -> str:
    return f"## Not run yet\n\n{len(keys)} models of the lists: {', '.join(keys)}.\n" if keys else ""


def _failed(suites: dict[str, list[Record]]) -> str:
    rows = [(r, f) for found in suites.values() for r in found for f in r.failures]
    lines = [f"| {r.key} | {f.stage} | {f.error}: {cell(f.message)} | {f.where} |" for r, f in rows]
    head = "## What fails\n\n| model | stage | error | where |\n|---|---|---|---|\n"
    return head + "\n".join(lines) + "\n" if lines else ""


def _modules(suites: dict[str, list[Record]]) -> str:
    """How many models have lists of modules, and why those of others stay."""
    lines = ["| suite | looked at | with depth | with experts | compared with the original |", "|---" * 5 + "|"]
    every = {**suites, "all": [record for found in suites.values() for record in found]}
    for suite, found in every.items():
        seen = [record for record in found if record.lists is not None]
        kinds = [{one[0] for one in (record.lists or {}).values()} for record in seen]
        told = (suite, len(seen), *(sum(kind in one for one in kinds) for kind in ("depth", "experts")))
        lines.append(f"| {' | '.join(map(str, told))} | {sum(record.left_out > 0 for record in seen)} |")
    stay = [f"| {r.key} | {cell(note)} |" for found in suites.values() for r in found for note in r.stay]
    head = "\n\n### Modules that stay\n\n| model | list, and why |\n|---|---|\n"
    return "## Depth and experts\n\n" + "\n".join(lines) + (head + "\n".join(stay) if stay else "") + "\n"


def _low(suites: dict[str, list[Record]]) -> str:
    low = [r for found in suites.values() for r in found if r.elastic is not None and r.elastic < LOW]
    lines = [
        f"| {r.key} | {share(r.elastic)} | {x.elements:,} | {x.tensor} | {cell(x.reason)} |"
        for r in low
        for x in r.fixed
    ]
    head = (
        "## Less than half elastic\n\n| model | elastic | elements | such as | fixed because |\n|---|---|---|---|---|\n"
    )
    return head + "\n".join(lines) + "\n" if lines else ""
