"""What podium does for a task, counted: ``measure`` it, and, as a program, write the budgets anew.

Everything runs on one CPU, so that what happens at once, and what in turns, is not up to the machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.processes import ROOT, StubServer
from guard.counting_program import MARK

TASKS: Final = 1000
SLOTS: Final = 20
BUDGETS: Final = Path(__file__).with_name("budgets.toml")
#: What is counted at a time; SYSTEM_CALLS by strace, the rest by the program itself.
SYSTEM_CALLS: Final = "system calls"
COUNTERS: Final = ("loop", "calls", "objects", SYSTEM_CALLS)
KINDS: Final = {
    "def, process": {"BENCH_STYLE": "def", "BENCH_ISOLATION": "process"},
    "async def, process": {"BENCH_STYLE": "async", "BENCH_ISOLATION": "process"},
    "def, thread": {"BENCH_STYLE": "def", "BENCH_ISOLATION": "thread"},
    "async def, thread": {"BENCH_STYLE": "async", "BENCH_ISOLATION": "thread"},
}
#: What a budget has on top of the count: this part of it, and at least so much.
ROOM: Final = 0.18
LEAST_ROOM: Final = 0.05
#: What also depends on when threads and processes get the CPU, and on how the interpreter lets them; and its room.
SCHEDULED: Final = frozenset({"waits of threads", "wake-ups by other threads", SYSTEM_CALLS})
SCHEDULED_ROOM: Final = 0.5
#: What can only be compared with what was counted on the same version of Python.
BOUND_TO_PYTHON: Final = SCHEDULED | {"pairs of tracked objects", "written, children", "read, children"}
PYTHON: Final = "{}.{}".format(*sys.version_info)
#: How often all is counted for the budgets; the most counts.
ROUNDS: Final = 3
#: Promised, so that it is no matter of counting: one request per task.
PROMISED: Final = {"requests": 1.02}
_CALL: Final = re.compile(r"^\d+ +(\w+)\((?:\d+<(\w+))?")


def can_trace() -> bool:
    """Whether there is an strace, and it may be used."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode == 0


def measure(kind: str, counter: str) -> dict[str, float]:
    """Run a backlog of tasks; return what was counted, per task."""
    with one_cpu(), StubServer(["guarded"], tasks=TASKS) as stub, tempfile.NamedTemporaryFile() as trace:
        program = [sys.executable, str(Path(__file__).with_name("counting_program.py"))]
        if counter == SYSTEM_CALLS:
            command = ["strace", "-f", "-yy", "-qq", "-o", trace.name, *program, "nothing"]
        else:
            command = [*program, counter]
        env = {
            "CONDUCTOR_SERVER_URL": stub.url("/api"),
            "CONDUCTOR_SPOOL": "off",
            "BENCH_TASK_TYPES": "guarded",
            "BENCH_CONCURRENCY": str(SLOTS),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        done = subprocess.run(
            command, env=os.environ | env | KINDS[kind], capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode == 0, done.stderr
        figures = stub.figures()
        assert (figures["completed"], figures["lost"], figures["duplicates"]) == (TASKS, 0, 0)
        counted = system_calls(Path(trace.name)) if counter == SYSTEM_CALLS else Counter(json.loads(done.stdout))
    if counter == "loop":
        counted["requests"] = round(figures["requests_per_task"] * TASKS)
    return {what: number / TASKS for what, number in counted.items()}


@contextmanager
def one_cpu() -> Iterator[None]:
    """Let the processes that are started here share one CPU, where the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def system_calls(trace: Path) -> Counter[str]:
    """Count the system calls of all threads and processes between the two marks, and what goes over sockets."""
    counted: Counter[str] = Counter()
    marks = 0
    with trace.open(errors="replace") as lines:
        for line in lines:
            if MARK in line:
                marks += 1
            elif marks == 1 and (call := _CALL.match(line)) is not None and call[1] not in _INTERPRETER:
                counted[SYSTEM_CALLS] += 1
                way = "written" if call[1] in _WRITES else "read" if call[1] in _READS else None
                place = {"TCP": "server", "UNIX": "children"}.get(call[2])
                if way and place:
                    counted[f"{way}, {place}"] += 1
    assert marks == 2, f"{marks} marks in the trace"
    return counted


#: What asyncio asks whenever a running loop is wanted, up to Python 3.11.
_INTERPRETER: Final = frozenset({"getpid"})
_WRITES: Final = frozenset({"write", "writev", "sendto", "sendmsg", "sendmmsg"})
_READS: Final = frozenset({"read", "readv", "recvfrom", "recvmsg", "recvmmsg"})


class Budgets:
    """What each kind of worker may use per task, and the version of Python that this was counted on."""

    def __init__(self) -> None:
        tables = tomllib.loads(BUDGETS.read_text())
        self.python: str = tables.pop("python")
        self.kinds: dict[str, dict[str, float]] = tables

    def problem(self, kind: str, what: str, number: float) -> str | None:
        """Return what is wrong with a count: too much, or so little that its budget guards nothing; None if it fits."""
        if what in BOUND_TO_PYTHON and self.python != PYTHON:
            return None
        budget = self.kinds[kind].get(what, LEAST_ROOM)
        useless = what not in BOUND_TO_PYTHON and budget > 2 * LEAST_ROOM and number < budget / 2
        return f"{what}: {number:.3f} per task, the budget is {budget}" if number > budget or useless else None


def budget_for(what: str, number: float) -> float:
    """Return what may be used where so much was counted."""
    room = SCHEDULED_ROOM if what in SCHEDULED else ROOM
    return PROMISED.get(what) or round(max(number * (1 + room), number + LEAST_ROOM), 2)


def renew() -> None:
    """Count everything and write the budgets."""
    if not can_trace():
        raise SystemExit("the budgets include system calls: they need an strace that may be used")
    tables = [_HEAD]
    for kind in KINDS:
        counted: dict[str, float] = {}
        for what, number in (item for counter in COUNTERS * ROUNDS for item in measure(kind, counter).items()):
            counted[what] = max(number, counted.get(what, 0.0))
        lines = [f'"{what}" = {budget_for(what, number)} # {number:.3f}' for what, number in counted.items()]
        tables.append("\n".join([f'["{kind}"]', *lines]))
        print(f"{tables[-1]}\n", flush=True)
    BUDGETS.write_text("\n\n".join(tables) + "\n")


_HEAD: Final = f"""\
# What podium may use for one task of a backlog, {SLOTS} at a time, by kind of worker: test_counts.py. Beside each
# budget is what was counted when it was set. `make guard-budgets` counts anew: do so when one was exceeded for a good
# reason, and when something has become so much cheaper that its budget would not notice if that were lost again.

python = '{PYTHON}'"""


if __name__ == "__main__":
    renew()
