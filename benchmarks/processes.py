"""The processes of a run, the stub and a driver, and what they cost."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import psutil

if TYPE_CHECKING:
    from benchmarks.scenarios import Driver

ROOT: Final = Path(__file__).resolve().parent.parent
#: How long a driver may take to end.
STOP_SECONDS: Final = 20.0


class StubServer:
    """A stub of its own for one run; to be used as a context manager."""

    def __init__(self, types: list[str], *, tasks: int = 0, rate: float = 0.0, payload: int = 0) -> None:
        options = {"types": ",".join(types), "tasks": tasks, "rate": rate, "payload": payload}
        command = [sys.executable, "-m", "benchmarks.stub", *(f"--{name}={value}" for name, value in options.items())]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().strip()
        self.tree = Tree(self._process.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://{self.address}{path}"

    def ask(self, path: str, method: str = "GET") -> tuple[int, bytes]:
        """Send a request to the stub's own API; return status and body of the answer."""
        connection = http.client.HTTPConnection(self.address, timeout=900)
        with contextlib.closing(connection):
            connection.request(method, f"/bench/{path}")
            answer = connection.getresponse()
            return answer.status, answer.read()

    def tell(self, what: str) -> None:
        """Tell it ``start`` or ``release``."""
        self.ask(what, "POST")

    def wait_for(self, event: str, seconds: float) -> bool:
        """Wait for ``polled`` or ``finished``; return whether it happened in time."""
        return self.ask(f"{event}?timeout={seconds * 1000:.0f}")[0] == 200

    def progress(self) -> int:
        """Return how many tasks have ended."""
        return int(self.ask("progress")[1])

    def figures(self) -> dict[str, Any]:
        """Return what it has counted."""
        figures: dict[str, Any] = json.loads(self.ask("figures")[1])
        return figures


class RunningDriver:
    """A driver at work against a stub; to be used as a context manager, which kills what is left of it."""

    def __init__(self, driver: Driver, stub: StubServer, types: list[str], concurrency: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="podium-bench-")
        env = {
            "CONDUCTOR_SPOOL_DIR": f"{self._folder.name}/spool",  # nothing of another run, nothing for the next
            "CONDUCTOR_SERVER_URL": stub.url("/api"),
            "BENCH_TASK_TYPES": ",".join(types),
            "BENCH_CONCURRENCY": str(concurrency),
            "BENCH_DONE_URL": stub.url("/bench/done"),
        }
        # Without .pyc files every start of a Python program would be slow.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        self._log = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 - closed with the driver
        self.started_at = time.monotonic()
        self._process = subprocess.Popen(
            driver.command,
            cwd=ROOT,
            env=inherited | driver.env | env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        self.pid = self._process.pid
        self.tree = Tree(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.tree.alive():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    @property
    def has_ended(self) -> bool:
        """Whether the driver's first process is gone."""
        return self._process.poll() is not None

    def wait(self) -> dict[str, Any]:
        """Wait for it to end by itself; return how that went."""
        self.tree.processes()
        begun = time.monotonic()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        figures: dict[str, Any] = {"stop_s": time.monotonic() - begun, "exit_code": self._process.returncode}
        if self._process.returncode != 0:
            figures["log"] = self.log()[-2000:]
        return figures

    def log(self) -> str:
        """Return what the driver has written."""
        self._log.seek(0)
        return self._log.read()


class Tree:
    """A process and its descendants."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._seen: dict[int, psutil.Process] = {}

    def processes(self) -> list[psutil.Process]:
        """Return those that are there now."""
        try:
            found = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            found = []
        self._seen.update((process.pid, process) for process in found)
        return found

    def cpu_s(self) -> float:
        """Return the CPU seconds of all, those included that have ended and were waited for."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def memory_mb(self) -> dict[str, float]:
        """Return the memory of all in MB: ``rss`` and, on Linux, ``pss``, which counts shared pages once."""
        total = {"rss_mb": 0.0}
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                info = process.memory_full_info()
                total["rss_mb"] += info.rss / 2**20
                if (pss := getattr(info, "pss", None)) is not None:
                    total["pss_mb"] = total.get("pss_mb", 0.0) + pss / 2**20
        return total

    def alive(self) -> list[psutil.Process]:
        """Return those ever seen that still run."""
        self.processes()
        return [process for process in self._seen.values() if process.is_running()]


class PeakMemory:
    """The most memory that a tree has had while this context was open."""

    def __init__(self, tree: Tree, interval: float = 0.5) -> None:
        self._tree = tree
        self._interval = interval
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.figures: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._look()

    def _watch(self) -> None:
        while not self._over.wait(self._interval):
            self._look()

    def _look(self) -> None:
        for name, value in self._tree.memory_mb().items():
            self.figures[f"peak_{name}"] = max(value, self.figures.get(f"peak_{name}", 0.0))


class OtherLoad:
    """What the machine did besides a run, in cores: it says how far a figure can be trusted."""

    def __init__(self) -> None:
        self._begun, self._times = time.monotonic(), psutil.cpu_times()

    def since(self, own_cpu_s: float) -> float:
        """Return the load of everything else since this was made."""
        elapsed, now = time.monotonic() - self._begun, psutil.cpu_times()
        idle = now.idle - self._times.idle + getattr(now, "iowait", 0.0) - getattr(self._times, "iowait", 0.0)
        busy = elapsed * (psutil.cpu_count() or 1) - idle
        return max(busy - own_cpu_s, 0.0) / elapsed
