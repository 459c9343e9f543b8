"""``podium server``: the embedded server as a program."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from podium.server import EmbeddedServer


def run_server(host: str, port: int, db: str, *, until_eof: bool) -> None:
    """Serve until SIGINT or SIGTERM, or until the end of standard input if ``until_eof``.

    Raises ConfigError if the address or the database cannot be used.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from podium.server import EmbeddedServer

    server = EmbeddedServer(host, port, db)
    if until_eof:
        threading.Thread(target=_stop_at_eof, args=(server,), name="podium-eof", daemon=True).start()
    server.run(ready=lambda url: _announce(url, db))


def _leave(_number: int, _frame: object) -> NoReturn:
    """End with success, as a signal is the usual way to stop a server; uvicorn stops first, then raises it again."""
    sys.exit(0)


def _announce(url: str, db: str) -> None:
    where = "in memory" if db == ":memory:" else f"in {db}"
    # Flushed, because a program may be waiting for this line at the other end of a pipe.
    print(f"podium server ready at {url} ({where}); for workers: export CONDUCTOR_SERVER_URL={url}", flush=True)


def _stop_at_eof(server: EmbeddedServer) -> None:
    # Not through sys.stdin: a thread that is blocked in it breaks the interpreter's shutdown.
    while os.read(0, 4096):
        pass
    server.stop()
