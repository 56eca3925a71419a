"""What torch operations do to axes: families of alike operations first, then single rules.

A rule of your own: `@surgery.rule(torch.some_operation)`; see docs/writing-rules.md.
"""

from surgery.rules import (
    contract,
    create,
    elementwise,
    index,
    join,
    linalg,
    loss,
    memory,
    reduce,
    shape,
    values,
    vision,
)
from surgery.rules.base import RULES, complete, rule
from surgery.rules.elementwise import pointwise, same
from surgery.rules.reduce import reduces, scans
from surgery.rules.shape import spatial

complete()

__all__ = [
    "RULES", "contract", "create", "elementwise", "index", "join", "linalg", "loss", "memory", "pointwise", "reduce",
    "reduces", "rule", "same", "scans", "shape", "spatial", "values", "vision",
]  # fmt: skip
