"""The way without the HTTP library: whatever a server may send, and when connections are used again."""

from __future__ import annotations

import asyncio
import base64
import errno
import gc
import gzip
import socket
import sys
import threading
import tracemalloc
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import Mock

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from fake_server import DEADLINE, Answer, FakeServer, Fault, Gate, json_answer, text_answer
from podium.answers import Response
from podium.call import IDLE_LIMIT, Call
from podium.call import Fault as FaultOfWay
from podium.client import AsyncClient
from podium.config import Configuration
from podium.conversation import Conversation
from podium.direct import Direct, _Pool
from podium.errors import AnswerError, ConfigError, ConnectError, CutError, PodiumError, TimeoutExceededError
from podium.transport import Transport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


def run(work: Coroutine[Any, Any, Any], factory: Callable[[], asyncio.AbstractEventLoop] = LOOPS[1]) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


class RawServer:
    """Answers each request with the next of the given pieces of bytes, and keeps the connection: one list for each."""

    def __init__(self, *conversations: list[list[bytes]]) -> None:
        self.requests = [0] * len(conversations)
        self._conversations = conversations
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/api"
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for a connection
        self._listener.close()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        for number, answers in enumerate(self._conversations):
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(DEADLINE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection, suppress(OSError):
                for pieces in answers:
                    if not _request_arrived(connection):
                        break
                    self.requests[number] += 1
                    for piece in pieces:
                        connection.sendall(piece)
                else:
                    _request_arrived(connection)  # or its end


def _request_arrived(connection: socket.socket) -> bool:
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return False
        data = data[-3:] + more
    return True


def _pool_of(transport: Transport) -> _Pool:
    assert isinstance(transport._way, Direct)
    return transport._way._pools[asyncio.get_running_loop()]


async def requests(url: str, count: int = 1, method: str = "GET") -> list[Response]:
    transport = Transport(Configuration(server_api_url=url))
    try:
        return [await transport.request(method, "/x") for _ in range(count)]
    finally:
        await transport.aclose()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([OK], b"ok"),
        ([OK[i : i + 1] for i in range(len(OK))], b"ok"),
        ([CHUNKED, b"1\r\no\r\n1;x=y\r\n", b"k\r\n0\r\n\r\n"], b"ok"),
        ([CHUNKED, b"2\r\nok\r\n0\r\nContent-Encoding: gzip\r\nX: y\r\n\r\n"], b"ok"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", OK], b"ok"),
        ([b"HTTP/1.1 103 Early Hints\r\nContent-Encoding: gzip\r\n\r\n" + OK], b"ok"),
        ([b"HTTP/1.1 204 None\r\n\r\n"], b""),
        ([b"HTTP/1.1 200\r\ncontent-length:2\r\n\r\nok"], b"ok"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\nok"], b"ok"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: \r\nContent-Length: 2\r\n\r\nok"], b"ok"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: GZIP \r\nContent-Length: 22\r\n\r\n", gzip.compress(b"ok")], b"ok"),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"], b""),
        ([b"HTTP/1.1 204 None\r\nContent-Encoding: gzip\r\n\r\n"], b""),
        ([b"HTTP/1.1 099 What\r\nContent-Length: 2\r\n\r\nno" + OK], b"ok"),
    ],
)
def test_every_form_of_an_answer_is_read_and_the_connection_used_again(
    factory: Callable[[], asyncio.AbstractEventLoop], pieces: list[bytes], body: bytes
) -> None:
    with RawServer([pieces, pieces, pieces]) as server:
        assert [response.body for response in run(requests(server.url, 3), factory)] == [body] * 3
        assert server.requests == [3]


GZIP = gzip.compress(b"ok" * 9)
#: Answers as they are sent, what is in them (None: nothing that can be trusted), and whether more may follow.
ANSWERS = [
    (OK, b"ok", True),
    (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nContent-Encoding: gzip\r\nX:\r\n\r\n" + OK, b"ok", True),
    (CHUNKED + b"1;a=b\r\no\r\n1\r\nk\r\n0\r\nX: y\r\nContent-Encoding: gzip\r\n\r\n", b"ok", True),
    (b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\ncontent-encoding: gzip\r\n\r\n" % len(GZIP) + GZIP, b"ok" * 9, True),
    (b"HTTP/1.1 204 None\r\nContent-Length: 2\r\n\r\n", b"", True),
    (b"HTTP/1.1 500 No\r\nX:\r\nContent-Length:3\r\nConnection: close\r\n\r\nnot", b"not", False),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
    (CHUNKED + b"1\r\noops\r\n", None, False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", None, False),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\n\r\nok", None, False),
]


class Wire(asyncio.Transport):
    """What a connection sends goes nowhere."""

    def __init__(self) -> None:
        super().__init__({"socket": Mock(**{"fileno.return_value": 0})})
        self.is_aborted = False

    def write(self, data: object) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True


def test_a_large_body_may_come_in_pieces_of_any_size() -> None:
    connection = Conversation(Mock(create_future=lambda: asyncio.Future(loop=Mock())), set(), [])
    connection.connection_made(Wire())
    waiter = connection.ask(b"", b"", 0.0)
    chunk = b"40000\r\n" + b"x" * 0x40000 + b"\r\n"
    for piece in [CHUNKED, *[chunk[:-2], chunk[-2:]] * 5, b"0\r\n", b"\r\n"]:
        connection.data_received(piece)
    answer = waiter.result()
    assert isinstance(answer, Response)
    assert answer.body == b"x" * 0x40000 * 5


def test_a_body_in_tiny_chunks_takes_no_more_memory_than_it_has_bytes() -> None:
    connection = Conversation(Mock(create_future=lambda: asyncio.Future(loop=Mock())), set(), [])
    connection.connection_made(Wire())
    waiter = connection.ask(b"", b"", 0.0)
    connection.data_received(CHUNKED)
    chunks = b"2\r\nok\r\n" * 50_000
    tracemalloc.start()
    connection.data_received(chunks)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    connection.data_received(b"0\r\n\r\n")
    assert isinstance(waiter.result(), Response)
    assert taken < 500_000


@given(st.lists(st.sampled_from(ANSWERS), min_size=1, max_size=4), st.data())
def test_an_answer_is_the_same_however_it_is_cut_into_pieces(
    answers: list[tuple[bytes, bytes | None, bool]], data: st.DataObject
) -> None:
    loop = Mock(create_future=lambda: asyncio.Future(loop=Mock()))
    idle: list[Conversation] = []
    wire, connection = Wire(), Conversation(loop, set(), idle)
    connection.connection_made(wire)
    for raw, body, keeps in answers:
        waiter = connection.ask(b"", b"", 0.0)
        places = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1))))
        for begin, end in pairwise([0, *places, len(raw)]):
            assert not waiter.done() or body is None
            connection.data_received(raw[begin:end])
        answer = waiter.result()
        assert (answer.body if isinstance(answer, Response) else None) == body
        assert bool(idle) != wire.is_aborted
        assert bool(idle) == keeps
        if not keeps:
            break
        idle.clear()


@pytest.mark.parametrize(
    "surplus",
    [b"x", b"HTTP/1.1 2", OK, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"],
)
@pytest.mark.parametrize("is_apart", [False, True])
def test_a_connection_on_which_more_came_than_was_asked_for_is_not_used_again(
    surplus: bytes, *, is_apart: bool
) -> None:
    """What comes after an answer could be taken for the next one's."""
    pieces = [OK, surplus] if is_apart else [OK + surplus]

    async def work() -> list[bytes]:
        transport = Transport(Configuration(server_api_url=server.url))
        first = await transport.request("POST", "/x")
        pool = _pool_of(transport)
        async with asyncio.timeout(DEADLINE):
            while pool.idle and not pool.idle[0].is_stale():  # the surplus is on its way
                await asyncio.sleep(0)
        second = await transport.request("POST", "/x")
        await transport.aclose()
        return [first.body, second.body]

    with RawServer([pieces], [[OK]]) as server:
        assert run(work()) == [b"ok", b"ok"]
        assert server.requests == [1, 1]


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_a_connection_that_the_server_does_not_keep_is_left(head: bytes) -> None:
    with RawServer([[head]], [[head]]) as server:
        assert [response.body for response in run(requests(server.url, 2))] == [b"ok", b"ok"]
        assert server.requests == [1, 1]


def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    with FakeServer() as server:
        server.otherwise(Answer(raw=b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nall of it"))
        assert [response.body for response in run(requests(server.url, 2))] == [b"all of it"] * 2
        assert server.connections == 2


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "another protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX\0: y\r\n\r\nok", "not HTTP"),
        (CHUNKED + b"zz\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000, "its headers do not end"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000, "its headers do not end"),
        (CHUNKED + b"2\r\nok\r\n0\r\nX: " + b"y" * 600_000, "its headers do not end"),
        (CHUNKED + b"2;x=" + b"y" * 600_000, "its headers do not end"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nok", "not asked for"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"ok" * 99)[:-9],
            "does not end",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 68000000000\r\n\r\n", "larger than 64 MB"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + gzip.compress(b"ok") * 2,
            "goes on after the end of its gzip",
        ),
    ],
)
def test_what_cannot_be_trusted_is_an_answer_error_and_says_why(raw: bytes, complaint: str) -> None:
    with FakeServer() as server:
        server.otherwise(Answer(raw=raw))
        with pytest.raises(AnswerError, match=complaint):
            run(requests(server.url))


def test_an_answer_before_the_whole_request_was_sent_is_read_and_the_connection_left() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"

    async def work(url: str) -> bytes:
        transport = Transport(Configuration(server_api_url=url))
        with pytest.raises(PodiumError, match="413"):
            await transport.request("POST", "/x", body=b"[" + b" " * 30_000_000 + b"]")
        answer = await transport.request("POST", "/x", body=b"{}")
        await transport.aclose()
        return answer.body

    with RawServer([[refusal]], [[OK]]) as server:
        assert run(work(server.url)) == b"ok"


@pytest.mark.parametrize("factory", LOOPS)
def test_a_server_that_hangs_up_is_not_sent_the_rest_of_a_request(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """It read no more, and so the loop waited with the news until the rest was sent: until the limit."""

    async def work(url: str) -> None:
        transport = Transport(Configuration(server_api_url=url))
        sending = asyncio.create_task(transport.request("POST", "/x", body=b"x" * 30_000_000, timeout=DEADLINE))
        connection, _ = await asyncio.get_running_loop().sock_accept(listener)
        connection.shutdown(socket.SHUT_WR)
        with connection, pytest.raises(CutError):
            await sending
        await transport.aclose()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        run(work(f"http://127.0.0.1:{listener.getsockname()[1]}/api"), factory)


@pytest.mark.parametrize("factory", LOOPS)
def test_large_bodies_arrive_whole(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
    async def work(url: str) -> int:
        transport = Transport(Configuration(server_api_url=url))
        response = await transport.request("POST", "/x", body=b"x" * 5_000_000)
        await transport.aclose()
        return len(response.body)

    with FakeServer() as server:
        server.otherwise(lambda request: Answer(body=request.body * 2))
        assert run(work(server.url), factory) == 10_000_000


def test_the_case_of_a_scheme_makes_no_difference() -> None:
    with FakeServer() as server:
        server.otherwise(text_answer("ok"))
        transport = Transport(Configuration(server_api_url=server.url.replace("http:", "HTTP:")))
        assert isinstance(transport._way, Direct)
        assert run(transport.request("GET", "/x")).body == b"ok"


def test_credentials_in_the_url_are_sent_and_the_path_is_encoded() -> None:
    with FakeServer() as server:
        server.otherwise(text_answer("ok"))
        run(requests(server.url.replace("//", "//us%40er:p%3Aw@").replace("/api", "/a%20b/ü/api"), method="POST"))
        request = server.requests[0]
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"us@er:p:w"
    assert request.target == "/a%20b/%C3%BC/api/x"
    assert request.headers["host"] == f"127.0.0.1:{server.port}"
    assert request.headers["content-length"] == "0"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [("/x\r\nEvil: 1", "a/b"), ("/x y", "a/b"), ("/ü", "a/b"), ("/x", "a/b\r\nEvil: 1"), ("/x", "ü")],
)
def test_what_is_not_encoded_cannot_change_a_request(path: str, content_type: str) -> None:
    async def work(url: str) -> None:
        transport = Transport(Configuration(server_api_url=url))
        with pytest.raises(ConfigError, match="not encoded"):
            await transport.request("POST", path, body=b"{}", content_type=content_type)
        await transport.aclose()

    with FakeServer() as server:
        run(work(server.url))
        assert server.connections == 0


def test_an_ipv6_address_is_named_in_brackets() -> None:
    try:
        server = FakeServer(host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        server.otherwise(text_answer("ok"))
        run(requests(f"http://[::1]:{server.port}/api"))
        assert server.requests[0].headers["host"] == f"[::1]:{server.port}"


def test_a_name_is_tried_at_each_of_its_addresses_and_at_the_one_that_was_reached_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An address that swallows everything takes half of the time for connecting: once, not with every connection."""

    def noted(pool: _Pool, address: tuple[str, int]) -> Coroutine[Any, Any, Conversation]:
        tried.append(address)
        return opened(pool, address)

    async def work(server: FakeServer) -> list[bytes]:
        addresses = [("127.0.0.2", 1), ("127.0.0.1", server.port)]
        monkeypatch.setattr("podium.direct._resolved", lambda *_: asyncio.sleep(0, addresses.copy()))
        monkeypatch.setattr(_Pool, "_opened", noted)
        answers = await requests("http://conductor.example:8080/api", 2)
        assert tried == [*addresses, addresses[1]]
        return [answer.body for answer in answers]

    tried: list[tuple[str, int]] = []
    opened = _Pool._opened
    with FakeServer() as server:
        server.otherwise(text_answer("ok", close=True))
        assert run(work(server)) == [b"ok", b"ok"]


def test_a_connection_that_fails_says_why() -> None:
    async def fail(*_: object) -> None:
        raise OSError(errno.EHOSTUNREACH, "Connect call failed ('10.0.0.1', 80)")

    async def work() -> None:
        asyncio.get_running_loop().create_connection = fail  # type: ignore[method-assign, assignment]
        await requests("http://10.0.0.1/api")

    with pytest.raises(ConnectError, match="No route to host"):
        run(work(), asyncio.new_event_loop)


@pytest.mark.parametrize("factory", LOOPS)
def test_each_request_has_its_own_limit_whatever_the_others_have(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def work(server: FakeServer, gate: Gate) -> bytes:
        transport = Transport(Configuration(server_api_url=server.url))
        kept = asyncio.create_task(transport.request("GET", "/kept"))
        for limit in (0.2, 0.05, 0.1):
            with pytest.raises(TimeoutExceededError, match=f"no answer within {limit} s"):
                await transport.request("GET", "/silent", timeout=limit)
        gate.open()
        body = (await kept).body
        await transport.aclose()
        return body

    gate = Gate()
    with FakeServer() as server:
        server.on("GET", "/api/silent", Answer(fault=Fault.SILENCE))
        server.on("GET", "/api/kept", text_answer("ok", gate=gate))
        assert run(work(server, gate), factory) == b"ok"


@pytest.mark.parametrize("factory", LOOPS)
def test_a_limit_that_is_over_at_once_troubles_no_other_request(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def work(url: str) -> list[type]:
        transport = Transport(Configuration(server_api_url=url))
        await asyncio.gather(*(transport.request("GET", "/x") for _ in range(3)))  # connecting needs no alarm
        doomed = [transport.request("POST", "/silent", timeout=limit) for limit in (0.0002, 0.0001)]
        outcomes = await asyncio.gather(*doomed, transport.request("GET", "/x"), return_exceptions=True)
        await transport.aclose()
        return [type(outcome) for outcome in outcomes]

    with FakeServer() as server:
        server.on("POST", "/api/silent", Answer(fault=Fault.SILENCE))
        server.otherwise(text_answer("ok"))
        assert run(work(server.url), factory) == [TimeoutExceededError, TimeoutExceededError, Response]


def test_a_deadline_that_passes_while_connecting_is_a_connect_error() -> None:
    async def work(url: str) -> None:
        transport = Transport(Configuration(server_api_url=url))
        with pytest.raises(ConnectError, match="no connection in time"):
            await transport.request("GET", "/x", timeout=0.1)

    with socket.socket() as listener, socket.socket() as filler:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        filler.connect(listener.getsockname())
        run(work(f"http://127.0.0.1:{listener.getsockname()[1]}/api"))


@pytest.mark.parametrize("factory", LOOPS)
def test_a_cancelled_request_takes_its_connection_along_and_no_other(
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """Its answer must not become the next request's; and the connection of a finished one may be another's by then."""

    async def work(server: FakeServer) -> list[bytes]:
        transport = Transport(Configuration(server_api_url=server.url))
        doomed = asyncio.create_task(transport.request("POST", "/doomed"))
        await asyncio.to_thread(server.wait_for, 1)
        doomed.cancel()
        await asyncio.wait([doomed])
        rounds = [transport.request("POST", f"/{number}") for number in range(30)]
        bodies = [response.body for response in await asyncio.gather(*rounds)]
        bodies += [(await transport.request("POST", f"/{number}")).body for number in range(30)]
        await transport.aclose()
        return bodies

    with FakeServer() as server:
        server.on("POST", "/api/doomed", Answer(fault=Fault.SILENCE))
        server.otherwise(lambda request: text_answer(request.path))
        assert run(work(server), factory) == [f"/api/{number}".encode() for number in range(30)] * 2


def test_connections_that_nobody_needs_any_more_are_closed() -> None:
    """Only the one that was used last is used again, and a server may keep the others open for ever."""

    async def work(server: FakeServer) -> None:
        transport = Transport(Configuration(server_api_url=server.url))
        await asyncio.gather(*(transport.request("GET", "/x") for _ in range(5)))
        pool = _pool_of(transport)
        *unused, last = pool.idle
        for connection in unused:
            connection.idle_since -= IDLE_LIMIT
        await transport.request("GET", "/x")
        assert pool.idle == [last]
        assert all(connection.is_stale() for connection in unused)
        await transport.aclose()

    with FakeServer() as server:
        server.otherwise(text_answer("ok"))
        run(work(server))
        assert server.connections == 5


@pytest.mark.parametrize("path", ["/x", "/cut", "/last"])
def test_what_a_request_leaves_needs_no_garbage_collector(path: str) -> None:
    async def work(url: str) -> int:
        transport = Transport(Configuration(server_api_url=url))
        await transport.request("POST", "/x")
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                with suppress(CutError):
                    await transport.request("POST", path)
            return sum(isinstance(thing, Conversation | FaultOfWay | Call) for thing in gc.get_objects())
        finally:
            gc.enable()
            await transport.aclose()

    with FakeServer() as server:
        server.otherwise(text_answer("ok"))
        server.on("POST", "/api/cut", Answer(fault=Fault.CUT))
        server.on("POST", "/api/last", text_answer("ok", close=True))
        assert run(work(server.url)) < 5  # there may be one in use and one that is being closed


def test_closing_reaches_the_connections_of_other_loops() -> None:
    opened = threading.Event()
    outcome: list[BaseException] = []

    def other(transport: Transport) -> None:
        async def wait() -> None:
            opened.set()
            await transport.request("POST", "/silent")

        try:
            run(wait())
        except PodiumError as error:
            outcome.append(error)

    with FakeServer() as server:
        server.otherwise(Answer(fault=Fault.SILENCE))
        transport = Transport(Configuration(server_api_url=server.url))
        thread = threading.Thread(target=other, args=(transport,))
        thread.start()
        opened.wait(DEADLINE)
        server.wait_for(1)
        run(transport.aclose())
        thread.join(DEADLINE)
        assert [type(error) for error in outcome] == [CutError]


def test_a_transport_that_is_not_closed_leaves_nothing_open_when_its_loop_ends() -> None:
    async def work(way: Transport) -> None:
        await way.request("GET", "/x")

    with FakeServer() as server:
        server.otherwise(text_answer("ok"))
        transport = Transport(Configuration(server_api_url=server.url))
        for factory in LOOPS * 3:
            run(work(transport), factory)  # an unclosed socket would be a ResourceWarning
        way = transport._way
        assert isinstance(way, Direct)
        assert len(way._pools) == 1


@pytest.mark.parametrize("factory", LOOPS)
@pytest.mark.parametrize("says_goodbye", [False, True])
def test_a_generator_that_the_end_of_its_loop_closes_may_still_use_its_client(
    factory: Callable[[], asyncio.AbstractEventLoop], *, says_goodbye: bool
) -> None:
    """The loop closes all generators at once, podium's and the user's, in no order."""
    complaints = []

    async def looks(url: str) -> AsyncIterator[str]:
        async with AsyncClient(Configuration(server_api_url=url)) as client:
            try:
                while True:
                    yield (await client.get_workflow_status("x")).status
            finally:
                if says_goodbye:
                    await client.terminate_workflow("x")

    async def work(url: str) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        kept.append(looks(url))
        assert await anext(kept[-1]) == "RUNNING"

    kept: list[AsyncIterator[str]] = []
    with FakeServer() as server:
        server.otherwise(json_answer({"workflowId": "x", "status": "RUNNING"}))
        for _ in range(10):
            run(work(server.url), factory)
    assert complaints == []
    assert len([request for request in server.requests if request.method == "DELETE"]) == 10 * says_goodbye


def test_threads_that_begin_at_once_have_a_pool_each_that_closing_finds() -> None:
    def begin(loop: asyncio.AbstractEventLoop) -> None:
        async def work() -> None:
            everyone.wait(DEADLINE)
            await way._new_pool(loop)

        loop.run_until_complete(work())

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            way, everyone = Direct(Configuration()), threading.Barrier(16)
            loops = [asyncio.new_event_loop() for _ in range(16)]
            threads = [threading.Thread(target=begin, args=(loop,)) for loop in loops]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(DEADLINE)
            assert way._pools.keys() == set(loops)
            for loop in loops:
                loop.close()
    finally:
        sys.setswitchinterval(interval)
