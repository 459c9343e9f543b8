"""A small HTTP server for scrapes, in threads of its own: it answers while the engine's loop is stuck."""

from __future__ import annotations

import contextlib
import errno
import http.client
import logging
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, BinaryIO, Final, NamedTuple, cast

logger = logging.getLogger(__name__)

#: Seconds between two looks for connections that have had their time, and for the request to stop.
_TICK: Final = 0.2
#: Seconds that all connections together may take to notice that they were cut.
_FAREWELL: Final = 1.0
#: Bytes of a request line with its headers.
_LONGEST_REQUEST: Final = 8192
#: Connections at a time; the oldest is cut for the next one.
_MOST_CONNECTIONS: Final = 64


class Answer(NamedTuple):
    """What a path shows."""

    status: HTTPStatus
    content_type: str
    body: bytes


#: Answers a GET, given the path without query and the Accept header; None is a path that does not exist.
Answerer = Callable[[str, str], Answer | None]


class ScrapeServer(ThreadingHTTPServer):
    """Serves GET and HEAD, each connection for one request and a limited time."""

    daemon_threads = True
    request_queue_size = 128
    # On Windows the option means that two programs may have one port.
    allow_reuse_address = os.name == "posix"

    def __init__(self, host: str, port: int, answer: Answerer, *, connection_seconds: float = 10.0) -> None:
        """Bind; raises OSError."""
        self.answer = answer
        self._connection_seconds = connection_seconds
        self._open: dict[Any, _Connection] = {}
        self._open_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._failed = False
        self._most = min(_MOST_CONNECTIONS, _descriptors() // 8)
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Scrape)

    def server_bind(self) -> None:
        """Bind without asking DNS for this machine's name, as the base class does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def start(self) -> None:
        """Serve from now on."""
        self._thread = threading.Thread(
            target=self.serve_forever, args=(_TICK,), name="podium-metrics-http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and every connection, and wait for the threads, for a second in all."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join()
        self.server_close()
        connections = self._connections()
        for request, _ in connections:
            _cut(request)
        end = time.monotonic() + _FAREWELL
        for _, connection in connections:
            connection.thread.join(max(0.0, end - time.monotonic()))

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. If there is no file descriptor for it, take a rest: it goes on knocking meanwhile."""
        try:
            return super().get_request()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                for oldest, _ in self._connections()[:1]:
                    _cut(oldest)
                time.sleep(_TICK)
            raise

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own; make room for it if there are too many."""
        with self._open_lock:
            surplus = list(self._open)[: max(len(self._open) - self._most + 1, 0)]
            for oldest in surplus:
                del self._open[oldest]
        for oldest in surplus:
            _cut(oldest)
        thread = threading.Thread(
            target=self.process_request_thread, args=(request, client_address), name="podium-scrape", daemon=True
        )
        with self._open_lock:
            self._open[request] = _Connection(thread, time.monotonic() + self._connection_seconds)
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection, and close it."""
        with self._open_lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Cut connections that have had their time, however busy they look."""
        now = time.monotonic()
        for request, connection in self._connections():
            if now > connection.end:
                _cut(request)

    def on_failure(self, path: str) -> None:
        """Log the exception that kept a path from being answered, the first time: the next scrapes will have it too."""
        level = logging.DEBUG if self._failed else logging.ERROR
        self._failed = True
        logger.log(level, "metrics: %r could not be answered; logged once", path, exc_info=True)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Note a connection that broke: that is the client's affair, and no reason to write to stderr."""
        logger.debug("metrics: a connection from %s broke: %r", client_address, sys.exception())

    def _connections(self) -> list[tuple[Any, _Connection]]:
        with self._open_lock:
            return list(self._open.items())


class _Connection(NamedTuple):
    thread: threading.Thread
    end: float


def _cut(request: socket.socket) -> None:
    """End a connection that a thread may be waiting for: its next read is the end, its next write an error."""
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def _descriptors() -> int:
    """Return how many files this program may have open: most of them are for its work."""
    try:
        import resource
    except ImportError:  # not on Windows
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit


class _Limited:
    """Reads lines of a request, and refuses one that is too long as a whole."""

    def __init__(self, inner: BinaryIO) -> None:
        self._inner = inner
        self._left = _LONGEST_REQUEST

    def readline(self, size: int) -> bytes:
        line = self._inner.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("request")
        return line

    def close(self) -> None:
        self._inner.close()


class _Scrape(BaseHTTPRequestHandler):
    server: ScrapeServer
    #: Seconds for each read and write.
    timeout = 5
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = "text/plain; charset=utf-8"

    def setup(self) -> None:
        super().setup()
        self.rfile = cast("Any", _Limited(self.rfile))  # type: ignore[arg-type]

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except http.client.LineTooLong:
            self.close_connection = True
            self.requestline = self.request_version = self.command = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.command not in {"GET", "HEAD"}:
            status = HTTPStatus.METHOD_NOT_ALLOWED
            self._send(Answer(status, self.error_content_type, b"405 Method Not Allowed\n"), Allow="GET, HEAD")
            return False
        return True

    def do_GET(self) -> None:
        try:
            answer = self.server.answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        except Exception:
            self.server.on_failure(self.path)
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        if answer is None:
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            self._send(answer)

    do_HEAD = do_GET  # noqa: N815 - the base class's way to name a method

    def _send(self, answer: Answer, **headers: str) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def send_response(self, code: int, message: str | None = None) -> None:
        """Send a status line, and neither log it nor tell the server's name and version."""
        self.send_response_only(code, message)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        logger.debug(format, *args)
