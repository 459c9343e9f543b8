"""For tests: a Conductor server that starts in milliseconds, in this process.

    with local_server() as server:
        configuration = Configuration(server_api_url=server.url)

As a pytest fixture::

    @pytest.fixture(scope="session")
    def conductor():
        with local_server() as server:
            yield server
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from podium.errors import StartError

#: Seconds within which the server must answer, and must have stopped.
_PATIENCE = 10.0


class LocalServer:
    """A running embedded server. ``url`` is its API URL, ending in ``/api``."""

    def __init__(self, db: str = ":memory:", port: int = 0) -> None:
        from podium.server import EmbeddedServer  # only now: importing podium must stay cheap

        self._server = EmbeddedServer(port=port, db=db)
        self.url: str = self._server.url
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="podium-local-server", daemon=True)
        self._thread.start()
        if not self._ready.wait(_PATIENCE) or self._failure is not None:
            self.stop()
            raise StartError("the local server did not start") from self._failure

    def stop(self) -> None:
        """Stop the server and wait until it is gone. Stopping twice is fine."""
        self._server.stop()
        self._thread.join(_PATIENCE)

    def _run(self) -> None:
        try:
            self._server.run(ready=lambda _url: self._ready.set())
        except BaseException as error:  # the thread that started us reports it
            self._failure = error
        finally:
            self._ready.set()


@contextmanager
def local_server(db: str = ":memory:", port: int = 0) -> Iterator[LocalServer]:
    """Run an embedded server in a background thread.

    ``db`` is a SQLite file or ``:memory:`` (default), ``port`` 0 (default) picks a free one. The server listens on
    127.0.0.1. Raises ConfigError if the file or the port cannot be used, StartError if the server does not come up.
    """
    server = LocalServer(db, port)
    try:
        yield server
    finally:
        server.stop()
