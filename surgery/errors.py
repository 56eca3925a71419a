"""The errors that users meet. Each message says where, what was seen, and what to do."""

from collections.abc import Sequence


class SurgeryError(Exception):
    """Base of every error that this library raises on purpose."""


class InputError(SurgeryError, ValueError):
    """An argument or an example input cannot be used."""


class CaptureError(SurgeryError, RuntimeError):
    """The model could not be run or recorded on the example inputs."""


class AxisError(SurgeryError, ValueError):
    """A pattern or a declaration does not fit the tensors that it describes."""


class WidthError(SurgeryError, ValueError):
    """A width or a group name is not one that the plan allows."""


class ProofError(SurgeryError, AssertionError):
    """Two models that must agree do not; nothing was returned or changed."""


class FileError(SurgeryError, ValueError):
    """A file is missing, damaged, or belongs to another model."""


def some(names: Sequence[str], most: int, between: str = ", ") -> str:
    """The first names of many, and how many more there are, as a message lists them."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return between.join(names[:most]) + more
