"""The probes over HTTP, while things go wrong around them."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import samples
from engine_fakes import task_json
from fake_server import Answer, FakeServer, Fault, error_answer, json_answer, text_answer
from podium import Configuration, MetricsSettings, TaskHandler
from podium.config import AuthenticationSettings
from rig import Rig, until
from toxic_proxy import ToxicProxy

QUICK: dict[str, Any] = {"monitor_interval_seconds": 0.1, "stuck_after_seconds": 1.0}
BOTH = pytest.mark.parametrize("isolation", ["process", "thread"])


@pytest.fixture(autouse=True)
def short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is missed after 2.6 s instead of 6.6."""
    monkeypatch.setattr("podium.runner.ANSWER_GRACE", 0.5)


class Probes:
    """Asks a handler as Kubernetes does."""

    def __init__(self, handler: TaskHandler) -> None:
        self._handler = handler

    def ask(self, word: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._handler.metrics_port or 0, timeout=10)
        try:
            connection.request("GET", f"/health/{word}")
            response = connection.getresponse()
            facts: dict[str, Any] = json.load(response)
        finally:
            connection.close()
        assert facts["status"] == ("UP" if response.status == 200 else "DOWN")
        return response.status, facts

    @property
    def ready(self) -> bool:
        return self.ask("ready")[0] == 200

    @property
    def alive(self) -> bool:
        return self.ask("live")[0] == 200

    def why(self) -> str:
        """What keeps the first worker from being ready."""
        status, facts = self.ask("ready")
        assert status == 503
        (worker,) = facts["workers"]
        assert not worker["ready"]
        return str(worker["state"])


@contextmanager
def probed(rig: Rig, function: Any, configuration: Configuration | None = None, **options: Any) -> Iterator[Probes]:
    rig.configuration = configuration or rig.configuration
    worker_options = {name: options.pop(name) for name in ("thread_count",) if name in options}
    settings = MetricsSettings(http_port=0)
    with rig.running(rig.worker(function, **worker_options), metrics_settings=settings, **options) as handler:
        yield Probes(handler)


@pytest.fixture
def rig(server: FakeServer) -> Rig:
    server.otherwise(json_answer([]))
    server.on("POST", "/api/tasks", text_answer("id"))
    return Rig(server.url)


def give(server: FakeServer, rig: Rig, function: Any, *names: str, **inputs: Any) -> None:
    raw = b",".join(task_json(name, inputData=inputs) for name in names)
    full = Answer(body=b"[" + raw + b"]", headers={"Content-Type": "application/json"})
    server.on("GET", f"/api/tasks/poll/batch/{rig.name_of(function)}", full, json_answer([]))


@BOTH
def test_server_that_is_down_makes_the_worker_not_ready_and_leaves_it_alive(
    server: FakeServer, rig: Rig, isolation: str
) -> None:
    with ToxicProxy(server.port) as proxy:
        configuration = Configuration(server_api_url=proxy.url)
        with probed(rig, samples.returns_none, configuration, isolation=isolation) as probes:
            until(lambda: probes.ready, "readiness", 5)
            proxy.down()
            begun = time.monotonic()
            until(lambda: not probes.ready, "the outage")
            assert 0.5 < time.monotonic() - begun < 6
            assert "connection refused" in probes.why()
            assert probes.alive
            proxy.up()
            until(lambda: probes.ready, "readiness again", 5)
            assert probes.alive


def test_B22_revoked_credentials_make_the_worker_not_ready_and_leave_it_alive(server: FakeServer, rig: Rig) -> None:
    refused = error_answer(401, "the key was revoked")
    path = f"/api/tasks/poll/batch/{rig.name_of(samples.returns_none)}"
    server.on("POST", "/api/token", json_answer({"token": "t0ken"}), refused)
    server.on("GET", path, *[json_answer([])] * 5, refused)
    keys = AuthenticationSettings(key_id="id", key_secret="s3cr3t")
    configuration = Configuration(server_api_url=server.url, authentication_settings=keys)
    with probed(rig, samples.returns_none, configuration) as probes:
        until(lambda: probes.ready, "readiness", 5)
        until(lambda: not probes.ready, "the refusal", 5)
        assert probes.why().startswith("authentication fails: ")
        assert "401" in probes.why()
        assert probes.alive
        assert "s3cr3t" not in json.dumps(probes.ask("ready")[1])
        last_poll, polls = time.monotonic(), len(server.to(path))
        until(lambda: len(server.to(path)) > polls, "the next attempt", 5)
        assert time.monotonic() - last_poll > 1  # nobody hammers at a door that is shut
        assert probes.alive


def test_B22_token_that_never_comes_makes_the_worker_not_ready_in_time(
    server: FakeServer, rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.transport.LOGIN_LIMIT", 0.5)
    server.on("POST", "/api/token", Answer(fault=Fault.SILENCE))
    keys = AuthenticationSettings(key_id="id", key_secret="s3cr3t")
    configuration = Configuration(server_api_url=server.url, authentication_settings=keys)
    with probed(rig, samples.returns_none, configuration) as probes:
        until(lambda: "no answer within 0.5 s" in probes.why(), "the limit", 5)
        assert probes.alive
        server.on("POST", "/api/token", json_answer({"token": "t0ken"}))
        until(lambda: probes.ready, "readiness", 10)


@BOTH
def test_worker_with_all_slots_busy_is_ready_and_one_that_drains_is_not(
    server: FakeServer, rig: Rig, isolation: str, tmp_path: Path
) -> None:
    go, mark = tmp_path / "go", tmp_path / "mark"
    give(server, rig, samples.waits_for_file, "a", path=str(go), mark=str(mark))
    with probed(rig, samples.waits_for_file, thread_count=1, isolation=isolation) as probes:
        until(mark.exists, "the task")
        assert probes.ask("ready")[1]["workers"][0]["state"] == "all 1 slots are busy"
        assert probes.ready
        handler = probes._handler
        stopping = threading.Thread(target=handler.stop_processes)
        stopping.start()
        try:
            until(lambda: not probes.ready, "the drain", 5)
            assert probes.ask("ready")[1]["why"] == "the workers are being stopped"
            assert not handler.is_ready()
            assert probes.alive
            assert handler.is_alive()
        finally:
            go.touch()
            stopping.join(20)
        assert not handler.is_alive()


def test_paused_worker_is_ready(rig: Rig) -> None:
    with probed(rig, samples.returns_none) as probes:
        probes._handler.set_paused(rig.name_of(samples.returns_none), True)
        until(lambda: probes.ask("ready")[1]["workers"][0]["state"] == "paused", "the pause", 5)
        assert probes.ready


def test_S07_half_open_clients_hold_up_no_probe(rig: Rig) -> None:
    with probed(rig, samples.returns_none) as probes:
        until(lambda: probes.ready, "readiness", 5)
        port = probes._handler.metrics_port or 0
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(50)]
        try:
            for client in clients[::2]:
                client.sendall(b"GET /health/live HTT")
            for word in ("live", "ready"):
                begun = time.monotonic()
                assert probes.ask(word)[0] == 200
                assert time.monotonic() - begun < 1
        finally:
            for client in clients:
                client.close()


def test_S06_probes_are_for_this_machine_unless_told_otherwise(rig: Rig) -> None:
    with probed(rig, samples.returns_none) as probes:
        (exporter,) = probes._handler._instruments._exporters
        assert exporter._server is not None
        assert exporter._server.server_address[0] == "127.0.0.1"


def test_loop_of_the_thread_crew_that_is_blocked_is_not_alive(server: FakeServer, rig: Rig, tmp_path: Path) -> None:
    go, mark = tmp_path / "go", tmp_path / "mark"
    give(server, rig, samples.blocks_until_file_async, "a", path=str(go), mark=str(mark))
    with probed(rig, samples.blocks_until_file_async, isolation="thread", **QUICK) as probes:
        until(mark.exists, "the task")
        until(lambda: not probes.alive, "the silence", 10)
        (stuck,) = probes.ask("live")[1]["stuck"]
        assert stuck["what"] == "the event loop of the thread crew"
        assert stuck["seconds"] >= 1.1
        assert "the thread crew is silent for" in probes.why()
        go.touch()
        until(lambda: probes.alive and probes.ready, "life again", 10)


def test_child_whose_loop_is_blocked_is_not_ready_and_podium_is_alive(
    server: FakeServer, rig: Rig, tmp_path: Path
) -> None:
    go, mark = tmp_path / "go", tmp_path / "mark"
    give(server, rig, samples.blocks_until_file_async, "a", path=str(go), mark=str(mark))
    with probed(rig, samples.blocks_until_file_async, **QUICK) as probes:
        until(mark.exists, "the task")
        until(lambda: not probes.ready, "the silence", 10)
        assert "a worker process is silent for" in probes.why()
        assert probes.alive
        go.touch()
        until(lambda: probes.ready, "life again", 10)
