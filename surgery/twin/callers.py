"""Who has called: what Python's own frames tell where nothing else does."""

from __future__ import annotations

import sys
from types import CodeType

from torch.autograd.function import FunctionCtx
from torch.optim.swa_utils import AveragedModel

COPIED_TO_AVERAGE: CodeType = AveragedModel.__init__.__code__
AVERAGED: CodeType = AveragedModel.forward.__code__


def within(code: CodeType) -> bool:
    """Whether a call of this code is under way in this thread."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is code:
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def within_function() -> bool:
    """Whether the forward of an autograd function is under way in this thread: what it is given first tells."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        named = code.co_name == "forward" and code.co_argcount > 0
        if named and isinstance(frame.f_locals.get(code.co_varnames[0]), FunctionCtx):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False
