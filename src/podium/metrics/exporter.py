"""MetricsExporter: shows a collector's numbers, over HTTP and in a file."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from podium.errors import StartError
from podium.metrics.serving import Answer, ScrapeServer
from podium.metrics.textfile import TextFile

if TYPE_CHECKING:
    from podium.metrics.collector import MetricsCollector
    from podium.metrics.settings import MetricsSettings

logger = logging.getLogger(__name__)

#: Answers a probe's question: whether all is well, and the facts that are shown besides.
HealthSource = Callable[[], tuple[bool, dict[str, Any]]]

#: Seconds until the lack of an answer is the answer.
_HEALTH_LIMIT: Final = 2.0
_TEXT: Final = "text/plain; charset=utf-8"
_INDEX: Final = b"""podium worker
/metrics       Prometheus metrics
/health/live   200 while podium's loops turn, else 503
/health/ready  200 while every worker can take work, else 503
/health        200 while every worker does its work, else 503
"""


class MetricsExporter:
    """Shows the numbers of a collector where the settings say: over HTTP, in a file, or both.

    ``probes`` has what answers each path under ``/health``. It is asked in another thread, and has 2 s. It returns
    whether all is well, and a dict to show with it.
    """

    def __init__(
        self, settings: MetricsSettings, collector: MetricsCollector, probes: Mapping[str, HealthSource]
    ) -> None:
        self._settings = settings
        self._collector = collector
        self._probes = {path: _Probe(source) for path, source in probes.items()}
        self._server: ScrapeServer | None = None
        self._file: TextFile | None = None

    @property
    def port(self) -> int | None:
        """The port of HTTP; None if it is not served."""
        return None if self._server is None else self._server.server_port

    @property
    def file_path(self) -> Path | None:
        """The file that is written; None if there is none."""
        return None if self._file is None else self._file.path

    def start(self) -> None:
        """Bind the port and write the file for the first time; may be called again after ``stop``.

        Raises StartError, with the fix, if the port or the file cannot be had; nothing is left running then.
        """
        if self._server is not None or self._file is not None:
            return
        settings = self._settings
        server = None
        if settings.http_port is not None:
            server = self._bound(settings.http_host, settings.http_port)
        path = settings.file_path
        if path is not None:
            file = TextFile(path, settings.update_interval, lambda: self._collector.render()[0])
            try:
                file.start()
            except OSError as error:
                if server is not None:
                    server.stop()
                raise StartError(
                    f"metrics: {path} cannot be written: {error.strerror or error}; choose a folder that this program "
                    "may write to with MetricsSettings(directory=...), or serve HTTP only with http_port=..."
                ) from error
            self._file = file
            logger.info("metrics: written to %s", path)
        if server is not None:
            server.start()
            self._server = server
            host = f"[{settings.http_host}]" if ":" in settings.http_host else settings.http_host
            logger.info("metrics: http://%s:%d/metrics and /health, /health/live, /health/ready", host, self.port)

    def stop(self) -> None:
        """Close the port, write the file for the last time, and end the threads."""
        server, file = self._server, self._file
        self._server = self._file = None
        if server is not None:
            server.stop()
        if file is not None:
            file.stop()

    def _bound(self, host: str, port: int) -> ScrapeServer:
        try:
            return ScrapeServer(host, port, self._answer)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StartError(
                f"metrics: cannot listen at {host}, port {port}: {reason}; choose another port with "
                "MetricsSettings(http_port=...), where 0 takes a free one, or an address of this machine as http_host"
            ) from error

    def _answer(self, path: str, accept: str) -> Answer | None:
        if path == "/metrics":
            body, content_type = self._collector.render(accept)
            return Answer(HTTPStatus.OK, content_type, body)
        if (probe := self._probes.get(path)) is not None:
            well, shown = probe.ask()
            status = HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE
            word = {"status": "UP" if well else "DOWN"}
            return Answer(status, "application/json", json.dumps(word | shown | word, default=str).encode())
        return Answer(HTTPStatus.OK, _TEXT, _INDEX) if path == "/" else None


class _Probe:
    """Asks a source that may hang: all who ask meanwhile share one question, and none waits for ever."""

    def __init__(self, source: HealthSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._asked: Future[tuple[bool, dict[str, Any]]] | None = None

    def ask(self) -> tuple[bool, dict[str, Any]]:
        with self._lock:
            asked = self._asked
            if asked is None:
                asked = self._asked = Future()
                threading.Thread(target=self._fetch, args=(asked,), name="podium-health", daemon=True).start()
        try:
            return asked.result(_HEALTH_LIMIT)
        except TimeoutError:
            return False, {"error": f"the workers' state could not be read within {_HEALTH_LIMIT:g} s"}

    def _fetch(self, asked: Future[tuple[bool, dict[str, Any]]]) -> None:
        try:
            answer = self._source()
        except BaseException as error:
            answer = False, {"error": f"the workers' state could not be read: {type(error).__name__}: {error}"}
        with self._lock:
            self._asked = None
        asked.set_result(answer)
