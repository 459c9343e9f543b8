"""Writing the log records of children, as if they had been logged here."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Any

logger = logging.getLogger(__name__)


class ChildLogs:
    """Writes records in a thread of its own: a slow handler holds up no poll, a failing one no child."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def write(self, fields: dict[str, Any]) -> None:
        """Queue a record and return at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="podium-child-logs", daemon=True)
            self._thread.start()
        self._queue.put(fields)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, for at most ``timeout`` seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)
            self._thread = None

    def _run(self) -> None:
        while (fields := self._queue.get()) is not None:
            try:
                target = logging.getLogger(fields["name"])
                if target.isEnabledFor(fields["levelno"]):
                    target.handle(logging.makeLogRecord(fields))
            except Exception:  # a filter of the user's; handlers catch their own
                logger.exception("a log record of %r could not be written", fields.get("name"))
