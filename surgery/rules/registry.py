"""The registry of operations: which rule explains which of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import nn

from surgery.errors import AxisError

Rule: TypeAlias = "Callable[..., object]"
Operation: TypeAlias = "Callable[..., object] | str"  # or the name of one
R = TypeVar("R", bound=Rule)

RULES: dict[object, Rule] = {}
_NAMESPACES = (
    torch, torch.Tensor, F, torch._C._nn, torch.special, torch.fft, torch.linalg, torch._C._VariableFunctions,
)  # fmt: skip


def spellings(name: str) -> list[Operation]:
    """Every way in which this release of torch spells an operation: function, method, in-place. May be none."""
    found: list[Operation] = []
    for space in _NAMESPACES:
        for spelling in (name, f"{name}_"):
            value = getattr(space, spelling, None)
            operation = getattr(value, "__get__", value) if hasattr(value, "__set__") else value
            if callable(operation):
                found.append(operation)
    return found


def rule(*operations: Operation) -> Callable[[R], R]:
    """Declare how operations relate the dimensions of their inputs and outputs.

    Args:
        operations: callables, or the names of torch operations (every spelling of the name is meant), or the
            qualified names of operations in `torch.ops` ("torchvision::nms").

    Raises AxisError for a second rule for the same operation, for what is no operation, and for a name that this
    release of torch does not have.
    """
    if not operations:
        raise AxisError("a rule is for operations: name them, as in surgery.rule(torch.relu)")

    for operation in operations:
        if isinstance(operation, nn.Module) or (isinstance(operation, type) and issubclass(operation, nn.Module)):
            raise AxisError(f"a rule is for operations, and {operation!r} is a layer: declare it with @surgery.adapter")

    def declare(function: R) -> R:
        if not callable(function):
            raise AxisError(f"a rule is a function of the operation's arguments, got {function!r}")
        for operation in operations:
            for spelling in _named(operation):
                if RULES.get(spelling, function) is not function:
                    raise AxisError(f"a rule for {spelling!r} is declared already: {RULES[spelling].__qualname__}")
                RULES[spelling] = function
        return function

    return declare


_own = {"complete": False}  # the library's own rules name operations that some releases of torch lack


def complete() -> None:
    """From now on, names that torch does not have are errors."""
    _own["complete"] = True


def _named(operation: Operation) -> list[Operation]:
    """What is meant by an operation that a rule is declared for."""
    if isinstance(operation, str) and "::" not in operation:
        found = spellings(operation)
        if not found and _own["complete"]:
            raise AxisError(f"torch has no operation {operation!r}: check the name, or pass the operation itself")
        return found
    if not isinstance(operation, str) and not callable(operation):
        raise AxisError(f"a rule is for callables and names of operations, not for {operation!r}")
    return [getattr(operation, "_opoverload", operation)]  # of torch.library.custom_op


def find(operation: object) -> Rule | None:
    """The rule of an operation; those of `torch.ops` may be declared by their qualified names, and without overload."""
    if operation in RULES:
        return RULES[operation]
    packet = getattr(operation, "overloadpacket", None)
    default = getattr(operation, "default", None) if isinstance(operation, torch._ops.OpOverloadPacket) else None
    names = (getattr(other, "_qualified_op_name", None) for other in (operation, packet))
    return next((RULES[other] for other in (packet, default, *names) if other in RULES), None)
