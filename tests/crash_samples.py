"""Functions that end the process that runs them, or use it up."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
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


def crashes(how: str, words: str = "", mark: str = "", depth: int = 0) -> None:
    """End this process, ``depth`` calls further down; before, write ``words`` and wait for a file ``mark``."""
    if depth:
        crashes(how, words, mark, depth - 1)
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
    """Write lines to standard error itself, whatever ``sys.stderr`` is."""
    with os.fdopen(2, "w", closefd=False) as stream:
        for _ in range(times):
            print(text, file=stream)
    return {"pid": os.getpid()}


def leaves_a_writer(mark: str) -> None:
    """Start a program of a session of its own that writes to standard error when the file is there, and end."""
    line = f'touch {mark}.up; while [ ! -e {mark} ]; do sleep 0.02; done; echo "from beyond" >&2; touch {mark}.done'
    subprocess.Popen(["/bin/sh", "-c", line], start_new_session=True)
    while not Path(f"{mark}.up").exists():
        time.sleep(0.01)
    os._exit(1)
