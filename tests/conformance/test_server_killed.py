"""The server itself is killed in the middle of a load, with results waiting, and starts again on the same file.

Nothing may be lost that the server has not lost itself: what counts is what it knows after its restart.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from conformance.real_server import UnavailableError, start_real_server
from podium import (
    Client,
    Configuration,
    StartWorkflowRequest,
    TaskDef,
    TaskHandler,
    Worker,
    WorkflowDef,
    WorkflowTask,
    get_task_context,
)
from podium.errors import NotFoundError
from rig import unique, until
from toxic_proxy import ToxicProxy

SLOTS = 10

#: Runs a server on the files of a folder; gives its URL and process id.
Serve = Callable[[Path], AbstractContextManager[tuple[str, int]]]


@contextmanager
def real(folder: Path) -> Iterator[tuple[str, int]]:
    with start_real_server(folder) as server:
        assert server.pid is not None
        yield server.url, server.pid


@contextmanager
def embedded(folder: Path) -> Iterator[tuple[str, int]]:
    code = "from podium.server import serve; serve(db={!r}, ready=lambda url: print(url, flush=True))"
    command = [sys.executable, "-c", code.format(str(folder / "conductor.db"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip(), process.pid
        finally:
            process.kill()


class Load:
    """One worker, and workflows of one task each, with what is known of them before the server dies."""

    def __init__(self) -> None:
        self.name = unique("killed")
        self.hold = threading.Event()
        self.go = threading.Event()
        #: How often each task's function has ended.
        self.ended: Counter[str] = Counter()
        self._lock = threading.Lock()

    def function(self) -> dict[str, str]:
        task_id = get_task_context().get_task_id()
        if self.hold.is_set():
            assert self.go.wait(300)
        with self._lock:
            self.ended[task_id] += 1
        return {"done": task_id}

    def start(self, client: Client, count: int) -> list[str]:
        definition = TaskDef(name=self.name, retry_count=3, retry_delay_seconds=0, response_timeout_seconds=600)
        client.register_task_defs([definition])
        step = WorkflowTask(name=self.name, task_reference_name="t", input_parameters={})
        flow = WorkflowDef(name=f"{self.name}_flow", tasks=[step])
        return [client.start_workflow(StartWorkflowRequest(name=flow.name, workflow_def=flow)) for _ in range(count)]


def play(serve: Serve, folder: Path, workflows: int) -> None:
    """Run the load on two lives of one server."""
    load = Load()
    with ToxicProxy(0) as proxy:
        with serve(folder) as (url, pid):
            proxy.target = urlsplit(url).port or 0
            client = Client(Configuration(server_api_url=url))
            ids = load.start(client, workflows)
            worker = Worker(load.name, load.function, thread_count=SLOTS, poll_interval=50, lease_extend_enabled=True)
            configuration = Configuration(server_api_url=proxy.url, spool_dir=str(folder / "spool"))
            handler = TaskHandler(worker, configuration, scan_for_annotated_workers=False, isolation="thread")
            handler.start_processes()
            until(lambda: len(load.ended) >= workflows // 3, "a third of the load", deadline=60)
            load.hold.set()
            until(lambda: handler.get_worker_status()[0]["running"] >= SLOTS // 2, "tasks that are held", deadline=30)
            completed = {i for i in ids if client.get_workflow_status(i).status == "COMPLETED"}
            os.kill(pid, signal.SIGKILL)
            died = time.monotonic()
        proxy.down()
        before = len(load.ended)
        load.go.set()
        until(lambda: len(load.ended) >= before + SLOTS // 2, "results that wait")
        with serve(folder) as (url, _):
            proxy.target = urlsplit(url).port or 0
            proxy.up()
            away = time.monotonic() - died
            client = Client(Configuration(server_api_url=url))
            try:
                lost_by_the_server, ends = judge(client, ids)
            finally:
                handler.stop_processes()
            print(
                f"\n{workflows} workflows, {len(completed)} completed before the kill, away for {away:.0f} s: "
                f"{ends}, lost by the server itself: {lost_by_the_server}"
            )
            # What it had acknowledged as completed and has kept is still so.
            assert ends == {"COMPLETED": workflows - lost_by_the_server}
            assert lost_by_the_server <= workflows // 10


def judge(client: Client, ids: list[str]) -> tuple[int, Counter[str]]:
    """Return how many workflows the server has forgotten, and how the others have ended."""
    known = []
    for workflow_id in ids:
        try:
            client.get_workflow_status(workflow_id)
            known.append(workflow_id)
        except NotFoundError:
            continue
    ends: Counter[str] = Counter()
    for workflow_id in known:
        workflow = client.wait_for_workflow(workflow_id, timeout=60)
        assert sum(task.status == "COMPLETED" for task in workflow.tasks) == 1
        ends[workflow.status] += 1
    return len(ids) - len(known), ends


def test_embedded_server_that_is_killed_under_load_gets_every_result(tmp_path: Path) -> None:
    play(embedded, tmp_path, 300)


# Two starts of the real server are too long for make test.
@pytest.mark.soak
@pytest.mark.real
@pytest.mark.timeout(900)
def test_real_server_that_is_killed_under_load_gets_every_result(tmp_path: Path) -> None:
    try:
        play(real, tmp_path, 60)
    except UnavailableError as missing:
        if os.environ.get("PODIUM_REQUIRE_REAL_SERVER") == "1":
            raise
        pytest.skip(f"no real Conductor server: {missing}")
