"""Memory and CPU time of processes, as the system tells them at the moment of the question."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

logger = logging.getLogger(__name__)

#: Gives title and process id of each process to look at.
ProcessSource = Callable[[], Iterable[tuple[str, int]]]

#: The title of the program's own process.
OWN_TITLE: Final = "podium"
_PROC: Final = Path("/proc")


class Usage(NamedTuple):
    """Resident memory in bytes, and CPU time in seconds."""

    memory: int
    cpu: float


class ProcessWatch:
    """The processes to look at: those that the sources name, and this one."""

    def __init__(self) -> None:
        self._sources: list[ProcessSource] = []
        self._reported = False

    def add(self, source: ProcessSource) -> Callable[[], None]:
        """Look at the processes of a source until the returned function is called."""
        entry = partial(source)  # with an identity of its own, if one source is added twice
        self._sources = [*self._sources, entry]

        def remove() -> None:
            self._sources = [kept for kept in self._sources if kept is not entry]

        return remove

    def usages(self) -> dict[str, Usage]:
        """Return the usage by title, added up where several processes have one title; nothing without a source."""
        sources = self._sources
        if not sources:
            return {}
        usages: dict[str, Usage] = {}
        for title, pid in [(OWN_TITLE, os.getpid()), *self._named(sources)]:
            usage = usage_of(pid)
            if usage is not None:
                before = usages.get(title, Usage(0, 0.0))
                usages[title] = Usage(before.memory + usage.memory, before.cpu + usage.cpu)
        return usages

    def _named(self, sources: list[ProcessSource]) -> list[tuple[str, int]]:
        named: list[tuple[str, int]] = []
        for source in sources:
            try:
                named.extend(source())
            except Exception:  # the other metrics are worth showing all the same
                if not self._reported:
                    self._reported = True
                    logger.exception("metrics: the list of processes could not be read; this is logged once")
        return named


def usage_of(pid: int) -> Usage | None:
    """Return what a process uses; None if it has ended, or the system has no ``/proc``."""
    try:
        line = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name of the program comes second, in parentheses, and may hold blanks and parentheses itself.
    fields = line.rpartition(b")")[2].split()
    state, user_ticks, system_ticks, pages = fields[0], fields[11], fields[12], fields[21]
    if state in {b"Z", b"X"}:
        return None
    cpu = (int(user_ticks) + int(system_ticks)) / os.sysconf("SC_CLK_TCK")
    return Usage(int(pages) * os.sysconf("SC_PAGE_SIZE"), cpu)
