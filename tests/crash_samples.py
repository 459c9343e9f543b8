"""Functions that end the process that runs them, or use it up."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

#: What a process keeps that it should not keep.
hoard: list[bytearray] = []


def end_process(how: str) -> None:
    """End this process: by a name of a signal, by a fault of that name where there is one, or by an exit code."""
    if how == "SIGSEGV":
        ctypes.string_at(0)
    elif how == "SIGABRT":
        ctypes.CDLL(None).abort()
    elif how.startswith("SIG"):
        os.kill(os.getpid(), getattr(signal, how))
        time.sleep(30)
    else:
        os._exit(int(how))


def crashes(how: str, words: str = "", mark: str = "") -> None:
    """End this process; first write ``words`` to standard error, and wait for a file if ``mark`` names one."""
    if words:
        os.write(2, words.encode())
    while mark and not Path(mark).exists():
        time.sleep(0.01)
    end_process(how)


async def crashes_async(how: str) -> None:
    end_process(how)


def runs_or_crashes(poison: bool = False, seconds: float = 0.0) -> dict[str, Any]:
    """One worker for healthy tasks and for such as end the process."""
    time.sleep(seconds)
    if poison:
        os._exit(9)
    return {"pid": os.getpid()}


def takes_memory(megabytes: int, limit: int = 0) -> dict[str, Any]:
    """Take memory and keep it; ``limit`` is how much of it this process may have, in MB."""
    if limit:
        size = limit * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    hoard.append(bytearray(megabytes * 1024 * 1024))
    return {"pid": os.getpid()}


def writes_errors(text: str, times: int = 1) -> dict[str, Any]:
    for _ in range(times):
        print(text, file=sys.stderr)
    return {"pid": os.getpid()}
