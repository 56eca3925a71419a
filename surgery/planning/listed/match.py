"""What two runs have in common, and what is said where they differ."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import fx


class Differs(Exception):
    """A shorter run does something else than the whole one without the modules that are left out."""


@dataclass
class Match:
    """What two runs have in common.

    Attributes:
        partner: of each call of the shorter run, the one of the whole run.
        instead: for results that the shorter run has not: the one that is read in their place.
        gone: the calls that the shorter run does not make, and the module for which each was made.
    """

    partner: dict[fx.Node, fx.Node] = field(default_factory=dict)
    instead: dict[fx.Node, fx.Node] = field(default_factory=dict)
    gone: dict[fx.Node, str] = field(default_factory=dict)
