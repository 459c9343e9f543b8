"""podium at work on a backlog, in a process that counts what it does: ``counting_program.py WHAT``.

It is started like a driver of the benchmarks, by the same variables. WHAT is one of

    loop     what the engine asks of its event loop, and how often threads and processes wait for each other
    calls    calls of Python functions in the engine's thread
    objects  objects that the garbage collector tracks
    nothing  for who counts from outside: a look at MARK in the file system is the begin and the end

What it has counted between the first task and the last result is printed as JSON. Two of them at once would distort
each other. The functions are in another module, so that children do not import this one.
"""

from __future__ import annotations

import gc
import http.client
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import urlsplit

import uvloop

import podium.loops

MARK: Final = "/podium-counts-from-here-to-here"
ENGINE: Final = "podium-engine"


#: What a loop can be asked for, and what that counts as. The last is counted whoever asks, the others for the engine.
ASKED: Final = {
    "create_task": "asyncio tasks",
    "call_soon": "callbacks",
    "call_later": "timers",
    "call_at": "timers",
    "call_soon_threadsafe": "wake-ups by other threads",
}
asked: Counter[str] = Counter()


def _counting(name: str) -> Callable[..., Any]:
    method, what, always = getattr(uvloop.Loop, name), ASKED[name], name == "call_soon_threadsafe"

    def counted(*args: Any, **options: Any) -> Any:
        if always or threading.current_thread().name == ENGINE:
            asked[what] += 1
        return method(*args, **options)

    return counted


class LoopCounter:
    """Counts what loops are asked for, and the switches of all threads and processes that wait for something."""

    def __init__(self) -> None:
        podium.loops.loop_factory = lambda: type(
            "CountingLoop", (uvloop.Loop,), {name: _counting(name) for name in ASKED}
        )

    def look(self) -> Counter[str]:
        waits = sum(map(_voluntary_switches, _threads(os.getpid())))
        return Counter({**asked, "waits of threads": waits})


class CallCounter:
    """Counts calls of Python functions, and resumptions of coroutines, in the engine's thread."""

    def __init__(self) -> None:
        self._calls = 0
        threading.setprofile(self._install)

    def _install(self, frame: FrameType, event: str, arg: object) -> None:
        sys.setprofile(self._count if threading.current_thread().name == ENGINE else None)

    def _count(self, frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            self._calls += 1

    def look(self) -> Counter[str]:
        return Counter({"Python calls": self._calls})


class ObjectCounter:
    """Counts objects that the garbage collector tracks, in the whole process.

    With a threshold of one it looks at the young ones as often as two more were made than freed: that is a measure of
    how many are made, objects that are freed at once not included. What it frees are cycles, which nobody else would.
    """

    def __init__(self) -> None:
        gc.collect()
        gc.set_threshold(1, 1_000_000_000, 1_000_000_000)

    def look(self) -> Counter[str]:
        young, *_ = gc.get_stats()
        return Counter({"pairs of tracked objects": young["collections"], "objects in cycles": young["collected"]})


class Mark:
    """Counts nothing, but can be seen by who traces system calls."""

    def look(self) -> Counter[str]:
        with suppress(OSError):
            os.stat(MARK)  # noqa: PTH116 - one system call and nothing else
        return Counter()


COUNTERS: Final[dict[str, Callable[[], Any]]] = {
    "loop": LoopCounter, "calls": CallCounter, "objects": ObjectCounter, "nothing": Mark,
}  # fmt: skip


def _threads(pid: int) -> list[Path]:
    """The threads of a process and its descendants, as folders in /proc; none where there is no such thing."""
    threads = sorted(Path(f"/proc/{pid}/task").glob("*"))
    children = [child for thread in threads for child in _read(thread / "children").split()]
    return [*threads, *(thread for child in children for thread in _threads(int(child)))]


def _voluntary_switches(thread: Path) -> int:
    lines = _read(thread / "status").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # it has ended
        return ""


def main(what: str) -> None:
    counter = COUNTERS[what]()
    # Only now: these take their loops from where the counter has put its own.
    from benchmarks.drivers.podium_worker import declare
    from podium import Configuration, TaskHandler

    declare()
    url = os.environ["CONDUCTOR_SERVER_URL"]
    stub = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)

    def ask(path: str, method: str = "GET") -> None:
        stub.request(method, f"/bench/{path}")
        assert stub.getresponse().read() is not None

    with TaskHandler(configuration=Configuration(server_api_url=url)) as handler:
        handler.start_processes()
        ask("polled")
        before = counter.look()
        ask("start", "POST")
        ask("finished")
        counted = counter.look()
        counted.subtract(before)
    print(json.dumps(counted))


if __name__ == "__main__":
    main(*sys.argv[1:])
