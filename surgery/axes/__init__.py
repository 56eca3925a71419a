"""Dimensions, and integers made of them, as algebra: what is the same axis, what a size comes to at other widths.

Never: nn, or any other room of the library (its errors apart).
"""

from surgery.axes.algebra import (
    Axis,
    Dim,
    Dims,
    Sum,
    axes_of,
    concat,
    cut,
    divide,
    extent,
    fresh,
    pieces,
    pin,
    pinned,
    resolve,
    unify,
)

__all__ = [
    "Axis", "Dim", "Dims", "Sum", "axes_of", "concat", "cut", "divide", "extent", "fresh", "pieces", "pin", "pinned",
    "resolve", "unify",
]  # fmt: skip
