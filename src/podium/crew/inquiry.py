"""Asking a child where it is, whether or not it can answer."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
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
#: The states in which a process cannot answer, and will not soon.
_MUTE: Final = frozenset("TtZ")
#: Each question has a word of its own, so that a late answer to another one is none to it.
_words: Final = itertools.count(1)


async def stack_of(pid: int, ends: Ends, tasks: Mapping[int, str]) -> str:
    """Return the stacks of a process as text, also while it holds the GIL or blocks its event loop.

    Threads are named by what they run: ``tasks`` has a name for each key. If the process does not answer, a text in
    parentheses says so, and why if that is known. Takes a second, more only if it has many threads.
    """
    testimony = ends.testimony
    if (state := state_of(pid)) in _MUTE:
        return f"({_STATES[state]})"
    if not testimony.can_be_asked:
        return "(the process is not up to telling its stack yet)"
    text = await _answer_to_word(ends) or await _answer_to_signal(pid, testimony)
    if not text:
        return f"({_STATES.get(state_of(pid)) or 'the process did not tell its stack within a second'})"
    main, running = testimony.threads()
    names = {ident: tasks[key] for key, ident in running.items() if key in tasks}
    return stacks.told(text, {main: "main"} | names)


async def _answer_to_word(ends: Ends) -> str | None:
    """Ask the thread that answers to words, which needs the GIL."""
    start, word = ends.testimony.begin(), str(next(_words))
    try:
        ends.records.send(word.encode(), socket.MSG_DONTWAIT)
    except OSError:
        return None
    async for _ in _looks(_PATIENCE + _PATIENCE_PER_THREAD * len(ends.testimony.threads()[1])):
        if (answer := ends.testimony.answer(word, start)) is not None:
            return answer
    return None


async def _answer_to_signal(pid: int, testimony: Testimony) -> str | None:
    """Ask whatever thread the signal meets. The answer has no end, but is written in one go, so one look tells it."""
    start = seen = testimony.size
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, ASK)
    async for _ in _looks(_PATIENCE_AFTER_SIGNAL):
        size = testimony.size
        if size > start and size == seen:  # nothing has come since the last look
            return testimony.text(start)
        seen = size
    return None


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
