"""What the output of a site is added to at once: the stream of a residual network, whose errors a fit can make up for.

Calls are counted; in runs of the same code the same number is the same call. So what one run shows of its sums tells
others which tensor to look at when they come to a site, before the sum is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from surgery.refitting.sites import DESCRIPTIONS, Listener, Site, Visit

SUMS = frozenset({"add", "__add__", "__radd__", "add_", "__iadd__"})


class Sums(Listener):
    """Finds, in one run, the number of the call that made the other addend of each site's output.

    Only where the output goes nowhere else, and where the addend is there before the site is.
    """

    def __init__(self, names: Mapping[int, str], visit: Callable[[Visit], None]):
        super().__init__(names, visit)
        self.alive: list[Tensor] = []  # so that no id is used again
        self.number: dict[int, int] = {}  # the last call that returned a tensor
        self.site: dict[int, tuple[Site, int]] = {}  # of the tensors that are outputs of a site: which, in which call
        self.uses: dict[Site, int] = {}
        self.found: dict[Site, int] = {}

    @property
    def addends(self) -> dict[Site, int]:
        return {site: number for site, number in self.found.items() if self.uses[site] == 1}

    def made(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], visits: list[Visit], result: Any) -> None:
        """Look at a call that was made."""
        if not isinstance(result, Tensor) or name in DESCRIPTIONS:
            return
        used = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
        of_site = [x for x in used if id(x) in self.site]
        for x in of_site:
            site, at = self.site[id(x)]
            if _is_same(x, result) and name not in SUMS:  # dropout in eval mode
                self.site[id(result)] = site, at
                continue
            self.uses[site] = self.uses.get(site, 0) + 1
            others = [other for other in used if other is not x and other.shape == x.shape]
            if name in SUMS and len(used) == 2 and len(others) == 1 and not kwargs:
                number = self.number.get(id(others[0]), self.calls)
                if number < at:
                    self.found[site] = number
        if len(visits) == 1:
            self.site[id(result)] = visits[0].site, self.calls
        self.alive.append(result)
        self.number[id(result)] = self.calls


def _is_same(x: Tensor, result: Tensor) -> bool:
    return x.shape == result.shape and x.data_ptr() == result.data_ptr() and x.stride() == result.stride()
