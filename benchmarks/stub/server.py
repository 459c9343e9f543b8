"""The stub's HTTP: the worker API of a Conductor server, and, outside of /api, what the bench asks and tells.

GET  /api/tasks/ID                 a task that was handed out, and has not ended
GET  /api/tasks/poll/batch/TYPE    up to ``count`` tasks; waits up to ``timeout`` ms for the first
POST /api/tasks                    a result, or a heartbeat
POST /api/tasks/update-v2          a result; answers with the next task of the same type, or 204
POST /api/tasks/ID/log             a log line

POST /bench/start                  tasks are available from now on
POST /bench/release                the driver may end
GET  /bench/polled, /bench/finished, /bench/done    answer when every type was polled for, every task has ended,
                                   the driver was released; 408 after ``timeout`` ms
GET  /bench/progress               how many tasks have ended
GET  /bench/figures                everything that was counted, as JSON
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

import httptools
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from benchmarks.stub.tasks import Queue, Store

_POLL: Final = b"/api/tasks/poll/batch/"
_NO_SUCH_TASK: Final = b'{"status":404,"message":"no such task"}'
_HEADS: Final = {
    200: b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
    204: b"HTTP/1.1 204 No Content\r\n\r\n",
    400: b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
    404: b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
    408: b"HTTP/1.1 408 Request Timeout\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
}


class _Result(msgspec.Struct):
    """What the stub reads of a task result."""

    task_id: str = msgspec.field(name="taskId")
    status: str = "IN_PROGRESS"


class Stub:
    """The server: its tasks, what it counts, and the polls that wait."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.requests: Counter[str] = Counter()
        self.connections = 0
        self._requests_at_start = self._requests_at_end = 0
        self._polled, self._finished, self._released = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._waiting: set[_LongPoll] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._decoder = msgspec.json.Decoder(_Result)

    def connect(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self)

    def serve(self, connection: Connection, method: bytes, target: bytes, body: bytes) -> None:
        """Answer a request, now or later."""
        path, _, query = target.partition(b"?")
        if path.startswith(_POLL):
            self.requests["poll"] += 1
            self._poll(connection, path[len(_POLL) :], query)
        elif path == b"/api/tasks/update-v2":
            self.requests["update_v2"] += 1
            self._update(connection, body, wants_next=True)
        elif path == b"/api/tasks" and method == b"POST":
            self.requests["update"] += 1
            self._update(connection, body, wants_next=False)
        elif path.startswith(b"/api/tasks/") and path.endswith(b"/log"):
            self.requests["log"] += 1
            connection.answer(200)
        elif path.startswith(b"/api/tasks/"):
            self.requests["look"] += 1
            self._show(connection, path[len(b"/api/tasks/") :].decode())
        elif path.startswith(b"/bench/"):
            self._control(connection, path[len(b"/bench/") :].decode(), _numbers(query))
        else:
            self.requests["other"] += 1
            connection.answer(404, b'{"status":404,"message":"the stub has only the worker API"}')

    def _poll(self, connection: Connection, name: bytes, query: bytes) -> None:
        queue = self.store.queue(name.decode())
        if queue is None:
            connection.answer(200, b"[]")
            return
        self.store.note_poll(queue)
        if self.store.all_polled:
            self._polled.set()
        wanted = _numbers(query)
        poll = _LongPoll(self, connection, queue, wanted.get("count", 1), wanted.get("timeout", 100))
        poll.look()

    def keep(self, poll: _LongPoll) -> None:
        """Let a poll wait; it looks again when the tasks become available."""
        self._waiting.add(poll)

    def drop(self, poll: _LongPoll) -> None:
        """Forget a poll that waits no more."""
        self._waiting.discard(poll)

    def _update(self, connection: Connection, body: bytes, *, wants_next: bool) -> None:
        try:
            result = self._decoder.decode(body)
        except msgspec.DecodeError:
            connection.answer(400, b'{"status":400,"message":"not a task result"}')
            return
        queue = self.store.finish(result.task_id, result.status)
        if queue is None:
            connection.answer(404, _NO_SUCH_TASK)
        elif not wants_next:
            connection.answer(200, result.task_id.encode())
        elif tasks := self.store.take(queue, 1):
            connection.answer(200, tasks[0])
        else:
            connection.answer(204)
        if self.store.finished and not self._finished.is_set():
            self._requests_at_end = self.requests.total()
            self._finished.set()

    def _show(self, connection: Connection, task_id: str) -> None:
        task = self.store.show(task_id)
        if task is None:
            connection.answer(404, _NO_SUCH_TASK)
        else:
            connection.answer(200, task)

    def _control(self, connection: Connection, what: str, numbers: dict[str, int]) -> None:
        """Do what the bench asks for. None of it is counted."""
        events = {"polled": self._polled, "finished": self._finished, "done": self._released}
        if what in events:
            self._spawn(self._answer_after(connection, events[what], numbers.get("timeout", 600_000) / 1000))
            return
        match what:
            case "start":
                self._requests_at_start = self.requests.total()
                self.store.start()
                for poll in list(self._waiting):
                    poll.look()
                connection.answer(200)
            case "release":
                self._released.set()
                connection.answer(200)
            case "progress":
                connection.answer(200, b"%d" % (self.store.completed + self.store.failed))
            case "figures":
                connection.answer(200, msgspec.json.encode(self.figures()))
            case _:
                connection.answer(404)

    def figures(self) -> dict[str, Any]:
        """Return everything that was counted."""
        figures = self.store.figures()
        ended = figures["completed"] + figures["failed"]
        sent = (self._requests_at_end or self.requests.total()) - self._requests_at_start
        requests = dict(self.requests, total=self.requests.total())
        per_task = sent / ended if ended else 0.0
        return figures | {"requests": requests, "requests_per_task": per_task, "connections": self.connections}

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    @staticmethod
    async def _answer_after(connection: Connection, event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            connection.answer(408)
        else:
            connection.answer(200)


class _LongPoll:
    """A poll, which waits if there is nothing yet."""

    def __init__(self, stub: Stub, connection: Connection, queue: Queue, count: int, timeout_ms: int) -> None:
        self._stub = stub
        self._connection = connection
        self._queue = queue
        self._count = count
        self._deadline = time.monotonic() + timeout_ms / 1000
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Answer if there are tasks or the time is over; else look again when either will be so."""
        if self._timer is not None:
            self._timer.cancel()
        tasks = self._stub.store.take(self._queue, self._count)
        now = time.monotonic()
        if tasks or now >= self._deadline:
            self._stub.drop(self)
            self._connection.answer(200, b"[" + b",".join(tasks) + b"]")
            return
        self._stub.keep(self)
        again = min(self._deadline, self._stub.store.due(self._queue))
        self._timer = asyncio.get_running_loop().call_later(max(again - now, 0.0), self.look)


class Connection(asyncio.Protocol):
    """One client's connection: a request at a time."""

    def __init__(self, stub: Stub) -> None:
        self._serve: Callable[[Connection, bytes, bytes, bytes], None] = stub.serve
        self._stub = stub
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._target = b""
        self._body: list[bytes] = []
        self._keep_alive = True
        self._is_counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take note of the way back."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit it

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the way back: an answer that is still to come has nobody to go to."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target."""
        self._target += url

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Serve the request."""
        target, self._target = self._target, b""
        body = b"".join(self._body)
        self._body.clear()
        self._keep_alive = self._parser.should_keep_alive()
        if not self._is_counted and target.startswith(b"/api/"):
            self._is_counted = True
            self._stub.connections += 1
        self._serve(self, self._parser.get_method(), target, body)

    def answer(self, status: int, body: bytes = b"") -> None:
        """Answer the request."""
        if self._transport is None:
            return
        head = _HEADS[status]
        self._transport.write(head if status == 204 else head % len(body) + body)
        if not self._keep_alive:
            self._transport.close()


def _numbers(query: bytes) -> dict[str, int]:
    """Return the parameters of a query that are numbers."""
    pairs = (pair.partition(b"=") for pair in query.split(b"&"))
    return {name.decode(): int(value) for name, _, value in pairs if value.isdigit()}
