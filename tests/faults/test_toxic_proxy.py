"""The proxy itself: what each toxic does to a conversation."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator

import pytest

from fake_server import FakeServer, json_answer, text_answer
from toxic_proxy import (
    UPDATE,
    Bandwidth,
    CutAfter,
    CutBefore,
    Latency,
    Limit,
    Slicer,
    Swallow,
    ToxicProxy,
    Way,
)


@pytest.fixture
def proxy(server: FakeServer) -> Iterator[ToxicProxy]:
    server.on("GET", "/api/x", json_answer("x" * 1000))
    server.on("POST", "/api/tasks", text_answer("id"))
    with ToxicProxy(server.port) as proxy:
        yield proxy


class Caller:
    def __init__(self, proxy: ToxicProxy) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)

    def get(self) -> int:
        return len(self.call("GET", "/api/x"))

    def call(self, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            self.connection.request(method, path, body)
            return self.connection.getresponse().read()
        except OSError:
            self.connection.close()
            raise


@pytest.fixture
def caller(proxy: ToxicProxy) -> Iterator[Caller]:
    caller = Caller(proxy)
    yield caller
    caller.connection.close()


def test_connection_is_kept_and_data_is_whole(proxy: ToxicProxy, caller: Caller, server: FakeServer) -> None:
    assert [caller.get() for _ in range(3)] == [1002] * 3
    assert caller.call("POST", "/api/tasks", b"x" * 300_000) == b"id"
    assert server.requests[-1].body == b"x" * 300_000
    assert proxy.accepted == server.connections == 1


def test_down_cuts_and_refuses_and_up_heals(proxy: ToxicProxy, caller: Caller) -> None:
    assert caller.get() == 1002
    proxy.down()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        caller.get()
    with pytest.raises(ConnectionRefusedError):
        caller.get()
    proxy.up()
    assert caller.get() == 1002


@pytest.mark.parametrize("reset", [False, True])
def test_cut_before_and_after(proxy: ToxicProxy, caller: Caller, server: FakeServer, reset: bool) -> None:
    for kind, arrived in ((CutBefore, 0), (CutAfter, 1)):
        server.requests.clear()
        with proxy.toxic(kind(UPDATE, times=1, reset=reset)) as cut:
            assert caller.get() == 1002
            with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
                caller.call("POST", "/api/tasks", b"{}")
            assert caller.call("POST", "/api/tasks", b"{}") == b"id"
        assert cut.count == 1
        assert len(server.to("/api/tasks")) == arrived + 1


def test_seeded_chance_repeats(proxy: ToxicProxy, caller: Caller) -> None:
    counts = []
    for _ in range(2):
        with proxy.toxic(CutBefore(chance=0.3, seed=5)) as cut:
            for _ in range(30):
                try:
                    caller.get()
                except (http.client.RemoteDisconnected, ConnectionError):
                    continue
        counts.append(cut.count)
    assert 2 < counts[0] == counts[1] < 20


def test_latency_bandwidth_and_slicer_take_their_time(proxy: ToxicProxy, caller: Caller) -> None:
    def taken() -> float:
        begun = time.monotonic()
        assert caller.get() == 1002
        return time.monotonic() - begun

    with proxy.toxic(Latency(0.1, ways=frozenset({Way.DOWN}))):
        assert 0.1 <= taken() < 1
    with proxy.toxic(Bandwidth(5000)):
        assert 0.2 <= taken() < 2
    with proxy.toxic(Slicer(100, pause=0.01)):
        assert 0.1 <= taken() < 2


def test_swallowed_answer_leaves_the_connection_open(proxy: ToxicProxy, caller: Caller) -> None:
    caller.get()
    assert caller.connection.sock is not None
    caller.connection.sock.settimeout(0.1)
    with proxy.toxic(Swallow(ways=frozenset({Way.DOWN}))) as swallow, pytest.raises(TimeoutError):
        caller.get()
    assert swallow.count == 1


def test_limit_ends_the_answer_half_way(proxy: ToxicProxy, caller: Caller) -> None:
    with proxy.toxic(Limit(500)), pytest.raises(http.client.IncompleteRead) as cut:
        caller.get()
    assert 0 < len(cut.value.partial) < 500


def test_target_moves_and_toxics_come_and_go_while_it_runs(proxy: ToxicProxy, caller: Caller) -> None:
    with FakeServer() as other:
        other.on("GET", "/api/x", json_answer("y"))
        assert caller.get() == 1002
        proxy.target = other.port
        proxy.cut_connections(reset=True)
        caller.connection.close()
        assert caller.get() == 3
    toggler = threading.Thread(
        target=lambda: [proxy.remove(proxy.add(Latency(0))) for _ in range(200)]  # type: ignore[func-returns-value]
    )
    toggler.start()
    toggler.join(5)
    assert not toggler.is_alive()
