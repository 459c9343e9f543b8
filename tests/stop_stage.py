"""Programs that are stopped in every way, and a scripted server that notes what reaches it and when."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from fake_server import Answer, FakeServer, Request, json_answer, text_answer
from rig import until

TESTS = Path(__file__).parent

#: A program as users write it; what differs between the tests is in its argument.
PROGRAM = """
import dataclasses, json, logging, os, subprocess, sys
settings = json.loads(sys.argv[1])
sys.path.insert(0, settings["tests"])
import samples
from podium import Configuration, TaskHandler, Worker

def main():
    logging.basicConfig(level="INFO")
    workers = [
        Worker(name, getattr(samples, settings["function"]), poll_interval=20, **settings["worker"])
        for name in settings["names"]
    ]
    configuration = Configuration(server_api_url=settings["url"])
    handler = TaskHandler(workers, configuration, scan_for_annotated_workers=False, **settings["handler"])
    with handler:
        handler.start_processes()
        own = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"]) if settings["own_child"] else None
        handler.join_processes()
    report = handler.drain_report
    print(json.dumps(dataclasses.asdict(report) | ({"own": own.wait()} if own else {})))

if __name__ == "__main__":
    main()
"""


class Report(NamedTuple):
    """A task update that arrived."""

    at: float
    body: dict[str, Any]
    #: Whether the process that ran the task was alive when the update arrived.
    alive: bool

    @property
    def gives_back(self) -> bool:
        return bool(self.body["status"] == "IN_PROGRESS" and self.body.get("callbackAfterSeconds", 0) == 0)


class Queues:
    """A Conductor with one queue per worker: hands tasks out once, again if they are given back."""

    def __init__(self, server: FakeServer) -> None:
        self.url = server.url
        self.polls: list[float] = []
        self.reports: list[Report] = []
        #: What updates are answered with; a test may change it.
        self.answer_to_updates: Answer | None = None
        #: Answers that the next polls get, whatever is in the queue.
        self.next_polls: deque[Answer] = deque()
        self._tasks: dict[str, dict[str, Any]] = {}
        self._waiting: dict[str, deque[str]] = {}
        self._numbers = iter(range(10**6))
        server.otherwise(self._answer)

    def task(self, name: str, **fields: Any) -> dict[str, Any]:
        """Make a task that no queue has yet."""
        number = next(self._numbers)
        task = {
            "taskId": f"task-{number}", "workflowInstanceId": f"flow-{number}", "taskDefName": name, "taskType": name,
            "status": "IN_PROGRESS", "retryCount": 0, "pollCount": 1, "responseTimeoutSeconds": 60,
            "outputData": {"kept": number}, "inputData": {}, **fields,
        }  # fmt: skip
        self._tasks[str(task["taskId"])] = task
        return task

    def give(self, name: str, **inputs: Any) -> str:
        """Put a task into a queue; return its id."""
        task = self.task(name, inputData=inputs)
        self._waiting.setdefault(name, deque()).append(task["taskId"])
        return str(task["taskId"])

    def given_back(self) -> list[Report]:
        return [report for report in list(self.reports) if report.gives_back]

    def statuses(self) -> list[str]:
        return [report.body["status"] for report in list(self.reports)]

    def _answer(self, request: Request) -> Answer:
        name = request.path.rpartition("/")[2]
        if "/poll/batch/" in request.path:
            self.polls.append(time.monotonic())
            if self.next_polls:
                return self.next_polls.popleft()
            queue = self._waiting.get(name, deque())
            count = min(len(queue), int(request.query["count"]))
            return json_answer([self._tasks[queue.popleft()] for _ in range(count)])
        if request.method == "POST" and request.path in {"/api/tasks", "/api/tasks/update-v2"}:
            return self._update(request)
        return json_answer(self._tasks.get(name, {}))

    def _update(self, request: Request) -> Answer:
        body = request.json
        if body.get("extendLease"):
            return text_answer("id")
        if self.answer_to_updates is not None:
            return self.answer_to_updates
        task = self._tasks[body["taskId"]]
        mark = task["inputData"].get("mark")
        pid = int(Path(mark).read_text()) if mark and Path(mark).exists() else 0
        report = Report(time.monotonic(), body, alive=bool(pid) and alive(pid))
        self.reports.append(report)
        if report.gives_back:
            task["pollCount"] += 1
            self._waiting.setdefault(task["taskDefName"], deque()).append(task["taskId"])
        return text_answer("id") if request.path == "/api/tasks" else Answer(status=204)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return not re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (FileNotFoundError, ProcessLookupError):
        return False


class Lag:
    """How late this machine is at the moment: what a limit of milliseconds has to allow for."""

    def __init__(self) -> None:
        self.worst = 0.0
        self._over = threading.Event()
        threading.Thread(target=self._measure, daemon=True).start()

    def _measure(self) -> None:
        while not self._over.is_set():
            before = time.monotonic()
            self._over.wait(0.002)
            self.worst = max(self.worst, time.monotonic() - before - 0.002)

    def end(self) -> float:
        self._over.set()
        return self.worst


class Running:
    """A program under test, with everything that it starts: they share a mark in their environment."""

    def __init__(
        self, folder: Path, command: list[str], *, out: Any = None, before: Sequence[str] = (), **options: Any
    ) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / f"{self.mark}.log"
        environment = os.environ | options.pop("env", {}) | {"PODIUM_TEST_MARK": self.mark, "PYTHONUNBUFFERED": "1"}
        with self.log.open("wb") as log:
            streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": log}
            if out is not None:
                streams = {"stdout": out, "stderr": out}
            self.process = subprocess.Popen(
                [*before, sys.executable, *command], cwd=folder, env=environment, start_new_session=True,
                **streams, **options,
            )  # fmt: skip

    def said(self) -> str:
        return self.log.read_text()

    def until_said(self, text: str) -> None:
        until(lambda: text in self.said(), f"{text!r} in the log:\n{self.said()[-2000:]}")

    def signal(self, number: int = signal.SIGTERM) -> float:
        """Send a signal; return when."""
        at = time.monotonic()
        self.process.send_signal(number)
        return at

    def end(self, timeout: float = 30) -> tuple[int, str]:
        """Wait for the end; return exit code and standard output."""
        out, _ = self.process.communicate(timeout=timeout)
        return self.process.returncode, (out or b"").decode()

    def report(self, timeout: float = 30) -> dict[str, Any]:
        """Wait for the end, which must be a good one; return the drain report that the program printed."""
        code, out = self.end(timeout)
        assert code == 0, self.said()
        report: dict[str, Any] = json.loads(out)
        return report

    def pids(self) -> list[int]:
        """The processes that run and carry the mark, the program itself among them."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes() and alive(int(folder.name)):
                    found.append(int(folder.name))
        return found

    def kill(self) -> None:
        for pid in {self.process.pid, *self.pids()}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.communicate()


class Stage:
    """A scripted server, and programs that run workers against it."""

    def __init__(self, server: FakeServer, folder: Path) -> None:
        self.lag = Lag()
        self.queues = Queues(server)
        self.folder = folder
        self.go = folder / "go"
        self._started: list[Running] = []

    def program(
        self,
        *names: str,
        function: str = "waits_for_file",
        worker: dict[str, Any] | None = None,
        before: list[str] | None = None,
        own_child: bool = False,
        **handler: Any,
    ) -> Running:
        """Start a program of its own; the options are its TaskHandler's."""
        path = self.folder / "program.py"
        path.write_text(PROGRAM)
        settings = {
            "tests": str(TESTS), "url": self.queues.url, "names": names or ("work",), "function": function,
            "worker": {"thread_count": 5} | (worker or {}), "handler": handler, "own_child": own_child,
        }  # fmt: skip
        return self.start([str(path), json.dumps(settings)], before=before or [])

    def start(self, command: list[str], **options: Any) -> Running:
        running = Running(self.folder, command, **options)
        self._started.append(running)
        return running

    def podium_run(self, module: str, text: str, *arguments: str, **options: Any) -> Running:
        """Start ``podium run`` for a module with this text."""
        (self.folder / f"{module}.py").write_text(text)
        env = {"CONDUCTOR_SERVER_URL": self.queues.url}
        return self.start(["-m", "podium", "run", module, *arguments], env=env, **options)

    def give(self, count: int, name: str = "work") -> list[Path]:
        """Put tasks into a queue that run until ``go`` is there; return their marks."""
        marks = [self.folder / f"mark-{name}-{number}" for number in range(count)]
        for mark in marks:
            self.queues.give(name, path=str(self.go), mark=str(mark))
        return marks

    def give_running(self, count: int, name: str = "work") -> list[Path]:
        """Put tasks into a queue, and wait until they run."""
        marks = self.give(count, name)
        until(lambda: all(map(has_begun, marks)), "the tasks running")
        return marks

    def allowed(self, seconds: float) -> float:
        """Return a limit for something that takes several processes their turns, on a machine that may be busy."""
        return seconds + 10 * self.lag.worst

    def close(self) -> None:
        self.lag.end()
        for running in self._started:
            running.kill()


def has_begun(mark: Path) -> bool:
    """Whether a task has made its mark, and written its process id into it."""
    return mark.exists() and bool(mark.read_text())


def every(look: Callable[[], bool], seconds: float) -> bool:
    """Look again and again for so long; whether it was true every time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not look():
            return False
        time.sleep(0.02)
    return True
