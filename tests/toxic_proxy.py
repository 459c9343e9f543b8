"""A TCP proxy that makes a network bad: it stands between a client and a server, in a thread, and needs no privileges.

    with ToxicProxy(server.port) as proxy:
        configuration = Configuration(server_api_url=proxy.url)
        with proxy.toxic(Latency(0.3, jitter=0.2, seed=1)):
            ...
        proxy.down()  # connections are cut, new ones are refused
        proxy.up()

Toxics are added and removed from any thread while it runs, and hold for connections that are open already. Data goes
through all of them in the order in which they were added. What a toxic does to HTTP it tells by the request line that
the connection carries at the moment: clients here send a request after the answer to the one before.
"""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Self, TypeVar

T = TypeVar("T", bound="Toxic")
R = TypeVar("R")

DEADLINE = 10.0
ANY = b""
#: Request lines of what workers send, to aim a toxic at.
POLL = rb"GET \S*/tasks/poll/"
UPDATE = rb"POST \S*/tasks(/update-v2)? "


class Way(Enum):
    """A direction."""

    UP = auto()  # client to server
    DOWN = auto()  # server to client


class CutOff(Exception):  # noqa: N818 - not an error: that is what the toxic is for
    """Ends a connection; with ``reset`` by an RST instead of a FIN."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__(reset)
        self.reset = reset


class Passage:
    """One connection through the proxy."""

    def __init__(self, number: int) -> None:
        self.number = number
        #: The request line that came last; the request it belongs to may still be on its way or be answered already.
        self.request = b""
        #: Bytes that have come from each side.
        self.bytes = {Way.UP: 0, Way.DOWN: 0}
        self._answered = True

    def note(self, way: Way, data: bytes) -> None:
        self.bytes[way] += len(data)
        if way is Way.DOWN:
            self._answered = True
        elif self._answered:
            self._answered = False
            self.request = data.partition(b"\r\n")[0]


class Toxic:
    """Passes everything on. ``requests`` is a regular expression of the request lines that it is for.

    ``count`` is how often it has struck, ``struck`` when, in monotonic seconds.
    """

    def __init__(self, requests: bytes = ANY, ways: frozenset[Way] = frozenset(Way)) -> None:
        self._requests = re.compile(requests)
        self._ways = ways
        self.struck: list[float] = []

    @property
    def count(self) -> int:
        return len(self.struck)

    def strike(self) -> None:
        self.struck.append(time.monotonic())

    def is_for(self, passage: Passage, way: Way) -> bool:
        return way in self._ways and self._requests.match(passage.request) is not None

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        """Yield what goes on, in pieces; raise CutOff to end the connection."""
        yield data


class Latency(Toxic):
    """Delays each piece by so many seconds, ``jitter`` more or less."""

    def __init__(self, seconds: float, jitter: float = 0.0, seed: int = 0, **where: Any) -> None:
        super().__init__(**where)
        self._seconds, self._jitter, self._random = seconds, jitter, random.Random(seed)

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        self.strike()
        await asyncio.sleep(max(0.0, self._seconds + self._random.uniform(-self._jitter, self._jitter)))
        yield data


class Bandwidth(Toxic):
    """Lets so many bytes a second pass in each direction of a connection."""

    def __init__(self, bytes_per_second: float, **where: Any) -> None:
        super().__init__(**where)
        self._rate = bytes_per_second

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        step = max(1, int(self._rate / 20))
        for start in range(0, len(data), step):
            piece = data[start : start + step]
            await asyncio.sleep(len(piece) / self._rate)
            yield piece


class Slicer(Toxic):
    """Cuts data into pieces of so many bytes, each a packet of its own, with a pause between them."""

    def __init__(self, size: int, pause: float = 0.0, **where: Any) -> None:
        super().__init__(**where)
        self._size, self._pause = size, pause

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), self._size):
            yield data[start : start + self._size]
            await asyncio.sleep(self._pause)


class Swallow(Toxic):
    """Lets nothing through any more, and keeps the connection open: the toxic that others call timeout."""

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        self.strike()
        for _ in ():
            yield data


class Limit(Toxic):
    """Ends a connection when so many bytes have come from the server on it."""

    def __init__(self, size: int, *, reset: bool = False, **where: Any) -> None:
        super().__init__(**where, ways=frozenset({Way.DOWN}))
        self._size, self._reset = size, reset

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        surplus = passage.bytes[Way.DOWN] - self._size
        if surplus <= 0:
            yield data
            return
        if surplus < len(data):
            yield data[:-surplus]
        self.strike()
        raise CutOff(reset=self._reset)


class _Cut(Toxic):
    """Ends connections: the next ``times`` that it is for, or each by a seeded chance."""

    def __init__(
        self, *, reset: bool = False, times: int | None = None, chance: float = 1.0, seed: int = 0, **where: Any
    ) -> None:
        super().__init__(**where)
        self._reset, self._times, self._chance, self._random = reset, times, chance, random.Random(seed)

    def _maybe(self) -> None:
        if (self._times is None or self.count < self._times) and self._random.random() < self._chance:
            self.strike()
            raise CutOff(reset=self._reset)


class CutBefore(_Cut):
    """Ends a connection when a request comes, before the server has seen any of it."""

    def __init__(self, requests: bytes = ANY, **options: Any) -> None:
        super().__init__(requests=requests, ways=frozenset({Way.UP}), **options)

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        if data.startswith(passage.request):
            self._maybe()
        yield data


class CutAfter(_Cut):
    """Ends a connection when the server has answered, before the client has seen more than a share of that."""

    def __init__(self, requests: bytes = ANY, *, share: float = 0.0, **options: Any) -> None:
        super().__init__(requests=requests, ways=frozenset({Way.DOWN}), **options)
        self._share = share

    async def through(self, passage: Passage, way: Way, data: bytes) -> AsyncIterator[bytes]:
        if data.startswith(b"HTTP/"):
            try:
                self._maybe()
            except CutOff:
                if self._share:
                    yield data[: int(len(data) * self._share)]
                raise
        yield data


@dataclass(eq=False)
class _Open:
    """An open connection: its two streams."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None

    def end(self, *, reset: bool) -> None:
        for writer in (self.client, self.server):
            if writer is None:
                continue
            if reset:
                # Linger of 0 s makes close() send RST instead of FIN.
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()
            else:
                writer.close()


class ToxicProxy:
    """The proxy; ``url`` is what a Configuration takes, ``target`` the server's port, which may be set anew."""

    def __init__(self, target: int, host: str = "127.0.0.1", port: int = 0) -> None:
        self.target = target
        self._host = host
        self.accepted = 0
        self._toxics: tuple[Toxic, ...] = ()
        self._open: set[_Open] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        # Bound and not listening: it keeps the port for us while the proxy is down, and lets connections be refused.
        self._keeper = _bound_socket(host, port)
        self.port: int = self._keeper.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="toxic-proxy", daemon=True)

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self.port}/api"

    def add(self, toxic: T) -> T:
        self._toxics = (*self._toxics, toxic)
        return toxic

    def remove(self, toxic: Toxic) -> None:
        self._toxics = tuple(other for other in self._toxics if other is not toxic)

    @contextmanager
    def toxic(self, toxic: T) -> Iterator[T]:
        """Add a toxic for the length of the block."""
        self.add(toxic)
        try:
            yield toxic
        finally:
            self.remove(toxic)

    def down(self, *, reset: bool = False) -> None:
        """Cut every connection and refuse new ones; returns when that is so."""
        self._call(self._go_down(reset=reset))

    def up(self) -> None:
        """Accept connections (again)."""
        self._call(self._go_up())

    def cut_connections(self, *, reset: bool = False) -> None:
        """End every connection that is open now."""
        self._call(self._cut_all(reset=reset))

    def __enter__(self) -> Self:
        self._thread.start()
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()
        self._keeper.close()

    def _call(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE)

    async def _go_up(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, sock=_bound_socket(self._host, self.port))

    async def _go_down(self, *, reset: bool) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._cut_all(reset=reset)

    async def _cut_all(self, *, reset: bool) -> None:
        for connection in list(self._open):
            connection.end(reset=reset)

    async def _close(self) -> None:
        await self._go_down(reset=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for _ in range(3):  # transports tell of their end a turn of the loop later
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        passage, connection = Passage(self.accepted), _Open(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._open.add(connection)
        reset = False
        try:
            reset = await self._converse(passage, connection, reader)
        except asyncio.CancelledError:
            pass  # the proxy is being closed
        finally:
            connection.end(reset=reset)
            self._open.discard(connection)
            self._tasks.discard(task)

    async def _converse(self, passage: Passage, connection: _Open, reader: asyncio.StreamReader) -> bool:
        """Pass everything on until one side ends; return whether that is to be told by an RST."""
        reset = False
        try:
            server_reader, connection.server = await asyncio.open_connection("127.0.0.1", self.target)
            if self._server is None or connection.client.is_closing():  # it was on its way while the proxy went down
                return False
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(passage, Way.UP, reader, connection.server))
                both.create_task(self._pump(passage, Way.DOWN, server_reader, connection.client))
        except* CutOff as cut:
            reset = any(error.reset for error in cut.exceptions if isinstance(error, CutOff))
        except* (OSError, EOFError):
            pass  # one side went away, and so does the other
        return reset

    async def _pump(
        self, passage: Passage, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            passage.note(way, data)
            await self._send(passage, way, data, self._toxics, writer)
        raise EOFError

    async def _send(
        self, passage: Passage, way: Way, data: bytes, toxics: tuple[Toxic, ...], writer: asyncio.StreamWriter
    ) -> None:
        for number, toxic in enumerate(toxics):
            if toxic.is_for(passage, way):
                async for piece in toxic.through(passage, way, data):
                    await self._send(passage, way, piece, toxics[number + 1 :], writer)
                return
        writer.write(data)
        await writer.drain()


def _bound_socket(host: str, port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bound.bind((host, port))
    return bound
