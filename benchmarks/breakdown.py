"""Where the CPU time of a task goes: first by thread, which is exact, then by module, from samples.

The threads are measured without the sampling. What its samples say of a thread is how its time is divided.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks.figures import Record, Run, markdown
from benchmarks.processes import RunningDriver, StubServer, Tree
from benchmarks.scenarios import Driver, podium

NAME: Final = "breakdown"
TASKS: Final = 60_000
#: Sampling is done in so many runs, which share the tasks: one that ends early does not spoil much.
SAMPLINGS: Final = 4
CONCURRENCY: Final = 100
STYLES: Final = {"def": "podium def", "async": "podium async def"}
ENGINE, LOOP, POOL, REST = "engine", "child: event loop", "child: threads of functions", "rest"
#: The module in which a thread of podium begins, and what the thread is.
_BEGINNINGS: Final = {"podium.engine": ENGINE, "podium.crew.forkserver": LOOP, "podium.pool": POOL}
#: Functions in which an event loop turns: what they do themselves is the loop's work, in C and in the kernel.
_LOOPS: Final = {("podium.member", "_run_to_end"), ("asyncio", "run")}
_PACKAGES: Final = ("podium", "asyncio", "uvloop", "msgspec", "httptools")
#: Modules that take so many microseconds are shown, and of each so many functions.
_SHOWN: Final = 0.5
_FUNCTIONS: Final = 4
_FRAME: Final = re.compile(r'  File "(.+)", line \d+ in (.+)')

#: Module and function of each frame, the innermost first.
Stack = list[tuple[str, str]]


def runs() -> Iterator[Run]:
    """Measure each style without and with sampling."""
    for style, name in STYLES.items():
        threads = _measure(podium(name, style))
        with tempfile.TemporaryDirectory(prefix="podium-stacks-") as folder:
            driver = podium(name, style, stacks=folder)
            command = [sys.executable, "-m", "benchmarks.drivers.sampled_worker"]
            for _ in range(SAMPLINGS):
                _sample(replace(driver, command=command))
            samples = samples_in(Path(folder))
        yield {"driver": name, "scenario": NAME, "threads": threads, "samples": samples}


def _measure(driver: Driver) -> dict[str, dict[str, float]]:
    """Let a driver complete the tasks; return what each kind of thread has used, in microseconds per task."""
    with StubServer(["bench"], tasks=TASKS) as stub, RunningDriver(driver, stub, ["bench"], CONCURRENCY) as running:
        if not stub.wait_for("polled", 60):
            raise SystemExit(f"podium does not poll:\n{running.log()}")
        before = _thread_times(running.tree)
        stub.tell("start")
        if not stub.wait_for("finished", 240):
            raise SystemExit(f"podium does not complete the tasks:\n{running.log()}")
        after = _thread_times(running.tree)
        stub.tell("release")
        running.wait()
    used = {
        thread: tuple(now - then for now, then in zip(times, before.get(thread, (0.0, 0.0)), strict=True))
        for thread, times in after.items()
    }
    return _by_role(used)


def _sample(driver: Driver) -> None:
    """Let a sampled driver complete its tasks, or as many as it can.

    A stack that is written just while the interpreter changes it can end the process. That is rare.
    """
    tasks = TASKS // SAMPLINGS
    with StubServer(["bench"], tasks=tasks) as stub, RunningDriver(driver, stub, ["bench"], CONCURRENCY) as running:
        if stub.wait_for("polled", 60):
            stub.tell("start")
            while not stub.wait_for("finished", 0.5) and not running.has_ended:
                continue
        stub.tell("release")
        running.wait()


@dataclass(frozen=True)
class Thread:
    """A thread, and what its process is to the program: 0 the program itself, 1 the fork server, 2 a child."""

    depth: int
    process: int
    number: int


def _thread_times(tree: Tree) -> dict[Thread, tuple[float, float]]:
    """Return the user and system seconds of all threads."""
    found = {}
    root, *others = tree.processes()
    for process in (root, *others):
        depth = 0 if process == root else 1 if process.ppid() == root.pid else 2
        for thread in process.threads():
            found[Thread(depth, process.pid, thread.id)] = (thread.user_time, thread.system_time)
    return found


def _by_role(used: dict[Thread, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    """Return what the engine, a child's loop and its other threads have used; the engine is the program's busiest."""
    engine = max((thread for thread in used if thread.depth == 0), key=lambda thread: sum(used[thread]))
    roles = {role: {"user": 0.0, "system": 0.0} for role in (ENGINE, LOOP, POOL, REST)}
    for thread, (user, system) in used.items():
        if thread == engine:
            role = ENGINE
        elif thread.depth < 2:
            role = REST
        else:
            role = LOOP if thread.number == thread.process else POOL
        roles[role]["user"] += user / TASKS * 1e6
        roles[role]["system"] += system / TASKS * 1e6
    return roles


def samples_in(folder: Path) -> dict[str, dict[str, int]]:
    """Count the samples in files of stacks: thread -> module and function -> how often it was at work there."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for path in folder.glob("*.txt"):
        for stack in stacks_in(path.read_text()):
            if not any(module == "importlib" for module, _ in stack):  # that was the start
                module, function = stack[0]
                place = "the event loop." if (module, function) in _LOOPS else f"{module}.{function}"
                found[_role(stack)][place] += 1
    return {role: dict(counted) for role, counted in found.items()}


def stacks_in(text: str) -> Iterator[Stack]:
    """Return the stacks in what faulthandler has written."""
    for block in text.split("Stack (most recent call first):\n"):
        frames = [(module_of(found[1]), found[2]) for line in block.splitlines() if (found := _FRAME.match(line))]
        if frames:
            yield frames


def _role(stack: Stack) -> str:
    outermost = next((module for module, _ in reversed(stack) if module.startswith("podium")), "")
    return _BEGINNINGS.get(outermost, REST)


def module_of(path: str) -> str:
    """Return the name of the module in a file: podium's own in full, of others the package."""
    if "importlib" in path:
        return "importlib"
    parts = Path(path).with_suffix("").parts
    for package in _PACKAGES:
        if package in parts:
            inside = parts[len(parts) - parts[::-1].index(package) - 1 :]
            return ".".join(inside).removesuffix(".__init__") if package == "podium" else package
    return "other"


def one_line(run: Run) -> str:
    """Return a run in a line, for whoever watches."""
    times = ", ".join(f"{role}: {sum(both.values()):.1f} us" for role, both in run["threads"].items())
    return f"{run['driver']}: {times}; {sum(sum(each.values()) for each in run['samples'].values())} samples"


def page(record: Record) -> str:
    """Return the tables."""
    roles = [ENGINE, LOOP, POOL, REST]
    rows = [["CPU per task, µs: user + system", *roles, "together"]]
    for run in record.runs:
        threads = run["threads"]
        total = sum(sum(times.values()) for times in threads.values())
        cells = [f"{threads[role]['user']:.0f} + {threads[role]['system']:.0f}" for role in roles]
        rows.append([run["driver"], *cells, f"{total:.0f}"])
    tables = [
        f"**{run['driver']}, {role}**\n\n{_table(run['samples'][role], sum(run['threads'][role].values()))}"
        for run in record.runs
        for role in roles[:-1]
        if sum(run["threads"][role].values()) >= 1 and role in run["samples"]
    ]
    return "\n".join([markdown(rows), *tables])


def _table(samples: dict[str, int], microseconds: float) -> str:
    """Return the table of a thread: how its time is divided among modules, and where in each most of it goes."""
    one = microseconds / sum(samples.values())
    modules: dict[str, Counter[str]] = defaultdict(Counter)
    for place, count in samples.items():
        module, _, function = place.rpartition(".")
        modules[module][function] = count
    shown = {module: functions for module, functions in modules.items() if functions.total() * one >= _SHOWN}
    rows = [["module", "µs per task", "most of it in"]]
    for module, functions in sorted(shown.items(), key=lambda item: item[1].total(), reverse=True):
        most = [f"{name} {count * one:.1f}" for name, count in functions.most_common(_FUNCTIONS) if name]
        rows.append([module, f"{functions.total() * one:.1f}", ", ".join(most)])
    if rest := [functions.total() for module, functions in modules.items() if module not in shown]:
        rows.append([f"{len(rest)} others", f"{sum(rest) * one:.1f}", ""])
    return markdown(rows)
