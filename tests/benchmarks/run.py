"""What a benchmark is told."""

from __future__ import annotations

from dataclasses import dataclass

from tests.benchmarks.cells import Cells


@dataclass(frozen=True)
class Run:
    """The options of the command line, and the cells that are finished.

    Attributes:
        quick: fewer repeats, for a look; figures mean little.
        count: how many seeds were asked for, or None for the benchmark's own number.
        cell: `cell(function, **settings)` is the result of a function, kept in the file of `--json`.
    """

    quick: bool
    count: int | None
    cell: Cells

    def seeds(self, usual: int) -> range:
        """The seeds: as many as were asked for, else one for a quick look, else the usual number."""
        return range(self.count if self.count is not None else 1 if self.quick else usual)
