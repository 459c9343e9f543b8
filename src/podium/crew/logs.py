"""Writing the log records of children, as if they had been logged here."""

from __future__ import annotations

import logging
import queue
import threading
from typing import Final

from podium.logs import Repeats, hand_over
from podium.records import decode_record

logger = logging.getLogger(__name__)

#: Records that wait to be written, beyond which children have to wait with theirs.
_QUEUE_LIMIT: Final = 10_000


class ChildLogs:
    """Writes records in a thread of its own: a slow handler holds up no poll, a failing one no child."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._repeats = Repeats()

    @property
    def busy(self) -> bool:
        """Whether so many records wait to be written that no more should be read."""
        return self._queue.qsize() >= _QUEUE_LIMIT

    def write(self, message: bytes) -> None:
        """Queue a record, as its child sent it, and return at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="podium-child-logs", daemon=True)
            self._thread.start()
        self._queue.put(message)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, for at most ``timeout`` seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)
            self._thread = None

    def _run(self) -> None:
        while (message := self._queue.get()) is not None:
            name = "(unknown)"
            try:
                fields = decode_record(message)
                name = fields["name"]
                target = logging.getLogger(name)
                if target.isEnabledFor(fields["levelno"]):
                    hand_over(target, logging.makeLogRecord(fields))
            except Exception as error:  # a filter of the user's; handlers catch their own
                repeated = self._repeats.due(f"{name} {type(error).__name__}")
                if repeated is not None:
                    logger.exception("a log record of %r could not be written%s", name, repeated)
