"""No SDK: connections that poll and complete, one task at a time each, on one event loop, without checks or retries.

What it costs is what the protocol itself costs in Python with the fastest parts that there are (uvloop, httptools,
msgspec): nothing that keeps a promise can be faster.
"""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import urllib.request
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httptools
import msgspec

from podium.loops import loop_factory

_UPDATE: Final = (
    b"POST %s/tasks/update-v2 HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
)
_POLL: Final = b"GET %s/tasks/poll/batch/%s?count=1&timeout=1000&workerid=bare HTTP/1.1\r\nHost: %s\r\n\r\n"


class _Task(msgspec.Struct, rename="camel"):
    task_id: str
    workflow_instance_id: str
    input_data: dict[str, Any]


class _Result(msgspec.Struct, rename="camel"):
    task_id: str
    workflow_instance_id: str
    output_data: dict[str, Any]
    status: str = "COMPLETED"
    worker_id: str = "bare"


def work(order_id: str, amount: float) -> dict[str, Any]:
    """Do nothing."""
    return {"ok": True}


class Lane(asyncio.Protocol):
    """One connection: polls until there is a task, completes it, goes on with the one that the answer brings."""

    _task: Final = msgspec.json.Decoder(_Task)
    _tasks: Final = msgspec.json.Decoder(list[_Task])
    _encoder: Final = msgspec.json.Encoder()

    def __init__(self, host: str, base: str, task_type: str) -> None:
        self._poll = _POLL % (base.encode(), task_type.encode(), host.encode())
        self._head = base.encode(), host.encode()
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._body: list[bytes] = []
        self._polling = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Poll."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit it
        self._transport.write(self._poll)

    def data_received(self, data: bytes) -> None:
        """Read answers."""
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Complete the task that the answer brings, or poll."""
        assert self._transport is not None
        body = b"".join(self._body)
        self._body.clear()
        if self._polling:
            tasks = self._tasks.decode(body)
            task = tasks[0] if tasks else None
        else:
            task = self._task.decode(body) if body else None
        self._polling = task is None
        if task is None:
            self._transport.write(self._poll)
            return
        result = _Result(task.task_id, task.workflow_instance_id, work(**task.input_data))
        text = self._encoder.encode(result)
        self._transport.write(_UPDATE % (*self._head, len(text)) + text)


async def work_on(url: str, task_types: list[str], concurrency: int) -> None:
    """Run ``concurrency`` lanes for each type, for good."""
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    for name in task_types:
        lane = functools.partial(Lane, parts.netloc, parts.path, name)
        for _ in range(concurrency):
            await loop.create_connection(lane, parts.hostname or "", parts.port or 80)
    await loop.create_future()


def _run() -> None:
    env = os.environ
    work_for = work_on(env["CONDUCTOR_SERVER_URL"], env["BENCH_TASK_TYPES"].split(","), int(env["BENCH_CONCURRENCY"]))
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(work_for)


def main() -> None:
    """Work until told to stop."""
    threading.Thread(target=_run, daemon=True).start()
    with urllib.request.urlopen(os.environ["BENCH_DONE_URL"]) as answer:
        answer.read()


if __name__ == "__main__":
    main()
