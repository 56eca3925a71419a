"""Word of a forward that was written anew, for tools that take the one of the class without asking the module."""

from __future__ import annotations

import sys

from torch import nn

from surgery.errors import InputError


class OnlyOfClasses(InputError, AttributeError):
    """What a tool asks of a forward and does not get. Where a tool can do without, it does."""


INSTEAD = "write the model with surgery.export_source, in whose module it is the forward of a class"


class Untraced:
    """A rewritten module's `_get_name`: `torch.fx` calls it where it takes the forward of the class for that of it."""

    def __init__(self, owner: nn.Module):
        self.owner = owner

    def __call__(self) -> str:
        caller = sys._getframe(1)
        if caller.f_globals.get("__name__") == "torch.fx._symbolic_trace" and caller.f_code.co_name == "trace":
            raise InputError(
                f"torch.fx traces the forward of the class {type(self.owner).__name__}, and this model has one with "
                f"other sizes: use torch.export, or {INSTEAD}"
            )
        name: str = type(self.owner)._get_name(self.owner)
        return name
