"""Where in a model's code a recorded call stands."""

from __future__ import annotations

import functools
import os
import sys
from types import FrameType, TracebackType
from typing import Any

import einops.einops
import torch
from torch import nn

from surgery.capture import autograd as functions
from surgery.modules.code.source import Chain

Location = tuple[str, int]

_TORCH = os.path.dirname(torch.__file__)
_LIBRARY = os.path.dirname(os.path.dirname(__file__))
_OURS = tuple(os.path.join(_LIBRARY, room, "") for room in ("axes", "capture", "modules"))
_SKIPPED = (  # files whose lines say nothing about the model
    *_OURS,
    os.path.join(_LIBRARY, "planning", ""),
    os.path.dirname(einops.einops.__file__),
    *(
        os.path.join(_TORCH, part)
        for part in ("overrides.py", "functional.py", "_ops.py", "_tensor.py", "_library", "utils")
    ),
    *(os.path.join(_TORCH, "nn", part) for part in ("functional.py", "modules/module.py")),
)
_MODULE = nn.Module._call_impl.__code__.co_filename
_PASSING = (*_OURS, *(os.path.join(_TORCH, part) for part in ("overrides.py", "_ops.py")))


@functools.lru_cache(maxsize=4096)
def _kind(file: str) -> tuple[bool, bool]:
    """Whether the lines of a file say nothing about the model, and whether they only pass calls to the recorder."""
    return file.startswith(_SKIPPED), file.startswith(_PASSING)


def location(frame: FrameType) -> Location:
    """The source line of the model in or above a frame."""
    while frame.f_back is not None and _kind(frame.f_code.co_filename)[0]:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def chain_to(function: Any = None) -> tuple[Location, Chain]:
    """The line of the current call; the functions from the forward of the current module to it, and where each is."""
    where = location(sys._getframe(2))
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and _kind(frame.f_code.co_filename)[1]:
        frame = frame.f_back
    if frame is not None and frame.f_code is getattr(function, "__code__", None):
        frame = frame.f_back  # a function of torch that is written in Python, and hands itself over
    steps = []
    while frame is not None and frame.f_code.co_filename != _MODULE:
        if frame.f_code is functions.run.__code__:
            return where, ()  # the code of an autograd function is no part of a forward
        if not _kind(frame.f_code.co_filename)[1]:
            steps.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return where, tuple(reversed(steps))


def chain_of_call() -> Chain:
    """The functions from the forward of the current module to the call of another one, and where each is."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (frame.f_code.co_filename == _MODULE or _kind(frame.f_code.co_filename)[1]):
        frame = frame.f_back
    steps = []
    while frame is not None and frame.f_code.co_filename != _MODULE:
        steps.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(reversed(steps))


def line_of(trace: TracebackType | None) -> str:
    """The innermost line of the model in a traceback, short enough for a table; nothing where there is none."""
    found = ""
    while trace is not None:
        file = trace.tb_frame.f_code.co_filename
        if not file.startswith(_LIBRARY) and not _kind(file)[0] and not file.startswith(_TORCH):
            found = line((file, trace.tb_lineno))
        trace = trace.tb_next
    return found


def line(where: tuple[str, int]) -> str:
    """A source line, short enough for a table."""
    return f"{os.path.basename(where[0])}:{where[1]}" if where[0] else "the call of the model"
