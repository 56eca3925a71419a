"""A plan as a table that a person can read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from surgery.plan.plan import Plan


def plan_table(plan: Plan) -> str:
    """The groups, then everything that is fixed with its reason, then the totals."""
    lines = [f"{plan.model}: {plan.total:,} parameters, {plan.elastic_share:.1%} of them elastic", ""]
    rows = [("group", "size", "step", "tensors", "parameters", "MACs", "sets")]
    for g in plan.groups.values():
        tensors = len({tensor for tensor, _ in g.cuts})
        rows.append(
            (g.name, f"{g.size}", f"{g.granularity}", f"{tensors}", f"{g.parameters:,}", f"{g.macs:,}", _few(g.sets))
        )
    lines += _aligned(rows, left=(0, 6))
    elastic = plan.total - sum(item.elements for item in plan.fixed)
    lines += ["", f"fixed: {plan.total - elastic:,} parameters"]
    lines += _aligned([(f"  {f.tensor}", f"{f.elements:,}", f.reason) for f in plan.fixed], left=(0, 2))
    for path in sorted(plan.rewrites):
        lines.append(f"rewritten forward: {path or 'the model itself'} (its code holds sizes that must follow)")
    lines += [f"note: {note}" for note in plan.notes]
    lines += ["", f"total: {elastic:,} elastic + {plan.total - elastic:,} fixed = {plan.total:,} parameters"]
    lines.append("(groups overlap: a weight has rows and columns)")
    return "\n".join(lines)


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
