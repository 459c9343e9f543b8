"""Programs that may open very few files."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fake_server import Answer, FakeServer
from programs import cpu_seconds, killed_at_the_end
from rig import until
from scene import NOTHING, reports_to, tasks

TESTS = Path(__file__).parent.parent
LIMIT = 64

PROGRAM = """
    import contextlib, logging, resource, sys
    resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
    sys.path.insert(0, {tests!r})
    import samples
    from podium import Configuration, MetricsSettings, TaskHandler, Worker

    def main():
        logging.basicConfig(level=logging.INFO)
        workers = [Worker(f"w{{number}}", samples.{function}, poll_interval=20) for number in range({workers})]
        handler = TaskHandler(
            workers, Configuration(server_api_url={url!r}), MetricsSettings(http_port=0),
            scan_for_annotated_workers=False, isolation={isolation!r}, restart_backoff_seconds=0.2,
        )
        with handler:
            handler.start_processes()
            print(handler.metrics_port, flush=True)
            held = []
            while sys.stdin.readline():  # takes all descriptors that are left, or gives them back
                if held:
                    for file in held:
                        file.close()
                    held = []
                else:
                    with contextlib.suppress(OSError):
                        while True:
                            held.append(open("/dev/null"))
                print(len(held), flush=True)

    if __name__ == "__main__":
        main()
"""


@contextmanager
def running(folder: Path, **fields: Any) -> Iterator[subprocess.Popen[str]]:
    script = folder / "program.py"
    script.write_text(textwrap.dedent(PROGRAM).format(tests=str(TESTS), limit=LIMIT, **fields))
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_at_the_end(process):
        yield process


@pytest.fixture
def server(server: FakeServer) -> FakeServer:
    server.otherwise(NOTHING)
    server.on("POST", "/api/tasks", Answer(body=b"id"))
    server.on("POST", "/api/tasks/update-v2", Answer(status=204))
    return server


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def scrape(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=2) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        return client.recv(100)


def test_B25_knocking_clients_cost_no_cpu_and_tasks_go_on(server: FakeServer, tmp_path: Path) -> None:
    with running(tmp_path, url=server.url, isolation="thread", workers=1, function="returns_none") as process:
        port = port_of(process)
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(100)]
        before, begun = cpu_seconds(process.pid), time.monotonic()
        server.on("GET", "/api/tasks/poll/batch/w0", tasks("a"), NOTHING)
        until(lambda: reports_to(server), "the report")
        until(lambda: time.monotonic() - begun > 1.5, "a while of knocking")
        share = (cpu_seconds(process.pid) - before) / (time.monotonic() - begun)
        for client in clients:
            client.close()
        assert scrape_soon(port).startswith(b"HTTP/1.0 200")
        errors = process.communicate(timeout=20)[1]
    assert process.returncode == 0, errors
    assert share < 0.5, errors


def test_B25_no_descriptor_left_costs_no_cpu_and_is_over_when_there_are_some(
    server: FakeServer, tmp_path: Path
) -> None:
    with running(tmp_path, url=server.url, isolation="process", workers=1, function="returns_none") as process:
        port = port_of(process)
        until(lambda: server.requests, "a poll")
        assert toggled(process) > 0
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(3)]
        server.close_connections()
        before, begun = cpu_seconds(process.pid), time.monotonic()
        until(lambda: time.monotonic() - begun > 1.5, "a while of knocking")
        share = (cpu_seconds(process.pid) - before) / (time.monotonic() - begun)
        assert toggled(process) == 0
        server.on("GET", "/api/tasks/poll/batch/w0", tasks("a"), NOTHING)
        until(lambda: reports_to(server), "the report")
        assert scrape_soon(port).startswith(b"HTTP/1.0 200")
        for client in clients:
            client.close()
        errors = process.communicate(timeout=20)[1]
    assert process.returncode == 0, errors
    assert share < 0.5, errors
    assert "Traceback" not in errors


def toggled(process: subprocess.Popen[str]) -> int:
    """Let the program take all descriptors that are left, or give them back; return how many it holds then."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return int(process.stdout.readline())


def scrape_soon(port: int) -> bytes:
    def answer() -> bytes:
        try:
            return scrape(port)
        except OSError:
            return b""

    return until(answer, "an answer of /metrics")


def test_B25_too_many_children_for_the_limit_are_a_clear_error(server: FakeServer, tmp_path: Path) -> None:
    with running(tmp_path, url=server.url, isolation="process", workers=40, function="returns_none") as process:
        out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (1, "")
    last = errors.strip().splitlines()[-1]
    assert re.search(r"StartError: .*Too many open files.*\bulimit -n\b", last), errors
