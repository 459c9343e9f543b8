"""The short way to a server: HTTP/1.1 over plain TCP on the caller's own event loop, no thread in between.

A connection carries one request at a time. It is used again unless the server says otherwise, anything is odd about
its answer, or it may be stale.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from podium.alarm import Alarm
from podium.answers import Response, printable
from podium.call import IDLE_LIMIT, Fault, Heads
from podium.conversation import Conversation
from podium.errors import ConnectError, CutError, TimeoutExceededError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from podium.call import Call
    from podium.config import Configuration

#: What a forked child has from its parent. Never used, and never finalized: the descriptors are the parent's too.
_inherited: list[object] = []


class Direct:
    """Connections to one server without TLS and proxy, a pool for each event loop that uses them."""

    def __init__(self, configuration: Configuration) -> None:
        url = urlsplit(configuration.host)
        assert url.scheme == "http", "TLS goes another way"
        assert url.hostname is not None, "the configuration checks its URL"
        self._address = (url.hostname, url.port or 80)
        self._connect_timeout = configuration.connect_timeout
        self._heads = Heads(configuration.host)
        self._pools: dict[asyncio.AbstractEventLoop, _Pool] = {}  # without a lock: each step on it is one for threads
        self._pid = os.getpid()
        self._is_closed = False

    async def exchange(self, call: Call, token: str | None) -> Response:
        """Send a request and return its answer, whatever its status; raises Fault if none came."""
        loop = asyncio.get_running_loop()
        pool = self._pools.get(loop)
        if pool is None or self._pid != os.getpid():
            pool = await self._new_pool(loop)
        head = self._heads.of(call, token)
        return await pool.exchange(head, call.body or b"", call.timeout)

    async def aclose(self) -> None:
        """Close all connections, also those of other loops; requests under way end with a CutError."""
        self._is_closed = True
        if self._pid != os.getpid():
            _inherited.append(self._pools)
            return
        here = self._pools.pop(asyncio.get_running_loop(), None)
        for loop, pool in self._pools.copy().items():
            with suppress(RuntimeError):  # the loop is closed, and its connections are with it
                loop.call_soon_threadsafe(pool.close)
        if here is not None:
            here.close()
            await here.keeper.aclose()
            await asyncio.sleep(0)  # the loop closes the sockets in its next turn

    async def _new_pool(self, loop: asyncio.AbstractEventLoop) -> _Pool:
        if self._pid != os.getpid():
            _inherited.append(self._pools)
            self._pools, self._pid = {}, os.getpid()
        for known in self._pools.copy():
            if known.is_closed():
                self._pools.pop(known, None)
        pool = self._pools[loop] = _Pool(loop, self._address, self._connect_timeout)
        await anext(pool.keeper)
        if self._is_closed:  # by another thread, which may have missed this pool
            pool.close()
        return pool


class _Pool:
    """The connections of one event loop. Its ``keeper`` leaves none of them open when the loop shuts down."""

    def __init__(self, loop: asyncio.AbstractEventLoop, address: tuple[str, int], connect_timeout: float) -> None:
        self.loop = loop
        self.busy: set[Conversation] = set()
        self.idle: list[Conversation] = []
        self.keeper = self._keep()
        self._address = address
        self._reached: tuple[str, int] | None = None  # which of its addresses
        self._connect_timeout = connect_timeout
        self._is_closed = False
        self._is_ending = False
        self._alarm = Alarm(loop, self._end_what_is_late)

    async def exchange(self, head: bytes, body: bytes, timeout: float) -> Response:  # noqa: ASYNC109 - an alarm for all of them
        deadline = self.loop.time() + timeout
        connection = self._usable() or await self._connected(deadline)
        waiter = connection.ask(head, body, deadline)
        self._alarm.by(deadline)
        try:
            answer = await waiter
        finally:
            # Either the caller was cancelled, and the answer will be nobody's, or nobody will use the connection again.
            if connection.waiter is waiter or (self._is_ending and connection.waiter is None):
                connection.end()
        if isinstance(answer, Fault):
            try:
                raise answer
            finally:
                del answer, waiter  # what they hold has a traceback with this frame in turn: a cycle
        return answer

    def close(self) -> None:
        self._is_closed = True
        self._alarm.cancel()
        for connection in [*self.busy, *self.idle]:
            connection.fail(CutError, "the connection was closed")

    async def _keep(self) -> AsyncGenerator[None, None]:
        """End idle connections when the loop ends its asynchronous generators, which it does last of all.

        Those of users may have requests under way then, and send more: each over a connection that is not kept. It
        awaits nothing, because whoever closes a generator at the same time would be told that it is running already.
        """
        try:
            yield
        finally:
            self._is_ending = True
            for connection in self.idle:
                connection.end()

    def _usable(self) -> Conversation | None:
        oldest = self.loop.time() - IDLE_LIMIT
        while self.idle and self.idle[0].idle_since <= oldest:  # the longest idle is the first
            self.idle.pop(0).end()
        while self.idle:
            connection = self.idle.pop()
            if not connection.is_stale():
                return connection
            connection.end()
        return None

    async def _connected(self, deadline: float) -> Conversation:
        """Open a connection; of the time, each address of the server has an equal share of what is left."""
        end = min(deadline, self.loop.time() + self._connect_timeout)
        cause = "no connection in time"
        try:
            async with asyncio.timeout_at(end):
                addresses = await _resolved(self.loop, *self._address)
            addresses.sort(key=lambda address: address != self._reached)  # one that is dead costs its time only once
            for number, address in enumerate(addresses):
                now = self.loop.time()
                try:
                    async with asyncio.timeout_at(now + (end - now) / (len(addresses) - number)):
                        return await self._opened(address)
                except OSError as error:
                    cause = _trouble(error)
        except OSError as error:
            cause = _trouble(error)
        raise Fault(ConnectError, cause)

    async def _opened(self, address: tuple[str, int]) -> Conversation:
        _, connection = await self.loop.create_connection(
            lambda: Conversation(self.loop, self.busy, self.idle), *address
        )
        if self._is_closed:
            connection.end()
            raise Fault(ConnectError, "the connection was closed")
        self._reached = address
        return connection

    def _end_what_is_late(self, now: float) -> float:
        for connection in [connection for connection in self.busy if connection.deadline <= now]:
            connection.fail(TimeoutExceededError, "no answer")
        return min((connection.deadline for connection in self.busy), default=math.inf)


async def _resolved(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[tuple[str, int]]:
    """Return the addresses of a host; one that is an address already costs no thread."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return [(host, port)]
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except RuntimeError:  # the program is ending, and asyncio starts no thread for it any more
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys((str(address[0]), port) for *_, address in found))


def _trouble(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return f"the host name does not resolve: {printable(error.strerror or str(error))}"
    return os.strerror(error.errno) if error.errno else printable(str(error))  # asyncio's own words name no cause
