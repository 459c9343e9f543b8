"""Bad answers and bad tasks, against whole engines: what cannot be read costs nobody else anything."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest

import samples
from engine_fakes import task_json
from fake_server import Answer, FakeServer, json_answer
from podium.execution import LOGS_PER_UPDATE
from programs import descendants, peak_memory
from rig import until
from scene import NOTHING, Scene, raw_tasks, reports_to, tasks

TESTS = Path(__file__).parent.parent
TERMINAL = "FAILED_WITH_TERMINAL_ERROR"

Isolation = Literal["process", "thread"]
both_isolations = pytest.mark.parametrize("isolation", ["process", "thread"])


@pytest.fixture
def scene(server: FakeServer) -> Scene:
    return Scene(server)


def errors_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def nested(levels: int) -> Any:
    """A list in a list in a list ... of so many levels."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


# answers


@pytest.mark.parametrize("answer", [json_answer(["a"]), json_answer([None]), raw_tasks(b"nope")])
def test_C01_list_of_what_is_no_task_is_polled_seldom_and_told_once(
    scene: Scene, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    scene.polls(samples.returns_none, *[answer] * 4, tasks("a"), NOTHING)
    with scene.running(samples.returns_none):
        scene.completed("a", deadline=10)
    waits = [later - earlier for earlier, later in pairwise(scene.poll_times[:5])]
    assert all(wait >= least for wait, least in zip(waits, [0.08, 0.16, 0.32, 0.64], strict=True))
    assert 1 <= len(errors_of(caplog)) <= 2  # one for each kind of element


# tasks


def with_input(task_id: str, text: bytes) -> bytes:
    return b'{"taskId":"%s","workflowInstanceId":"w","inputData":%s}' % (task_id.encode(), text)


def deep_input(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


#: Task -> a word of the reason why it can never be run.
HOPELESS = {
    "null input": (with_input("null", b"null"), "`$.inputData`"),
    "list input": (with_input("list", b"[1]"), "`$.inputData`"),
    "text input": (with_input("text", b'"a"'), "`$.inputData`"),
    "nested 501 levels": (with_input("501", deep_input(501)), "nested more than 500 levels deep"),
    "nested 5000 levels": (with_input("5000", deep_input(5000)), "nested"),
    "nested 100000 levels": (with_input("100000", deep_input(100_000)), "nested"),
    "number of 5000 digits": (with_input("digits", b'{"n":' + b"9" * 5000 + b"}"), "Integer value out of range"),
    "number beyond all measure": (with_input("huge", b'{"n":1e999}'), "out of range"),
    "NaN": (with_input("nan", b'{"n":NaN}'), "JSON is malformed"),
    "half a character": (with_input("half", b'{"a":"\\ud800"}'), "cannot be read"),
    "wrong head": (b'{"taskId":"head","workflowInstanceId":"w","retryCount":' + b"1" * 5000 + b"}", "`$.retryCount`"),
    "wrong field": (b'{"taskId":"field","workflowInstanceId":"w","seq":"x"}', "`$.seq`"),
}


@both_isolations
def test_C02_C04_S11_hopeless_tasks_fail_for_good_and_their_neighbours_run(scene: Scene, isolation: Isolation) -> None:
    raw = [task for task, _ in HOPELESS.values()]
    scene.polls(samples.returns_none, raw_tasks(task_json("first"), *raw, task_json("last")), NOTHING)
    with scene.running(samples.returns_none, isolation) as handler:
        until(lambda: len(scene.reports()) >= len(raw) + 2, "all reports")
        assert handler.is_healthy()
    reports = {report["taskId"]: report for report in scene.reports()}
    assert len(scene.reports()) == len(reports)  # each is reported once
    assert reports["first"]["status"] == reports["last"]["status"] == "COMPLETED"
    for kind, (task, reason) in HOPELESS.items():
        report = reports[json_id(task)]
        assert (report["status"], report["workflowInstanceId"]) == (TERMINAL, "w"), kind
        assert reason in report["reasonForIncompletion"], kind


def json_id(task: bytes) -> str:
    return task.split(b'"')[3].decode()


@both_isolations
def test_S11_what_is_nested_500_levels_deep_goes_in_and_out(scene: Scene, isolation: Isolation) -> None:
    scene.polls(samples.returns_input, tasks("a", value=nested(499)), NOTHING)
    with scene.running(samples.returns_input, isolation):
        scene.completed("a")
    assert scene.reports()[0]["outputData"] == {"value": nested(499)}


def test_C03_unknown_fields_and_values_are_ignored_everywhere(scene: Scene) -> None:
    new = {"brandNew": {"a": [1]}, "status": "NEWLY_INVENTED", "workflowTask": {"type": "NEW", "onStateChange": []}}
    definition = {"timeoutPolicy": "NEW_POLICY", "retryLogic": "NEW_LOGIC", "retryCount": "three"}
    scene.polls(samples.returns_none, raw_tasks(task_json("a", **new, taskDefinition=definition)), NOTHING)
    scene.server.on("POST", "/api/tasks/update-v2", raw_tasks(task_json("b", **new)), Answer(status=204))
    with scene.running(samples.returns_none):
        scene.completed("a")


@both_isolations
def test_C05_task_that_is_given_again_while_it_runs_runs_once(
    scene: Scene, isolation: Isolation, tmp_path: Path
) -> None:
    inputs = {"path": str(tmp_path / "go"), "mark": str(tmp_path / "mark")}
    path = scene.polls(samples.waits_for_file, tasks("a", **inputs), tasks("a", **inputs), NOTHING)
    with scene.running(samples.waits_for_file, isolation):
        scene.server.wait_for(3, path)
        (tmp_path / "go").touch()
        scene.completed("a")
    assert len(scene.reports()) == 1


def test_C06_surplus_tasks_keep_their_leases_while_they_wait(scene: Scene, tmp_path: Path) -> None:
    names = [f"t{number}" for number in range(20)]
    inputs = {"path": str(tmp_path / "go")}
    given = raw_tasks(*(task_json(name, inputData=inputs, responseTimeoutSeconds=2) for name in names))
    scene.polls(samples.waits_for_file, given, NOTHING)

    def beats() -> dict[str, int]:
        bodies = [request.json for request in scene.server.to("/api/tasks")]
        ids = [body["taskId"] for body in bodies if body.get("extendLease")]
        return {name: ids.count(name) for name in names}

    with scene.running(samples.waits_for_file, thread_count=8, lease_extend_enabled=True) as handler:
        until(lambda: min(beats().values()) >= 2, "two heartbeats of every task, also of those that wait")
        assert handler.get_worker_status()[0]["running"] == 8
        (tmp_path / "go").touch()
        scene.completed(*names)
    assert len(scene.reports()) == 20


@both_isolations
def test_C11_text_is_sent_as_it_is_or_the_task_fails_with_the_place(scene: Scene, isolation: Isolation) -> None:
    text = "NUL \0, bell \a, line \u2028, beyond \U0001f600, mark \ufeff"
    raw = b'{"value":"' + b"\\ud83d\\ude00 \\u0000" + b'"}'  # a pair of halves is a character
    scene.polls(
        samples.returns_input, raw_tasks(task_json("a", inputData={"value": text}), with_input("b", raw)), NOTHING
    )
    scene.polls(samples.returns_half_a_character, tasks("c"), NOTHING)
    worker = scene.rig.worker(samples.returns_half_a_character)
    with scene.running(samples.returns_input, isolation), scene.rig.running(worker, isolation=isolation):
        until(lambda: len(scene.reports()) == 3, "three reports")
    reports = {report["taskId"]: report for report in scene.reports()}
    assert reports["a"]["outputData"] == {"value": text}
    assert reports["b"]["outputData"] == {"value": "\U0001f600 \0"}
    assert reports["c"]["status"] == "FAILED"
    assert "result.deep[0]: " in reports["c"]["reasonForIncompletion"]


@both_isolations
def test_C13_recursion_memory_and_a_million_log_lines(scene: Scene, isolation: Isolation) -> None:
    functions = (samples.recurses, samples.exhausts_memory, samples.logs_lines)
    for function in functions:
        scene.polls(function, tasks(function.__name__, count=1_000_000), NOTHING)
    scene.server.on("POST", "/api/tasks/logs_lines/log", Answer())
    workers = [scene.rig.worker(function) for function in functions]
    with scene.rig.running(*workers, isolation=isolation):
        until(lambda: len(scene.reports()) == 3, "three reports", deadline=60)
    reports = {report["taskId"]: report for report in scene.reports()}
    assert reports["recurses"]["reasonForIncompletion"].startswith("RecursionError")
    assert reports["exhausts_memory"]["reasonForIncompletion"].startswith("MemoryError")
    assert reports["logs_lines"]["status"] == "COMPLETED"
    lines = [request.body.decode() for request in scene.server.requests if request.path.endswith("/log")]
    assert lines[-1].endswith("... 990000 more lines were dropped (limit 10000)")
    assert sum(len(request.splitlines()) for request in lines) == 10_001 - LOGS_PER_UPDATE


# sizes


def deflate_bomb(compressed_mb: int, ratio: int) -> Iterator[bytes]:
    """gzip of about so many MB whose content is so many times larger; made piece by piece, as it is sent."""
    block = bytes(range(256)) * (32 * ratio)
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    piece = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)  # complete in itself: may be repeated
    yield b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    for _ in range((compressed_mb << 20) // len(piece)):
        yield piece


def test_C04_S11_bombs_and_what_is_too_large_are_failed_polls_and_fill_no_memory(
    server: FakeServer, tmp_path: Path
) -> None:
    name = "takes_text"
    bomb = b"".join(deflate_bomb(50, 100))
    plain = b"[" + b" " * (65 << 20) + b"]"
    oversized = b'HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n["' + b"x" * 100_000
    poll = f"/api/tasks/poll/batch/{name}"
    server.on("POST", "/api/tasks", Answer(body=b"id"))
    server.on("POST", "/api/tasks/update-v2", Answer(status=204))
    server.on(
        "GET", poll,
        tasks("small", text="x" * 1_000_000),
        tasks("large", text="x" * 20_000_000),
        Answer(body=bomb, headers={"Content-Encoding": "gzip"}),
        Answer(body=plain),
        Answer(raw=oversized),
        Answer(body=b"[" + b"1," * (20 << 20) + b"1]"),  # no task at all, millions of times
        tasks("last", text="x"),
        NOTHING,
    )  # fmt: skip
    with program(tmp_path, server.url, name) as process:
        until(lambda: "last" in reported(server), "the task after all of it", deadline=60)
        peak = {pid: peak_memory(pid) for pid in [process.pid, *descendants(process.pid)]}
        process.terminate()
        errors = process.communicate(timeout=20)[1]
    assert reported(server) == ["small", "large", "last"]
    assert process.returncode == 0
    assert max(peak.values()) < 300, peak
    (failure,) = [line for line in errors.splitlines() if "polling for" in line and "failed" in line]
    assert "the answer is larger than 64 MB" in failure
    assert "works again after 4 failures" in errors


PROGRAM = """
    import logging, sys
    sys.path.insert(0, {tests!r})
    import samples
    from podium import Configuration, TaskHandler, Worker

    if __name__ == "__main__":
        logging.basicConfig(level=logging.INFO)
        worker = Worker({name!r}, samples.takes_text, poll_interval=20)
        with TaskHandler([worker], Configuration({url!r}), scan_for_annotated_workers=False) as handler:
            handler.start_processes()
            handler.join_processes()
"""


def program(folder: Path, url: str, name: str) -> subprocess.Popen[str]:
    script = folder / "program.py"
    text = textwrap.dedent(PROGRAM).format(tests=str(TESTS), name=name, url=url.removesuffix("/api"))
    script.write_text(text)
    return subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE, text=True)


def reported(server: FakeServer) -> list[str]:
    return [report["taskId"] for report in reports_to(server)]
