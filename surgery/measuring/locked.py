"""A lock between processes, on one machine or on a file system that several share.

The operating system holds it, so it is gone with the process that had it, however that one ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

POLL = 0.02  # seconds between two looks at a lock that another process has
REFUSED = 50 if sys.platform == "win32" else 0  # how often a file is refused while another process removes it
NEVER = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}  # of a file system that knows no locks


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Whether this file is held inside, by nobody else. It is made for that, and is gone afterwards.

    Args:
        wait: until it is free; otherwise what is held elsewhere gives False.
    """
    held = _opened(path)
    while held is None and wait:
        time.sleep(POLL)
        held = _opened(path)
    if held is None:
        yield False
        return
    try:
        yield True
    finally:
        _closed(held, path)


def _opened(path: Path) -> int | None:
    """The descriptor of the file, locked; None where another has it, or is about to remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = _made(path)
    try:
        taken = _taken(file) and _is(file, path)
    except BaseException:
        os.close(file)
        raise
    if taken:
        return file
    os.close(file)
    return None


def _made(path: Path) -> int:
    for _ in range(REFUSED):
        with contextlib.suppress(PermissionError):
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        time.sleep(POLL)
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)


def _is(file: int, path: Path) -> bool:
    """Whether the path is still this file: who had the lock before may have removed it."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _taken(file: int) -> bool:
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _closed(file: int, path: Path) -> None:
        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
        os.close(file)
        with contextlib.suppress(OSError):  # others have it open, and will remove it
            os.unlink(path)

else:
    import fcntl

    def _taken(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in NEVER:
                return False
            warnings.warn(
                f"the file system cannot lock files ({error}): let one run at a time write a file of resume=, or mount "
                "it with locks",
                stacklevel=2,
            )
        return True

    def _closed(file: int, path: Path) -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)  # before it is free: afterwards it may be another's
        os.close(file)
