"""The death of a child: how it ended, and everything that can be found out about why."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path
from typing import Final

from podium import stacks
from podium.answers import printable
from podium.bundle import Bundle
from podium.execution import MAX_REASON

#: How long after the count of kills has risen a child may be one of those killed, in seconds.
_JUST_NOW: Final = 2.0
#: The signals at which ``faulthandler`` writes where the code was.
FAULTS: Final = frozenset({signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL})
#: How ``faulthandler`` begins then.
_FATAL: Final = "Fatal Python error"
#: Characters of the last line on standard error that the reason has; of a line of a child's words in a log record; and
#: of the ids of the tasks that a dead child held.
_LAST_LINE: Final = 200
_LINE_LIMIT: Final = 1_000
_HELD_LIMIT: Final = 4_000


class Death(Bundle, frozen=True, kw_only=True):
    """What is known of a child's end. Its words are fit for logs."""

    #: Negative for a signal; None if nobody can tell.
    exit_code: int | None
    #: Why podium has killed the child; empty if it has not.
    killed_for: str = ""
    #: The most memory in bytes that it had resident; 0 if unknown.
    peak_memory: int = 0
    #: Whether the system has killed it for want of memory; None if that cannot be told.
    was_oom: bool | None = None
    #: Where its threads were, the one that failed among them; empty if there was no fault.
    stack: str = ""
    #: The thread that failed; 0 if unknown.
    thread_id: int = 0
    #: The end of what it wrote to standard error.
    errors: str = ""

    @property
    def end(self) -> str:
        """How it ended, in a few words. A kill of podium's own must not look like the system's."""
        if self.killed_for:
            return f"{describe_exit(self.exit_code)} by podium: {self.killed_for}"
        if self._is_kill and self.was_oom:
            return "killed by the kernel for want of memory (SIGKILL)"
        return describe_exit(self.exit_code)

    @property
    def reason(self) -> str:
        """The same with its circumstances, in one line as long as a server keeps it: what matters most stands first."""
        words = f"worker process {self.end}"
        if place := stacks.place_in(self.stack, self.thread_id):
            words += f" in {place}"
        circumstances = []
        if self.peak_memory and self.exit_code is not None and self.exit_code < 0:
            circumstances.append(f"peak memory {_in_words(self.peak_memory)}")
        if self._is_kill and not self.killed_for and self.was_oom is None:
            circumstances.append("perhaps out of memory")
        if circumstances:
            words += f" ({'; '.join(circumstances)})"
        if self.errors:
            words += f"; its standard error ends with: {self.errors.splitlines()[-1].strip()[:_LAST_LINE]}"
        return printable(words, MAX_REASON)[:MAX_REASON]

    @property
    def details(self) -> list[str]:
        """What more there is to read: texts of several lines, each with its title."""
        details = []
        if self.peak_memory:
            details.append(f"peak memory of the worker process: {_in_words(self.peak_memory)}")
        if self.stack:
            details.append(f"where the worker process was:\n{self.stack}")
        if self.errors:
            details.append(f"the end of what the worker process wrote to standard error:\n{self.errors}")
        return details

    def circumstances(self, pid: int, task_ids: list[str]) -> str:
        """What a log record says after the end: the process, the tasks that it held, and the details."""
        held = f"it held {len(task_ids)} tasks: {', '.join(task_ids)}" if task_ids else "it was idle"
        return "\n    ".join([f"; pid {pid}, {printable(held, _HELD_LIMIT)}", *map(indented, self.details)])

    @property
    def _is_kill(self) -> bool:
        return self.exit_code == -signal.SIGKILL


def describe_exit(code: int | None) -> str:
    """Return an exit code in words: ``killed by SIGKILL``, ``exited with code 1``."""
    if code is None:
        return "ended in an unknown way"
    if code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exited with code {code}"


def indented(words: str) -> str:
    """Return a child's words fit for a log record: they may have lines, but none that looks like a record itself."""
    return "\n    ".join(printable(line, _LINE_LIMIT) for line in words.splitlines())


def fault_in(text: str, exit_code: int | None) -> tuple[str, int]:
    """Return the stacks that ``faulthandler`` has written at a child's death, and the thread that failed.

    Both are empty if it was no fault that ended it.
    """
    if exit_code is None or -exit_code not in FAULTS:
        return "", 0
    _, found, fault = text.rpartition(_FATAL)
    if not found:
        return "", 0
    thread_id = next((thread.ident for thread in stacks.parse(fault) if thread.is_current), 0)
    return stacks.told(fault, {thread_id: "failed here"} if thread_id else {}), thread_id


def _in_words(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


class OomKills:
    """How many processes of this one's control group the kernel has killed for want of memory.

    ``proc`` and ``groups`` are where Linux shows processes and control groups.
    """

    def __init__(self, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self._candidates = _candidates(proc / "self" / "cgroup", groups)
        self._seen: int | None = None
        self._rose_at = float("-inf")

    def look(self) -> None:
        """Take note of the number."""
        count = self._count()
        if count is not None and self._seen is not None and count > self._seen:
            self._rose_at = time.monotonic()
        self._seen = count

    def happened(self) -> bool | None:
        """Whether the number has risen just now; None if it is not to be had.

        Several children may have been killed together.
        """
        known = self._seen is not None
        self.look()
        if not known or self._seen is None:
            return None
        return time.monotonic() - self._rose_at < _JUST_NOW

    def _count(self) -> int | None:
        for path in self._candidates:
            try:
                found = re.search(r"^oom_kill (\d+)$", path.read_text(), re.MULTILINE)
            except OSError:
                continue
            if found:
                return int(found[1])
        return None


def _candidates(groups_of_process: Path, groups: Path) -> list[Path]:
    """Return where the counter may be, in either version of control groups; a container may see its own as the top."""
    try:
        lines = groups_of_process.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        inside = path.strip("/")
        if number == "0" and not controllers:
            found += [groups / inside / "memory.events", groups / "memory.events"]
        elif "memory" in controllers.split(","):
            found += [groups / "memory" / inside / "memory.oom_control", groups / "memory" / "memory.oom_control"]
    return found


#: All crews of a process look at the same number.
OOM_KILLS: Final = OomKills()
