"""A plan as text: layouts as einops would write them, and the table that is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from surgery.axes.layout import Layout, Sum
from surgery.errors import WidthError
from surgery.plan.facts import Facts
from surgery.plan.folding import Row, folded
from surgery.plan.groups import DEPTH, Fixed
from surgery.plan.selecting import covers


def notation(dim: Layout) -> str:
    """A layout as einops would write it, group names as axes: `(3 qkv.o.0)`."""
    parts = []
    for factor in dim:
        if isinstance(factor, Sum):
            parts.append("(" + " + ".join(notation(term) for term in factor.terms) + ")")
        else:
            parts.append(factor.group or str(factor.size))
    return parts[0] if len(parts) == 1 else f"({' '.join(parts)})" if parts else "1"


HEADER = ("group", "kind", "size", "step", "tensors", "parameters", "MACs", "sets")
LEAST = 8  # characters that the last column keeps


def plan_table(plan: Facts, full: bool = False, only: str | None = None, columns: int | None = None) -> str:
    """The groups, then everything that is fixed with its reason, then the totals. Repeated blocks are one row.

    See `Plan.table`. Raises WidthError where `only` selects nothing.
    """
    names, stuck = _selected(plan, only)
    fold: Callable[[Sequence[Row]], list[Row]] = list if full else folded
    groups = fold([_row(plan, name) for name in names])
    fixed = fold([(f.tensor, f"{f.elements:,}", f.reason) for f in stuck])
    lines = [f"{plan.model}: {plan.total:,} parameters, {plan.elastic_share:.1%} of them elastic", ""]
    lines += _aligned(_narrowed([HEADER, *groups], columns), left=(0, 1, 7)) if groups or only is None else []
    elastic = plan.total - sum(item.elements for item in plan.fixed)
    if stuck or only is None:
        lines += ["", f"fixed: {sum(item.elements for item in stuck):,} parameters"]
    lines += _aligned([(f"  {name}", *rest) for name, *rest in fixed], left=(0, 2))
    lines += _remarks(plan) if only is None else []
    lines += ["", f"total: {elastic:,} elastic + {plan.total - elastic:,} fixed = {plan.total:,} parameters"]
    lines.append("(groups overlap: a weight has rows and columns)")
    if only is not None:
        lines.append(f"({only}: {len(names)} of {len(plan.groups)} groups)")
    if len(groups) + len(fixed) < len(names) + len(stuck):
        lines.append("({a..b}: a row for each of these blocks; plan.table(full=True) has them all)")
    return "\n".join(lines)


def _selected(plan: Facts, only: str | None) -> tuple[list[str], list[Fixed]]:
    """The names of groups, and what is fixed, that a pattern selects; all where there is none."""
    if only is None:
        return list(plan.groups), list(plan.fixed)
    stuck = [f for f in plan.fixed if covers(only, f.tensor)]
    try:
        return plan.find(only), stuck
    except WidthError:
        if not stuck:
            raise
        return [], stuck


def _row(plan: Facts, name: str) -> Row:
    g = plan.groups[name]
    goes = plan.units.inside(name, plan.stored_elements.keys() | plan.parameters.keys())
    tensors = len({*goes, *(tensor for tensor, _ in g.cuts)})
    numbers = (f"{g.size}", f"{g.granularity}", f"{tensors}", f"{g.parameters:,}", f"{g.macs:,}")
    return (g.name, g.kind, *numbers, _few(g.sets))


def _remarks(plan: Facts) -> list[str]:
    """What is said below the tables."""
    ties = [tie for tie in plan.ties if len(tie.groups) > 1]
    return [
        *(f"tied: {_few(tie.groups)} have one fraction of their sizes" for tie in ties),
        *(f"rewritten forward: {path or 'the model itself'} (its code holds sizes that must follow)"
          for path in sorted(plan.rewrites)),
        *(f"available: {line}" for line in offered(plan)),
        *(f"note: {note}" for note in plan.notes),
    ]  # fmt: skip


def offered(plan: Facts) -> list[str]:
    """Lists of modules that could be groups, and how they are asked for."""
    return [
        f"{name} ({size} {'modules' if kind == DEPTH else kind}; {kind}=True)" for name, kind, size in plan.available
    ]


def _narrowed(rows: Sequence[Row], columns: int | None) -> Sequence[Row]:
    """The rows with less in their last column, where lines would be longer."""
    if columns is None:
        return rows
    before = sum(max(len(row[i]) for row in rows) + 2 for i in range(len(HEADER) - 1))
    room = max(columns - before, LEAST)
    return [(*row[:-1], row[-1] if len(row[-1]) <= room else row[-1][: room - 1] + "…") for row in rows]


def _few(names: Sequence[str], most: int = 2) -> str:
    return ", ".join(names[:most]) + (f", +{len(names) - most}" if len(names) > most else "")


def _aligned(rows: Sequence[Sequence[str]], left: Iterable[int]) -> list[str]:
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    left = set(left)
    return [
        "  ".join(
            cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
