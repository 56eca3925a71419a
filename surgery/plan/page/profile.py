"""How widths go along blocks that are alike: a bar for each block, for each group that has several widths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from xml.etree.ElementTree import Element

from surgery.html.tags import breakable, tag
from surgery.plan.page.kinds import style_of, words
from surgery.plan.page.tree import Node
from surgery.plan.page.view import View

HEIGHT, STEP, BAR = 30.0, 8.0, 6.0


def profiles(view: View, run: Sequence[Node], own: Sequence[Sequence[str]]) -> Iterator[Element]:
    """The pictures of one run of blocks; `own` are the groups of each block, in the same order."""
    for names in zip(*own, strict=True):
        widths = [view.widths[name] for name in names]
        if len(set(widths)) > 1:
            yield _profile(view, run, names, widths)


def _profile(view: View, run: Sequence[Node], names: Sequence[str], widths: Sequence[int]) -> Element:
    group = view.plan.groups[names[0]]
    whole, kept = "", ""
    for place, width in enumerate(widths):
        share = HEIGHT * width / group.size
        whole += f"M{place * STEP:g} 0h{BAR:g}v{HEIGHT:g}h{-BAR:g}z"
        kept += f"M{place * STEP:g} {HEIGHT - share:.4g}h{BAR:g}v{share:.4g}h{-BAR:g}z"
    across = len(widths) * STEP
    return tag(
        "figure",
        tag(
            "svg",
            tag("path", d=whole, class_="hollow"),
            tag("path", d=kept, class_=f"band {style_of([group.kind])}"),
            width=f"{across:g}",
            height=f"{HEIGHT:g}",
            viewBox=f"0 0 {across:g} {HEIGHT:g}",
            role="img",
            aria_label=f"widths from {run[0].path} to {run[-1].path}: {', '.join(map(str, widths))}",
        ),
        tag(
            "figcaption",
            tag("b", *breakable(names[0].removeprefix(f"{run[0].path}."))),
            f" {words(group.kind)}, {min(widths):,} to {max(widths):,} of {group.size:,}",
        ),
        class_="profile",
    )
