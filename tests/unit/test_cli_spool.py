"""``podium spool``: what it shows of a spool, and what it does to it, also while a worker runs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from fake_server import FakeServer, error_answer, json_answer, text_answer
from podium.cli.app import app
from podium.spool import BAD, SUPERSEDED, Spool, this_host
from podium.spoolfile import Record


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with FakeServer() as server:
        monkeypatch.setenv("CONDUCTOR_SERVER_URL", server.url)
        yield server


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CONDUCTOR_SPOOL_DIR", str(tmp_path / "spool"))
    return tmp_path / "spool"


def record(url: str, task_id: str, **fields: Any) -> Record:
    body = json.dumps({"taskId": task_id, "outputData": {"secret": "of the task"}}).encode()
    values: dict[str, Any] = {
        "task_id": task_id, "workflow_id": "w", "task_type": "bill", "worker_id": "me", "status": "COMPLETED",
        "response_timeout": 60, "server": url, "host": this_host(), "created": 1000.0, "attempts": 1,
        "problem": "connection refused", "body": msgspec.Raw(body),
    }  # fmt: skip
    return Record(**(values | fields))


def opened(path: Path, url: str, *records: Record, host: str | None = None) -> Spool:
    spool = Spool(path, url, host)
    spool.open()
    for each in records:
        spool.save(each)
    return spool


def let_go(spool: Spool) -> None:
    """Leave the spool as a process does that was killed."""
    os.close(spool._lock)


def podium(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(app, ["spool", *arguments], input=answer, catch_exceptions=True)


STATES = {"held", "superseded", "waiting", "foreign", "bad"}


def states(result: Result) -> dict[str, str]:
    """The state of each row of a list, by task id."""
    heading, *lines = [line.split() for line in result.output.splitlines()]
    assert heading == ["id", "task", "type", "task", "id", "age", "size", "state", "reason"]
    return {line[2]: word for line in lines for word in line[3:] if word in STATES and line[0].isalnum()}


def names(path: Path) -> list[str]:
    return [file.name for file in path.rglob("*.json")]


def test_list_shows_everything_with_its_state_and_reason(path: Path, server: FakeServer) -> None:
    url = server.url
    held = opened(path, url, record(url, "held-1"))
    held.keep_superseded(record(url, "late-1", problem="the task is TIMED_OUT"), None)
    let_go(opened(path, url, record(url, "left-1")))
    let_go(opened(path, url, record(url, "far-1", host="web-2"), host="web-2"))
    (path / BAD).mkdir(mode=0o700)
    (path / BAD / "broken1.json").write_text("?")
    result = podium("list")
    assert result.exit_code == 0
    assert states(result) == {
        "held-1": "held", "late-1": "superseded", "left-1": "waiting", "far-1": "foreign", "?": "bad",
    }  # fmt: skip
    assert "the task is TIMED_OUT" in result.output
    assert "of host web-2" in result.output
    assert "not a record" in result.output
    assert "of the task" not in result.output  # no payload without being asked for it
    assert "a running worker delivers these itself" in result.output
    held.close()


def test_list_of_nothing(path: Path) -> None:
    result = podium("list")
    assert (result.exit_code, result.output) == (0, f"{path}: nothing\n")
    assert not path.exists()


def test_list_escapes_what_strangers_have_written(path: Path, server: FakeServer) -> None:
    let_go(opened(path, server.url, record(server.url, "a\x1b[31m\n", problem="\x1b]0;title\x07")))
    output = podium("list").output
    assert "\x1b" not in output
    assert "\\x1b" in output


def test_show_prints_the_record_with_its_output(path: Path, server: FakeServer) -> None:
    let_go(opened(path, server.url, record(server.url, "a")))
    result = podium("show", "a")
    shown = json.loads(result.output)
    assert shown["record"]["body"]["outputData"] == {"secret": "of the task"}
    (name,) = names(path)
    assert podium("show", name[:12]).output == result.output


def test_show_prints_what_is_no_record_as_far_as_that_goes(path: Path) -> None:
    (path / BAD).mkdir(mode=0o700, parents=True)
    path.chmod(0o700)
    (path / BAD / "broken.json").write_bytes(b"\xff\x1b?" * 5000)
    result = podium("show", "broken")
    assert result.exit_code == 0
    assert "\x1b" not in result.output
    assert len(result.output) < 20_000


@pytest.mark.parametrize("command", ["show", "resend", "drop"])
def test_unknown_name_is_an_error_with_the_way_to_the_names(path: Path, command: str) -> None:
    result = podium(command, "nonsense")
    assert result.exit_code == 1
    assert "no result by the name of 'nonsense'" in str(result.exception)
    assert "podium spool list shows the names" in str(result.exception)


def test_resend_sends_what_waits_and_leaves_the_rest_to_its_worker(path: Path, server: FakeServer) -> None:
    url = server.url
    server.on("POST", "/api/tasks", text_answer("id"))
    server.otherwise(json_answer({"taskId": "x", "status": "IN_PROGRESS"}))
    held = opened(path, url, record(url, "held-1"))
    let_go(opened(path, url, record(url, "a"), record(url, "b")))
    result = podium("resend", "--all")
    assert result.exit_code == 0
    assert result.output.count("delivered") == 2
    assert "those that a running worker holds are left to it" in result.output
    assert sorted(request.json["taskId"] for request in server.to("/api/tasks")) == ["a", "b"]
    assert len(names(path)) == 1
    result = podium("resend", "held-1")
    assert result.exit_code == 1
    assert "is held by a running worker, which delivers it itself" in result.output
    held.close()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (json_answer({"status": "TIMED_OUT"}), "nobody waits for it: the task is TIMED_OUT"),
        (error_answer(404, "No such task found by id: a"), "nobody waits for it: "),
        (error_answer(503, "unavailable"), "503 unavailable"),
    ],
)
def test_resend_keeps_what_would_be_lost(path: Path, server: FakeServer, answer: Any, complaint: str) -> None:
    server.otherwise(answer)
    spool = opened(path, server.url)
    spool.keep_superseded(record(server.url, "a"), None)
    spool.close()
    result = podium("resend", "a")
    assert result.exit_code == 1
    assert complaint in result.output
    assert len(list((path / SUPERSEDED).iterdir())) == 1
    assert not server.to("/api/tasks")


def test_resend_does_not_take_a_task_from_its_next_holder(path: Path, server: FakeServer) -> None:
    server.otherwise(json_answer({"status": "SCHEDULED", "workerId": "me"}))
    let_go(opened(path, server.url, record(server.url, "a", status="IN_PROGRESS")))
    result = podium("resend", "a")
    assert result.exit_code == 1
    assert "the server has it already" in result.output
    assert not server.to("/api/tasks")


def test_resend_is_for_the_server_that_the_result_is_for(path: Path, server: FakeServer) -> None:
    let_go(opened(path, "http://other/api", record("http://other/api", "a")))
    result = podium("resend", "a")
    assert result.exit_code == 1
    assert f"it is for http://other/api, not for {server.url}: set CONDUCTOR_SERVER_URL" in result.output
    assert server.requests == []


def test_superseded_result_can_be_sent_on_demand(path: Path, server: FakeServer) -> None:
    server.on("POST", "/api/tasks", text_answer("id"))
    server.otherwise(json_answer({"taskId": "a", "status": "IN_PROGRESS"}))
    spool = opened(path, server.url)
    spool.keep_superseded(record(server.url, "a"), None)
    spool.close()
    assert podium("resend", "a").exit_code == 0
    assert names(path) == []


def test_drop_asks_first(path: Path, server: FakeServer) -> None:
    let_go(opened(path, server.url, record(server.url, "a"), record(server.url, "b")))
    assert podium("drop", "a", answer="n\n").exit_code == 1
    assert len(names(path)) == 2
    assert podium("drop", "a", answer="y\n").exit_code == 0
    assert len(names(path)) == 1
    assert podium("drop", "--all", "--yes").exit_code == 0
    assert names(path) == []


def test_drop_leaves_what_a_running_worker_holds(path: Path, server: FakeServer) -> None:
    held = opened(path, server.url, record(server.url, "a"))
    result = podium("drop", "a", "--yes")
    assert result.exit_code == 1
    assert "is held by a running worker" in result.output
    assert len(names(path)) == 1
    held.close()


@pytest.mark.parametrize("command", ["resend", "drop"])
@pytest.mark.parametrize("arguments", [[], ["a", "--all"]])
def test_command_wants_to_know_which(path: Path, command: str, arguments: list[str]) -> None:
    result = podium(command, *arguments)
    assert result.exit_code == 2
    assert "name results, or --all" in result.output


def test_S08_folder_that_others_may_write_to_is_not_believed(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)
    result = podium("list")
    assert result.exit_code == 1
    assert "others may write to it" in str(result.exception)
