"""/metrics and /health over real sockets."""

from __future__ import annotations

import http.client
import json
import logging
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import pytest

from podium import MetricsCollector, MetricsSettings, StartError
from podium.metrics import exporter as exporter_module
from podium.metrics import serving
from podium.metrics.exporter import MetricsExporter
from podium.metrics.serving import Answer, ScrapeServer
from rig import until

Health = Callable[[], tuple[bool, dict[str, Any]]]


def healthy() -> tuple[bool, dict[str, Any]]:
    return True, {"workers": [{"worker": "greet", "alive": True}]}


@contextmanager
def exporting(
    health: Health = healthy, collector: MetricsCollector | None = None, **settings: Any
) -> Iterator[MetricsExporter]:
    chosen = MetricsSettings(**({"http_port": 0} | settings))
    exporter = MetricsExporter(chosen, collector or MetricsCollector(chosen), {"/health": health})
    exporter.start()
    try:
        yield exporter
    finally:
        exporter.stop()


def port_of(exporter: MetricsExporter) -> int:
    assert exporter.port is not None
    return exporter.port


def ask(
    exporter: MetricsExporter, path: str, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port_of(exporter), timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def raw(port: int, request: bytes) -> bytes:
    """Send bytes, and return all that comes until the other side ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(request)
        received = b""
        while chunk := connection.recv(65_536):
            received += chunk
        return received


def test_metrics_are_the_renderer_s_text() -> None:
    collector = MetricsCollector()
    collector.increment_task_poll("greet")
    with exporting(collector=collector) as exporter:
        response, body = ask(exporter, "/metrics?name=whatever")
        assert (response.status, body) == (200, collector.render()[0])
        assert response.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
        assert response.getheader("Server") is None
        wanted, _ = ask(exporter, "/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert str(wanted.getheader("Content-Type")).startswith("application/openmetrics-text; version=1.0.0")
        head, nothing = ask(exporter, "/metrics", method="HEAD")
        assert (head.status, head.getheader("Content-Length"), nothing) == (200, str(len(body)), b"")


def test_index_and_what_does_not_exist() -> None:
    with exporting() as exporter:
        response, body = ask(exporter, "/")
        assert response.status == 200
        assert b"/metrics" in body
        assert b"/health" in body
        for path in ("/metrics/", "/healthz", "/../etc/passwd", "/METRICS", "http://x/metrics"):
            response, body = ask(exporter, path)
            assert (response.status, body) == (404, b"404 Not Found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_other_methods_are_not_allowed(method: str) -> None:
    with exporting() as exporter:
        response, body = ask(exporter, "/metrics", method=method)
        assert (response.status, response.getheader("Allow")) == (405, "GET, HEAD")
        assert body == b"405 Method Not Allowed\n"


# health


def test_defect_38_health_tells_the_truth_about_the_workers() -> None:
    state: list[tuple[bool, dict[str, Any]]] = [healthy()]
    with exporting(lambda: state[0]) as exporter:
        response, body = ask(exporter, "/health")
        assert (response.status, response.getheader("Content-Type")) == (200, "application/json")
        assert json.loads(body) == {"status": "UP", "workers": [{"worker": "greet", "alive": True}]}
        state[0] = (False, {"status": "UP", "workers": [{"worker": "greet", "alive": False}]})
        response, body = ask(exporter, "/health")
        assert response.status == 503
        assert json.loads(body) == {"status": "DOWN", "workers": [{"worker": "greet", "alive": False}]}
        assert ask(exporter, "/health", method="HEAD")[0].status == 503


def test_health_that_cannot_be_read_is_not_good() -> None:
    def fails() -> tuple[bool, dict[str, Any]]:
        raise StartError("no worker is running")

    with exporting(fails) as exporter:
        response, body = ask(exporter, "/health")
        assert response.status == 503
        answer = json.loads(body)
        assert answer["status"] == "DOWN"
        assert "StartError: no worker is running" in answer["error"]


def test_defect_38_stuck_engine_is_told_in_time_by_one_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter_module, "_HEALTH_LIMIT", 0.1)
    go, calls = threading.Event(), []

    def hangs() -> tuple[bool, dict[str, Any]]:
        calls.append(1)
        assert go.wait(30)
        return healthy()

    with exporting(hangs) as exporter:
        for _ in range(3):
            response, body = ask(exporter, "/health")
            assert response.status == 503
            assert "could not be read within 0.1 s" in json.loads(body)["error"]
        assert ask(exporter, "/metrics")[0].status == 200
        assert len(calls) == 1
        go.set()
        until(lambda: ask(exporter, "/health")[0].status == 200, "the engine is back")


def test_health_may_show_what_json_does_not_know() -> None:
    with exporting(lambda: (True, {"workers": [{"error": ValueError("x")}]})) as exporter:
        assert json.loads(ask(exporter, "/health")[1])["workers"] == [{"error": "x"}]


# clients that misbehave


def test_defect_38_S07_half_open_clients_hold_up_nobody() -> None:
    with exporting() as exporter:
        clients = [socket.create_connection(("127.0.0.1", port_of(exporter)), timeout=10) for _ in range(50)]
        for client in clients[::2]:
            client.sendall(b"GET /metrics HTT")
        for path in ("/metrics", "/health"):
            connection = http.client.HTTPConnection("127.0.0.1", port_of(exporter), timeout=1)  # the promise
            connection.request("GET", path)
            assert connection.getresponse().status == 200
            connection.close()
        assert select.select(clients, [], [], 0)[0] == []  # all of them still hang around
        for client in clients:
            client.close()


def test_S07_half_open_and_dripping_clients_do_not_live_for_ever() -> None:
    server = ScrapeServer("127.0.0.1", 0, lambda _path, _accept: None, connection_seconds=0.3)
    server.start()
    ended = threading.Event()
    try:
        with (
            socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as silent,
            socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as dripping,
        ):
            drip = threading.Thread(target=_drip, args=(dripping, ended))
            drip.start()
            assert silent.recv(1) == b""
            drip.join(10)
            assert not drip.is_alive()
            until(lambda: not server._open, "no connection is left")
    finally:
        ended.set()
        server.stop()


def _drip(connection: socket.socket, ended: threading.Event) -> None:
    """Send a header, byte by byte, until the other side has had enough."""
    try:
        connection.sendall(b"GET / HTTP/1.1\r\nX: ")
        while not ended.wait(0.02):
            connection.sendall(b"x")
    except OSError:
        return


def test_client_that_does_not_read_its_answer_is_cut_and_delays_nobody() -> None:
    big = b"x" * 50_000_000  # more than the system buffers for one connection

    def answer(path: str, _accept: str) -> Answer:
        return Answer(HTTPStatus.OK, "text/plain", big if path == "/big" else b"small")

    server = ScrapeServer("127.0.0.1", 0, answer, connection_seconds=0.5)
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as slow:
            slow.sendall(b"GET /big HTTP/1.0\r\n\r\n")
            until(lambda: server._open, "the slow one is served")
            assert raw(server.server_port, b"GET /small HTTP/1.0\r\n\r\n").endswith(b"small")
            until(lambda: not server._open, "the slow one is cut")
    finally:
        server.stop()


def test_S07_newest_client_gets_in_however_many_hang_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_MOST_CONNECTIONS", 4)
    with exporting() as exporter:
        clients = [socket.create_connection(("127.0.0.1", port_of(exporter)), timeout=10) for _ in range(12)]
        assert ask(exporter, "/metrics")[0].status == 200
        assert exporter._server is not None
        assert len(exporter._server._open) <= 4
        assert [client.recv(1) for client in clients[:8]] == [b""] * 8  # cut to make room
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 90 + b"Z: " + b"z" * 9000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/9.9\r\n\r\n", b"505"),
    ],
)
def test_S07_request_that_is_too_long_or_none_is_refused(request_bytes: bytes, status: bytes) -> None:
    with exporting() as exporter:
        try:
            received = raw(port_of(exporter), request_bytes)
        except ConnectionResetError:  # the rest of the request was not read: the system may say so
            received = b""
        assert received == b"" or status in received.partition(b"\r\n")[0]
        assert b"Python" not in received
        assert ask(exporter, "/metrics")[0].status == 200


def test_client_that_goes_away_leaves_no_trace(capfd: pytest.CaptureFixture[str]) -> None:
    with exporting() as exporter:
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port_of(exporter)), timeout=10) as client:
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no goodbye
        assert ask(exporter, "/metrics")[0].status == 200
    assert capfd.readouterr() == ("", "")


def test_metric_of_the_user_that_fails_is_a_500_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def collect(self) -> Any:
            raise RuntimeError("no luck")

        def describe(self) -> list[Any]:
            return []

    collector = MetricsCollector()
    collector.registry.register(Broken())
    with caplog.at_level(logging.INFO, "podium"), exporting(collector=collector) as exporter:
        for _ in range(3):
            assert ask(exporter, "/metrics")[0].status == 500
        assert ask(exporter, "/health")[0].status == 200
    assert [record.levelname for record in caplog.records if "/metrics' could not" in record.getMessage()] == ["ERROR"]


# start and stop


def test_port_in_use_is_an_error_that_names_it_and_the_fix() -> None:
    with exporting() as first:
        port = port_of(first)
        second = MetricsExporter(MetricsSettings(http_port=port), MetricsCollector(), {"/health": healthy})
        with pytest.raises(StartError, match=rf"127\.0\.0\.1, port {port}: .*in use.*0 takes a free one"):
            second.start()
        assert second.port is None
        second.stop()  # which is allowed


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b", "x" * 300])
def test_address_that_is_not_ours_is_an_error(host: str) -> None:
    exporter = MetricsExporter(MetricsSettings(http_port=0, http_host=host), MetricsCollector(), {"/health": healthy})
    with pytest.raises(StartError, match="an address of this machine as http_host"):
        exporter.start()


def test_S06_it_listens_at_loopback_unless_told_otherwise() -> None:
    with exporting() as exporter:
        assert exporter._server is not None
        assert exporter._server.server_address[0] == "127.0.0.1"
    with exporting(http_host="0.0.0.0") as exporter:
        assert exporter._server is not None
        assert exporter._server.server_address[0] == "0.0.0.0"


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_it_listens_at_an_ipv6_address() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 loopback")
    with exporting(http_host="::1") as exporter:
        connection = http.client.HTTPConnection("::1", port_of(exporter), timeout=10)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()


def test_stop_closes_the_port_and_ends_every_thread_also_those_of_hanging_clients() -> None:
    before = set(threading.enumerate())
    with exporting() as exporter:
        port = port_of(exporter)
        clients = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(3)]
        assert ask(exporter, "/health")[0].status == 200
    assert exporter.port is None
    assert [client.recv(1) for client in clients] == [b""] * 3
    for client in clients:
        client.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=10)
    assert set(threading.enumerate()) <= before
    exporter.start()  # and again
    assert ask(exporter, "/metrics")[0].status == 200
    exporter.stop()


def test_stop_does_not_wait_for_each_of_many_that_are_still_being_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_FAREWELL", 0.05)
    busy, go_on = threading.Semaphore(0), threading.Event()

    def answer(_path: str, _accept: str) -> Answer:
        busy.release()
        go_on.wait()
        return Answer(HTTPStatus.OK, "text/plain", b"")

    server = ScrapeServer("127.0.0.1", 0, answer)
    server.start()
    clients = [socket.create_connection(("127.0.0.1", server.server_port), timeout=10) for _ in range(20)]
    for client in clients:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
    for _ in clients:
        assert busy.acquire(timeout=10)
    threads = [connection.thread for _, connection in server._connections()]
    begun = time.monotonic()
    server.stop()
    assert time.monotonic() - begun < 0.9  # 20 x 0.05 s, and more
    go_on.set()
    for client in clients:
        client.close()
    for thread in threads:
        thread.join(10)


def test_starting_twice_is_starting_once() -> None:
    with exporting() as exporter:
        port = exporter.port
        exporter.start()
        assert exporter.port == port
