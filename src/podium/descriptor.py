"""A file descriptor that is owned by somebody, and whether there is something to read from one."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Descriptor:
    """An open file descriptor; like a socket, it tells -1 when it is closed, and may be closed again."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def pipe(cls) -> tuple[Self, Self]:
        """Return the end of a new pipe to read from, which never blocks, and the end to write to."""
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        return cls(reading), cls(writing)

    def fileno(self) -> int:
        """Return the number."""
        return self._fd

    def close(self) -> None:
        """Close it."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)

    def __del__(self) -> None:
        self.close()


def readable_now(fd: int) -> Callable[[], bool]:
    """Return what tells, without waiting, whether something can be read from a descriptor, or it is at its end.

    It may be called again and again: whoever asks often needs to make it only once.
    """
    if not hasattr(select, "poll"):
        return lambda: bool(select.select([fd], [], [], 0)[0])
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return lambda: bool(poller.poll(0))
