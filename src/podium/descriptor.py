"""A file descriptor that is owned by somebody."""

from __future__ import annotations

import os
from typing import Self


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
