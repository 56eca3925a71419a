"""Kinds of groups as the page writes them: a short sign beside the colour, words, and the class for the style sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from surgery.axes.layout import Layout, Sum
from surgery.plan.groups import Group

SIGNS = {
    "heads": "H", "kv_heads": "KV", "residual": "R", "head_width": "W", "embedding": "E", "channels": "C",
    "inner": "I", "ffn": "F", "hidden": "M", "depth": "D", "experts": "X",
}  # fmt: skip
LETTER = 6.2  # about the room that a letter of a label takes, in pixels


def style_of(kinds: Sequence[str]) -> str:
    """The classes of what is coloured or filtered by these kinds; `fixed` is one of them."""
    return " ".join(f"k-{kind}" for kind in kinds)


def words(kind: str) -> str:
    """A kind in a sentence."""
    return kind.replace("_", " ")


def label(names: Sequence[str], groups: Mapping[str, Group], size: int, room: float) -> str:
    """The longest label of a stretch of a side that fits: kinds and sizes, signs and sizes, signs, or none."""
    if not names:
        options = [f"{size:,}"]
    else:
        each = [(words(groups[name].kind), SIGNS[groups[name].kind], groups[name].size) for name in names]
        options = [
            " × ".join(f"{word} {size}" for word, _, size in each),
            " × ".join(f"{sign} {size}" for _, sign, size in each),
            "×".join(f"{sign}{size}" for _, sign, size in each),
            "×".join(sign for _, sign, _ in each),
        ]
    return next((text for text in options if len(text) * LETTER <= room), "")


def told(dim: Layout, groups: Mapping[str, Group]) -> str:
    """A dimension in words: `3 × heads 4 × head width 6`."""
    parts = []
    for factor in dim:
        if isinstance(factor, Sum):
            parts.append("(" + " + ".join(told(term, groups) for term in factor.terms) + ")")
        else:
            kind = f"{words(groups[factor.group].kind)} " if factor.group else ""
            parts.append(f"{kind}{factor.size:,}")
    return " × ".join(parts) or "1"
