"""A long load under kills and outages, and the verdict from the server's own records.

The server is the embedded one, in a process of its own; the program under test is started anew whenever it ends, as a
supervisor would. Between the two stands the proxy, which makes the outages. Everything is drawn from one seed.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import load_program
from checker import no_process_left, processes_with
from event_log import EventLog, Kind
from podium import Client, Configuration, StartWorkflowRequest, TaskDef, WorkflowDef, WorkflowTask
from rig import unique, until
from toxic_proxy import ToxicProxy

SERVER = "from podium.server import serve; serve(db={db!r}, ready=lambda url: print(url, flush=True))"
#: How the function of a task is told to end, how often, and how the workflow must end then.
ORDERS = {
    "complete": (90, "COMPLETED"),
    "fail once": (4, "COMPLETED"),
    "postpone": (3, "COMPLETED"),
    "fail": (3, "FAILED"),
}
#: Threads that start workflows, and that read the records in the end.
CLIENTS = 8


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much, how long, and what goes wrong: seconds on average from one fault to the next of its kind."""

    tasks: int
    seconds: float
    child_kills_every: float
    parent_kills_every: float
    outages_every: float
    outage_seconds: float
    response_timeout: int
    seed: int
    slots: int = 20


@dataclass
class Figures:
    """What happened."""

    child_kills: int = 0
    parent_kills: int = 0
    outages: int = 0
    outage_seconds: float = 0.0
    seconds: float = 0.0
    workflows: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    #: Workflows that ended otherwise than their function was told to, or not at all.
    lost: list[str] = field(default_factory=list)
    #: Workflows with more than one completed attempt in the server's records.
    completed_twice: int = 0
    #: Functions that ran to their end though another run counted: killed before their report, or timed out.
    ran_again: int = 0
    log_lines: int = 0

    def table(self, plan: Plan) -> str:
        rows = {
            "seed": plan.seed,
            "tasks": plan.tasks,
            "kills of children": self.child_kills,
            "kills of the parent": self.parent_kills,
            "outages": f"{self.outages}, {self.outage_seconds:.0f} s together",
            "workflows": dict(self.workflows),
            "attempts": dict(self.attempts),
            "lost": len(self.lost),
            "completed twice": self.completed_twice,
            "ran to the end more than once": self.ran_again,
            "lines in the program's log": self.log_lines,
            "seconds": f"{self.seconds:.0f}",
        }
        width = max(map(len, rows))
        return "\n".join(f"  {name:{width}}  {value}" for name, value in rows.items())


@contextmanager
def server_process(db: Path) -> Iterator[str]:
    """Run the embedded server in a process of its own; yield its URL."""
    command = [sys.executable, "-c", SERVER.format(db=str(db))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


class Supervised:
    """The program under test, started anew whenever it ends."""

    def __init__(self, options: dict[str, Any], log: Path) -> None:
        self.mark = unique("soak")
        self._options = options
        self._log = log
        self._process: subprocess.Popen[str] | None = None
        #: Where in the log its last start begins.
        self._begun = 0
        self._lock = threading.Lock()
        #: Exits that nobody has asked for.
        self.unexpected: list[int] = []

    def start(self) -> None:
        with self._lock, self._log.open("a") as output:
            self._begun = output.tell()
            self._process = load_program.start(self._options, mark=self.mark, stdout=output, stderr=output)

    @property
    def _ready(self) -> bool:
        with self._log.open() as log:
            log.seek(self._begun)
            return any(line == "ready\n" for line in log)

    def look(self) -> None:
        """Start the program anew if it has ended by itself."""
        assert self._process is not None
        if self._process.poll() is not None:
            end = "".join(self._log.read_text().splitlines(keepends=True)[-30:])
            print(f"the program ended by itself, with {self._process.returncode}; the end of its log:\n{end}")
            self.unexpected.append(self._process.returncode)
            self.start()

    def kill(self) -> None:
        """Kill the program, see its children go, and start it anew."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        no_process_left(self.mark, deadline=5)
        self.start()

    def kill_a_child(self, chance: random.Random) -> bool:
        """Kill one of the children that run tasks; False if there is none just now.

        A program that is starting is let alone: it says what ended its child, and gives up, as it should.
        """
        if not self._ready:
            return False
        children = [pid for pid in processes_with(self.mark) if _is_member(pid)]
        if not children:
            return False
        os.kill(chance.choice(sorted(children)), signal.SIGKILL)
        return True

    def stop(self) -> int:
        """End the program in order; return its exit code."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(60)
        no_process_left(self.mark, deadline=5)
        return code

    def abandon(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def _is_member(pid: int) -> bool:
    """Whether a process is a child that runs tasks: it has a parent that is ours too, and no children of its own."""
    try:
        has_children = Path(f"/proc/{pid}/task/{pid}/children").read_text().strip()
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        return not has_children and "load_program" not in _command(pid).partition("{")[0] and parent != os.getpid()
    except OSError:
        return False


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")


class Soak:
    """One run."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self.folder = folder
        self.figures = Figures()
        self.notes = folder / "notes"
        self._name = unique("soak_task")
        self._random = random.Random(plan.seed)
        weights = [weight for weight, _ in ORDERS.values()]
        self._orders = self._random.choices(list(ORDERS), weights, k=plan.tasks)
        #: Ids of the workflows, each with its order.
        self.workflows: dict[str, str] = {}
        self._over = threading.Event()
        self._failures: list[BaseException] = []

    def run(self) -> Figures:
        begun = time.monotonic()
        with (
            server_process(self.folder / "conductor.db") as url,
            ToxicProxy(urlsplit(url).port or 0) as proxy,
        ):
            self._client = Client(Configuration(server_api_url=url))
            self._client.register_task_defs([TaskDef(
                name=self._name, retry_count=50, retry_delay_seconds=0,
                response_timeout_seconds=self.plan.response_timeout, timeout_seconds=3600,
            )])  # fmt: skip
            program = Supervised(self._options(proxy.url), self.folder / "program.log")
            program.start()
            try:
                self._make_trouble(proxy, program)
                self._wait_for_the_end(program)
                assert program.stop() == 0
            finally:
                program.abandon()
            assert program.unexpected == [], f"the program ended by itself: {program.unexpected}"
            self._judge()
        self.figures.seconds = time.monotonic() - begun
        return self.figures

    def _options(self, url: str) -> dict[str, Any]:
        return {
            "url": url,
            "name": self._name,
            "function": "ordered",
            "worker": {"thread_count": self.plan.slots // 2},
            "handler": {"processes": 2, "grace_seconds": 10},
            "configuration": {"spool_dir": str(self.folder / "spool")},
        }

    def _make_trouble(self, proxy: ToxicProxy, program: Supervised) -> None:
        """Feed the queue and break things, until all tasks have been started and the time is over."""
        plan = self.plan
        threads = [
            threading.Thread(target=self._guarded, args=(work,))
            for work in (
                self._feed,
                lambda: self._every(plan.child_kills_every, lambda: self._kill_child(program)),
                lambda: self._every(plan.outages_every, lambda: self._outage(proxy)),
            )
        ]
        for thread in threads:
            thread.start()
        end = time.monotonic() + plan.seconds
        next_kill = time.monotonic() + plan.parent_kills_every
        while time.monotonic() < end and not self._failures:
            time.sleep(0.2)
            program.look()
            if time.monotonic() >= next_kill:
                program.kill()
                self.figures.parent_kills += 1
                next_kill = time.monotonic() + plan.parent_kills_every * self._random.uniform(0.7, 1.3)
        self._over.set()
        for thread in threads:
            thread.join(plan.outage_seconds * 2 + 120)
            assert not thread.is_alive()
        if self._failures:
            raise self._failures[0]

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            self._failures.append(error)

    def _every(self, seconds: float, act: Callable[[], None]) -> None:
        chance = random.Random(f"{self.plan.seed} {seconds}")  # of its own: threads take turns as they like
        while not self._over.wait(seconds * chance.uniform(0.7, 1.3)):
            act()

    def _kill_child(self, program: Supervised) -> None:
        self.figures.child_kills += program.kill_a_child(self._random)

    def _outage(self, proxy: ToxicProxy) -> None:
        begun = time.monotonic()
        proxy.down(reset=self.figures.outages % 2 == 1)
        self._over.wait(self.plan.outage_seconds)
        proxy.up()
        self.figures.outages += 1
        self.figures.outage_seconds += time.monotonic() - begun

    def _feed(self) -> None:
        """Start all workflows, spread over nine tenths of the time."""
        begun, pace = time.monotonic(), 0.9 * self.plan.seconds / self.plan.tasks

        def start(number: int) -> None:
            while (ahead := begun + number * pace - time.monotonic()) > 0:
                time.sleep(min(ahead, 1.0))
            order = self._orders[number]
            inputs = {"notes": str(self.notes), "order": order, "seconds": (number % 10) / 100}
            step = WorkflowTask(name=self._name, task_reference_name="t", input_parameters=inputs)
            flow = WorkflowDef(name=f"{self._name}_flow", tasks=[step])
            self.workflows[self._client.start_workflow(StartWorkflowRequest(name=flow.name, workflow_def=flow))] = order

        with ThreadPoolExecutor(CLIENTS) as pool:
            for done in [pool.submit(start, number) for number in range(self.plan.tasks)]:
                done.result()

    def _wait_for_the_end(self, program: Supervised) -> None:
        assert len(self.workflows) == self.plan.tasks
        running = f"workflowType={self._name}_flow AND status=RUNNING"

        def over() -> bool:
            program.look()
            return self._client.search_workflows(running, size=1).total_hits == 0

        until(over, "the end of every workflow", deadline=60 + 6 * self.plan.response_timeout)

    def _judge(self) -> None:
        """Read every workflow from the server; compare with what was ordered and with what functions noted."""
        figures, log = self.figures, EventLog()
        log.read_notes(self.notes)
        figures.log_lines = (self.folder / "program.log").read_text().count("\n")
        ended = Counter(event.task for event in log.of(Kind.ENDED))
        with ThreadPoolExecutor(CLIENTS) as pool:
            for workflow, order in zip(
                pool.map(self._client.get_workflow, list(self.workflows)), self.workflows.values(), strict=True
            ):
                figures.workflows[workflow.status] += 1
                figures.attempts.update(task.status for task in workflow.tasks)
                done = sum(task.status == "COMPLETED" for task in workflow.tasks)
                figures.completed_twice += done > 1
                last = workflow.tasks[-1].status
                if workflow.status != ORDERS[order][1] or (order != "fail" and done != 1):
                    figures.lost.append(f"{workflow.workflow_id}: ordered to {order}, {workflow.status}, {last}")
                runs = sum(ended[task.task_id] for task in workflow.tasks)
                wanted = 1 + (order in {"postpone", "fail once"})
                figures.ran_again += max(0, runs - wanted)
