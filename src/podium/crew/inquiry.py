"""Asking a child where it is, whether or not it can answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from podium import stacks
from podium.testimony import ASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podium.testimony import Testimony

#: Seconds to wait for an answer, and between two looks for it. Nobody asks often.
_PATIENCE: Final = 1.0
_PAUSE: Final = 0.01

_STATES: Final = {
    "T": "the process is stopped (SIGSTOP)",
    "t": "the process is held by a debugger",
    "D": "the process waits inside the kernel and takes no signal",
    "Z": "the process has ended",
}


async def stack_of(pid: int, testimony: Testimony, tasks: Mapping[int, str]) -> str:
    """Return the stacks of a process as text, also while it holds the GIL or blocks its event loop.

    Threads are named by what they run: ``tasks`` has a name for each key. If the process does not answer, a text in
    parentheses says so, and why if that is known. Takes a second at most.
    """
    if not testimony.can_be_asked:
        return "(the process is not up to telling its stack yet)"
    start = testimony.begin()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, ASK)
    deadline = time.monotonic() + _PATIENCE
    seen = start
    while time.monotonic() < deadline:
        await asyncio.sleep(_PAUSE)
        size = testimony.size
        if size > start and size == seen:  # it was written in one go, and nothing came since the last look
            main, running = testimony.threads()
            names = {ident: tasks[key] for key, ident in running.items() if key in tasks}
            return stacks.told(testimony.text(start), {main: "main"} | names)
        seen = size
    return f"({_STATES.get(state_of(pid)) or f'the process did not tell its stack within {_PATIENCE:g} s'})"


def state_of(pid: int) -> str:
    """Return the state of a process as Linux names it, such as T for stopped; Z if there is none, empty elsewhere."""
    if sys.platform != "linux":
        return ""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "Z"
