"""Asking a child where it is, whether or not it can answer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from podium import stacks
from podium.testimony import ASK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from podium.ends import Ends
    from podium.testimony import Testimony

#: Seconds that an answer to a word may take, and how much longer for each thread that competes for the GIL; the same
#: for the answer to a signal; and between two looks for either. Nobody asks often.
_PATIENCE: Final = 0.6
_PATIENCE_PER_THREAD: Final = 0.01
_PATIENCE_AFTER_SIGNAL: Final = 0.4
_PAUSE: Final = 0.01

_STATES: Final = {
    "T": "the process is stopped (SIGSTOP)",
    "t": "the process is held by a debugger",
    "D": "the process waits inside the kernel and takes no signal",
    "Z": "the process has ended",
}


async def stack_of(pid: int, ends: Ends, tasks: Mapping[int, str]) -> str:
    """Return the stacks of a process as text, also while it holds the GIL or blocks its event loop.

    Threads are named by what they run: ``tasks`` has a name for each key. If the process does not answer, a text in
    parentheses says so, and why if that is known. Takes a second, more only if it has many threads.
    """
    testimony = ends.testimony
    if not testimony.can_be_asked:
        return "(the process is not up to telling its stack yet)"
    start = testimony.begin()
    if not (_say(ends.records) and await _is_told(testimony, start)):
        start = testimony.size
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, ASK)
        if not await _is_written(testimony, start):
            return f"({_STATES.get(state_of(pid)) or 'the process did not tell its stack within a second'})"
    main, running = testimony.threads()
    names = {ident: tasks[key] for key, ident in running.items() if key in tasks}
    return stacks.told(testimony.text(start), {main: "main"} | names)


def _say(channel: socket.socket) -> bool:
    """Ask by a word; return whether it is on its way."""
    try:
        return bool(channel.send(b"?", socket.MSG_DONTWAIT))
    except OSError:
        return False


async def _is_told(testimony: Testimony, start: int) -> bool:
    """Wait for the answer to a word."""
    patience = _PATIENCE + _PATIENCE_PER_THREAD * len(testimony.threads()[1])
    async for _ in _looks(patience):
        if testimony.is_told(start):
            return True
    return False


async def _is_written(testimony: Testimony, start: int) -> bool:
    """Wait for the answer to a signal. It has no end, but comes in one go: none may have come since the last look."""
    seen = start
    async for _ in _looks(_PATIENCE_AFTER_SIGNAL):
        size = testimony.size
        if size > start and size == seen:
            return True
        seen = size
    return False


async def _looks(seconds: float) -> AsyncIterator[None]:
    """Let the caller look for something again and again, for so long."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while loop.time() < deadline:
        await asyncio.sleep(_PAUSE)
        yield


def state_of(pid: int) -> str:
    """Return the state of a process as Linux names it, such as T for stopped; Z if there is none, empty elsewhere."""
    if sys.platform != "linux":
        return ""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "Z"
