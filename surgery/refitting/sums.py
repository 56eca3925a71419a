"""What the output of a site is added to at once: the stream of a residual network, whose errors a fit can make up for.

Calls are counted; in runs of the same code the same number is the same call. So what one run shows of its sums tells
others which tensor to look at when they come to a site, before the sum is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from surgery.refitting.sites import Addend, Listener, Site, Visit

SUMS = frozenset({"add", "__add__", "__radd__", "add_", "__iadd__"})


@dataclass(frozen=True)
class _Output:
    """A tensor that is the output of a site: in which call it was made, and which version of it that is."""

    site: Site
    call: int
    version: int


class Sums(Listener):
    """Finds, in one run, the call that made the other addend of each site's output.

    Only where the output goes nowhere else and is not written to, and where the addend is there before the site is.
    """

    def __init__(self, names: Mapping[int, str], visit: Callable[[Visit], None]):
        super().__init__(names, visit)
        self.alive: list[Tensor] = []  # so that no id is used again
        self.number: dict[int, int] = {}  # the last call that returned a tensor
        self.outputs: dict[int, _Output] = {}
        self.uses: Counter[Site] = Counter()
        self.found: dict[Site, Addend] = {}

    @property
    def addends(self) -> dict[Site, Addend]:
        return {site: addend for site, addend in self.found.items() if self.uses[site] == 1}

    def made(self, name: str, given: Any, visits: list[Visit], result: Any) -> None:
        """Look at a call that was made."""
        used = [x for x in pytree.tree_leaves(given) if isinstance(x, Tensor)]
        made = [x for x in pytree.tree_leaves(result) if isinstance(x, Tensor)]
        for x in used if made else []:
            output = self.outputs.get(id(x))
            if output is None:
                continue
            if len(made) == 1 and made[0]._version == output.version and _is_same(x, made[0]):
                self.outputs[id(made[0])] = output  # dropout in eval mode
                continue
            self.uses[output.site] += 1
            others = [other for other in used if other is not x and other.shape == x.shape]
            if name in SUMS and len(pytree.tree_leaves(given)) == 2 and others:
                number = self.number.get(id(others[0]), self.calls)
                if number < output.call and self._is_as_it_was(x, output, name):
                    self.found[output.site] = Addend(number, output.call)
        if len(visits) == 1 and isinstance(result, Tensor):
            self.outputs[id(result)] = _Output(visits[0].site, self.calls, result._version)
        self.alive += made
        self.number |= {id(x): self.calls for x in made}

    def _is_as_it_was(self, x: Tensor, output: _Output, name: str) -> bool:
        """Whether nothing has been written into an output; a sum in place does so itself."""
        return x._version == output.version or (name in ("add_", "__iadd__") and x._version == output.version + 1)

    def returned(self, result: Any) -> None:
        """What the model returns is used by others."""
        for x in pytree.tree_leaves(result):
            if id(x) in self.outputs:
                self.uses[self.outputs[id(x)].site] += 1


def _is_same(x: Tensor, result: Tensor) -> bool:
    return x.shape == result.shape and x.data_ptr() == result.data_ptr() and x.stride() == result.stride()
