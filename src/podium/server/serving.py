"""Running the embedded server: socket, event loop, start and stop."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from podium.errors import ConfigError
from podium.server.app import create_app
from podium.server.service import Service
from podium.server.store import Store

#: Seconds that requests in flight get when the server stops.
_GRACE = 3
#: Seconds for which an idle connection is kept.
_KEEP_ALIVE = 75


class EmbeddedServer:
    """A Conductor server in this process.

    host, port
        Where to listen; port 0 picks a free one. On a loopback address only local host names are answered.
    db
        SQLite file, created if missing; ``:memory:`` keeps nothing.

    ``run`` serves until ``stop`` is called (from any thread) or, in the main thread, until SIGINT or SIGTERM.
    Raises ConfigError if the address or the database cannot be used.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, db: str = ":memory:") -> None:
        self._socket = _listen(host, port)
        try:
            self._store = Store(db)
        except BaseException:
            self._socket.close()
            raise
        bound = self._socket.getsockname()[1]
        #: The URL of the API.
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{bound}/api"
        service = Service(self._store)
        config = uvicorn.Config(
            create_app(service, self._store, only_local=_is_loopback(host)),
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        self._server = _Server(config, service)

    def run(self, ready: Callable[[str], None] | None = None) -> None:
        """Serve; ``ready`` is called with the URL once requests are answered."""
        if ready is not None:
            url = self.url
            self._server.when_ready = lambda: ready(url)
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()
            self._store.close()

    def stop(self) -> None:
        """Make ``run`` return soon: polls are answered at once, requests in flight get 3 s."""
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """uvicorn's server that says when it is ready, and ends long polls before it waits for requests."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.when_ready: Callable[[], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell who wanted to know."""
        await super().startup(sockets)
        if self.started and self.when_ready is not None:
            self.when_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End all waiting, then stop."""
        self._service.close()
        await super().shutdown(sockets)


def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    db: str = ":memory:",
    ready: Callable[[str], None] | None = None,
) -> None:
    """Run an embedded server until a signal stops it; see EmbeddedServer."""
    EmbeddedServer(host, port, db).run(ready)


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise ConfigError(f"port must be 0 to 65535, not {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"host: {host!r} is not an address of this machine: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
