"""A scripted HTTP server in a thread, for tests of everything that talks to Conductor.

    with FakeServer() as server:
        server.on("GET", "/api/tasks/poll/batch/greet", json_answer([task]), json_answer([]))
        ...
        assert server.wait_for(2)[1].query["count"] == "1"

Answers of a route are given in order and the last one is repeated. An answer may also be a function of the request.
It speaks HTTP/1.1 with keep-alive and breaks the protocol on request: cuts, resets, silence, junk.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    import ssl

DEADLINE = 10.0


class Gate:
    """Holds an answer back until it is opened, from any thread."""

    def __init__(self) -> None:
        self._opened: Future[None] = Future()

    def open(self) -> None:
        self._opened.set_result(None)

    async def passed(self) -> None:
        await asyncio.shield(asyncio.wrap_future(self._opened))


class Fault(Enum):
    """Ways to break off instead of answering properly."""

    CUT = auto()  # close after the request was read, nothing sent
    RESET = auto()  # the same with a TCP reset
    CUT_HEAD = auto()  # close in the middle of the headers
    CUT_BODY = auto()  # close in the middle of the body
    SILENCE = auto()  # never answer


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request as it arrived."""

    method: str
    target: str  # path and query as sent, not decoded
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    connection: int  # 1 for the first connection that was accepted, 2 for the next ...

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to send back."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False  # close the connection after this answer
    gate: Gate | None = None  # wait for it before answering
    fault: Fault | None = None
    raw: bytes | None = None  # bytes to send instead of a proper answer; the connection is closed afterwards

    def encoded(self) -> bytes:
        headers = {"Content-Length": str(len(self.body)), **self.headers}
        if self.close:
            headers["Connection"] = "close"
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} Scripted\r\n{head}\r\n".encode() + self.body


type_json = {"Content-Type": "application/json"}
type_text = {"Content-Type": "text/plain"}


def json_answer(value: Any, status: int = 200, **options: Any) -> Answer:
    return Answer(status=status, body=json.dumps(value).encode(), headers=type_json, **options)


def text_answer(text: str, status: int = 200, **options: Any) -> Answer:
    return Answer(status=status, body=text.encode(), headers=type_text, **options)


def error_answer(status: int, message: str, **fields: Any) -> Answer:
    """An error as Conductor words it."""
    return json_answer({"status": status, "message": message, "retryable": False, **fields}, status)


Scripted = Answer | Callable[[Request], Answer]


class FakeServer:
    """The server; ``url`` is what a Configuration takes."""

    def __init__(self, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self._tls = tls
        self._host = host
        self._routes: dict[tuple[str, str], list[Scripted]] = {}
        self._fallback: Scripted = error_answer(404, "No static resource.")
        self._changed = threading.Condition()
        self._conversations: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._closing: set[asyncio.StreamWriter] = set()
        self._stopping = asyncio.Event()
        self._socket = socket.create_server((host, 0))
        self.port: int = self._socket.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fake-server", daemon=True)

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/api"

    def on(self, method: str, path: str, *answers: Scripted) -> None:
        """Script a route; ``path`` is compared with the path as sent."""
        self._routes[method, path] = list(answers)

    def otherwise(self, answer: Scripted) -> None:
        """Script what no route matches (default: 404)."""
        self._fallback = answer

    def wait_for(self, count: int, path: str | None = None) -> list[Request]:
        """Return the requests (to that path) as soon as there are so many."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.to(path)) >= count, DEADLINE):
                raise AssertionError(f"{len(self.to(path))} of {count} requests to {path or 'the server'} arrived")
            return self.to(path)

    def to(self, path: str | None) -> list[Request]:
        return [request for request in list(self.requests) if path in {None, request.path}]

    def close_connections(self, *, wait: bool = True) -> None:
        """Close every connection as a server does with idle ones; wait until the clients have closed theirs too.

        Not for TLS, which cannot close one direction only.
        """

        async def close() -> None:
            open_now = dict(self._conversations)
            for writer in open_now.values():
                self._closing.add(writer)
                writer.write_eof()
            if wait:
                await asyncio.gather(*open_now)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(DEADLINE)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(DEADLINE)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._converse, sock=self._socket, ssl=self._tls, limit=1 << 20)
        await self._stopping.wait()
        server.close()
        conversations = list(self._conversations)
        for task in conversations:
            task.cancel()
        await asyncio.gather(*conversations, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        number = self.connections
        task = asyncio.current_task()
        assert task is not None
        self._conversations[task] = writer
        try:
            while await self._answer_one(number, reader, writer):
                pass
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # the client went away, which is its right, or the server is being stopped
        finally:
            del self._conversations[task]
            self._closing.discard(writer)
            writer.close()
            with suppress(OSError):  # the client may have been the one that broke it
                await writer.wait_closed()

    async def _answer_one(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read_request(number, reader)
        with self._changed:
            answer = self._scripted(request)
            self.requests.append(request)
            self._changed.notify_all()
        if answer.gate is not None:
            await answer.gate.passed()
        if writer in self._closing:  # the request and the end of the connection have crossed
            return False
        if answer.raw is not None:
            writer.write(answer.raw)
            await writer.drain()
            return False
        if answer.fault is not None:
            await _break_off(answer, writer)
            return False
        writer.write(answer.encoded())
        await writer.drain()
        return not answer.close

    def _scripted(self, request: Request) -> Answer:
        answers = self._routes.get((request.method, request.path))
        scripted = self._fallback
        if answers:
            scripted = answers.pop(0) if len(answers) > 1 else answers[0]
        return scripted(request) if callable(scripted) else scripted


async def _read_request(number: int, reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method=method, target=target, headers=headers, body=body, connection=number)


async def _break_off(answer: Answer, writer: asyncio.StreamWriter) -> None:
    match answer.fault:
        case Fault.SILENCE:
            await asyncio.Event().wait()
        case Fault.CUT_HEAD:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
        case Fault.CUT_BODY:
            whole = answer.encoded()
            writer.write(whole[: len(whole) - max(1, len(answer.body) // 2)])
        case Fault.RESET:
            # Linger of 0 s makes close() send RST instead of FIN.
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
            return
    await writer.drain()
