"""``podium demo`` as a user runs it: its exit code and its numbers are the truth, and nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from fake_server import Answer, FakeServer, Request, json_answer, text_answer
from podium.testing import local_server

DEADLINE = 30.0
MARK = "PODIUM_TEST_RUN"


@contextmanager
def demo(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a demo in a session of its own; all its processes carry the mark in their environment."""
    mark = uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "podium", "demo", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=os.environ | {MARK: mark},
    )
    with process:
        try:
            yield process, mark
        finally:
            for pid in marked(mark):
                os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """The processes that carry the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:
                continue  # it has ended
            if f"{MARK}={mark}".encode() in environment:
                found.append(int(entry.name))
    return found


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


def run(*options: str) -> tuple[int, str]:
    with demo(*options) as (process, mark):
        output, _ = process.communicate(timeout=DEADLINE)
        assert until(lambda: not marked(mark)), f"left behind: {marked(mark)}"
        return process.returncode, output


def assert_good(code: int, output: str, workflows: int) -> None:
    assert code == 0, output
    retried = workflows // 10
    assert f"workflows: {workflows} of {workflows} completed, 0 not, in " in output
    for task, calls, failures in (
        ("validate", workflows + retried, retried),
        ("charge_payment", workflows, 0),
        ("reserve_stock", workflows, 0),
        ("ship", workflows * 2, 0),
    ):
        assert re.search(rf"^{task} +(async )?def +{calls} +{failures} +{failures} ", output, re.MULTILINE), output
    assert "records agree on every call, failure and retry" in output
    assert "python examples/hello_worker.py" in output
    for noise in ("\x1b", "\r", "Traceback", "WARNING", "ERROR", "CRITICAL", "INFO"):
        assert noise not in output, output


def test_demo_on_the_embedded_server() -> None:
    code, output = run("--workflows", "20")
    assert_good(code, output, 20)
    assert "server: embedded, at http://127.0.0.1:" in output
    assert "workers: 4 in 4 processes (forkserver), started in" in output


@pytest.mark.parametrize(
    ("options", "place"),
    [
        (["--isolation", "thread"], "this process"),
        (["--group", "orders", "--processes", "2"], "2 processes (forkserver)"),
        (["--processes", "2"], "8 processes (forkserver)"),
        (["--start-method", "spawn"], "4 processes (spawn)"),
        (["--start-method", "fork"], "4 processes (fork)"),
    ],
    ids=lambda value: "_".join(value).replace("--", "") if isinstance(value, list) else "",
)
def test_every_way_to_run_workers_gives_the_same_outcome(options: list[str], place: str) -> None:
    code, output = run("--workflows", "10", *options)
    assert_good(code, output, 10)
    assert f"workers: 4 in {place}, started in" in output


def test_demo_on_a_given_server() -> None:
    with local_server() as server:
        code, output = run("--workflows", "10", "--server", server.url)
    assert_good(code, output, 10)
    assert f"server: {server.url}\n" in output


def test_verbose_shows_the_workers() -> None:
    code, output = run("--workflows", "1", "--verbose", "--isolation", "thread")
    assert code == 0
    assert output.count("Conductor Worker[name=podium_demo_") == 4


def test_a_proxy_of_the_environment_does_not_stand_in_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert run("--workflows", "1", "--isolation", "thread")[0] == 0


# --- what goes wrong -----------------------------------------------------------------------------------------------


def test_unreachable_server_is_one_line_and_exit_code_1() -> None:
    code, output = run("--server", "http://127.0.0.1:9/api")
    assert code == 1
    assert output.splitlines()[-1].startswith("podium: the server at http://127.0.0.1:9/api cannot be used: ")
    assert "Traceback" not in output


def test_wrong_path_is_explained() -> None:
    with local_server() as server:
        code, output = run("--server", server.url.removesuffix("/api"))
    assert code == 1
    assert "its URL ends in /api" in output


def workflows_that_stay(status: str) -> Callable[[Request], Answer]:
    """A server that takes everything and never has a task to do."""
    workflow = {"workflowId": "wf-1", "status": status, "tasks": [{"referenceTaskName": "ship", "status": "SCHEDULED"}]}
    if status == "FAILED":
        workflow["reasonForIncompletion"] = "the ship has sunk"

    def answer(request: Request) -> Answer:
        if "/poll/" in request.path:
            return json_answer([])
        if (request.method, request.path) == ("POST", "/api/workflow"):
            return text_answer("wf-1")
        return json_answer(workflow if "/wf-1" in request.path else {})

    return answer


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        ("RUNNING", "wf-1 is RUNNING: given up; tasks: ship SCHEDULED"),
        ("FAILED", "wf-1 is FAILED: the ship has sunk"),
    ],
)
def test_workflow_that_does_not_complete_is_named_and_the_exit_code_is_1(status: str, complaint: str) -> None:
    with FakeServer() as server:
        server.otherwise(workflows_that_stay(status))
        code, output = run("--workflows", "1", "--server", server.url, "--patience", "1", "--isolation", "thread")
    assert code == 1, output
    assert "workflows: 0 of 1 completed, 1 not" in output
    assert complaint in output
    assert "next:" not in output


# --- stopped -------------------------------------------------------------------------------------------------------


def wait_for_workers(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("workers: "):
            return
    raise AssertionError("the demo ended early")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_ends_everything_cleanly(number: signal.Signals) -> None:
    with demo("--workflows", "5000") as (process, mark):
        wait_for_workers(process)
        assert len(marked(mark)) >= 6  # the demo, its server, four workers, a fork server
        os.killpg(process.pid, number)  # as a terminal does: to all of the group
        output, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 130, output
        assert output.splitlines()[-1] == "stopped: no worker and no server of this demo is left running"
        assert "Traceback" not in output
        assert until(lambda: not marked(mark)), f"left behind: {marked(mark)}"


def test_stopped_demo_ends_its_workflows_on_a_server_of_others() -> None:
    with local_server() as server, demo("--workflows", "500", "--server", server.url) as (process, _):
        wait_for_workers(process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 130
        assert running(server.url) == 0


def running(url: str) -> int:
    from podium import Client, Configuration

    with Client(Configuration(server_api_url=url)) as client:
        return client.search_workflows("status IN (RUNNING)").total_hits


def test_killed_demo_leaves_no_process_behind() -> None:
    with demo("--workflows", "5000") as (process, mark):
        wait_for_workers(process)
        process.kill()
        assert until(lambda: not marked(mark)), f"left behind: {marked(mark)}"
