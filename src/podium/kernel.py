"""What podium's own processes ask of the kernel for themselves, where it can do it (Linux); nothing elsewhere."""

from __future__ import annotations

import functools
import signal
import sys
from typing import Any, Final

_PDEATHSIG: Final = 1
_NAME: Final = 15
_CHILD_SUBREAPER: Final = 36


def die_with_parent_thread() -> None:
    """Let the kernel kill this process when the thread that started it is gone."""
    _prctl(_PDEATHSIG, signal.SIGKILL)


def name_process(name: str) -> None:
    """Let ps and top show this name; they have room for 15 characters."""
    _prctl(_NAME, name.encode()[:15] + b"\0")


def adopt_orphans() -> None:
    """Let this process inherit what its children leave behind, instead of the first process of the system."""
    _prctl(_CHILD_SUBREAPER, 1)


def _prctl(option: int, argument: int | bytes) -> None:
    if sys.platform == "linux":
        _libc().prctl(option, argument)


@functools.cache
def _libc() -> Any:
    import ctypes  # the program's process never needs it

    return ctypes.CDLL(None)
