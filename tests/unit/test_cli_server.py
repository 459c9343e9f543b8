"""``podium server`` as a program."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from podium import Client, Configuration, TaskDef

DEADLINE = 20


@contextmanager
def server(*options: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "podium", "server", "--port", "0", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ready_url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"podium server ready at (\S+) \(.*\); for workers: export CONDUCTOR_SERVER_URL=(\S+)\n", line)
    assert found is not None, line
    assert found[1] == found[2]
    return found[1]


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; return the exit code and what was written after the line of readiness."""
    output, errors = process.communicate(timeout=DEADLINE)
    return process.returncode, output, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal_and_ends_with_success(number: signal.Signals) -> None:
    with server() as process:
        with Client(Configuration(server_api_url=ready_url(process))) as client:
            assert client.get_task_defs() == []
        process.send_signal(number)
        assert end_of(process) == (0, "", "")


def test_ends_although_a_poll_is_open() -> None:
    with server() as process:
        url = ready_url(process)
        host, port = url.removeprefix("http://").removesuffix("/api").split(":")
        with socket.create_connection((host, int(port))) as poll:
            poll.sendall(f"GET /api/tasks/poll/batch/x?timeout=5000 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            process.send_signal(signal.SIGTERM)
            assert end_of(process) == (0, "", "")


def test_until_eof_ends_with_standard_input() -> None:
    with server("--until-eof") as process:
        ready_url(process)
        assert process.poll() is None
        assert end_of(process) == (0, "", "")  # communicate() closes it


def test_database_file_outlives_the_server(tmp_path: Path) -> None:
    db = str(tmp_path / "podium.db")
    with server("--db", db) as process, Client(Configuration(server_api_url=ready_url(process))) as client:
        client.register_task_def(TaskDef(name="kept"))
    with server("--db", db) as process, Client(Configuration(server_api_url=ready_url(process))) as client:
        assert [definition.name for definition in client.get_task_defs()] == ["kept"]


def test_taken_port_is_one_line_and_exit_code_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with server("--port", port) as process:
            code, output, errors = end_of(process)
    assert (code, output) == (1, "")
    assert errors == f"podium: cannot listen on 127.0.0.1:{port}: Address already in use\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--db", "/nonexistent/podium.db"], "no such directory"),
        (["--db", "/dev/null"], "/dev/null"),
        (["--host", "nonsense.invalid"], "nonsense.invalid"),
        (["--host", "203.0.113.1"], "203.0.113.1"),
    ],
)
def test_wrong_place_is_one_line_and_exit_code_1(options: list[str], complaint: str) -> None:
    with server(*options) as process:
        code, output, errors = end_of(process)
    assert (code, output) == (1, "")
    assert errors.startswith("podium: ")
    assert complaint in errors
    assert errors.count("\n") == 1
