"""Writing the log records of children, as if they had been logged here, and what they write to standard error."""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
from typing import TYPE_CHECKING, Final

from podium.logs import Repeats, hand_over
from podium.records import SEND_SECONDS, decode_record

if TYPE_CHECKING:
    from podium.descriptor import Descriptor

logger = logging.getLogger(__name__)

#: Records that wait to be written, beyond which children have to wait with theirs.
_QUEUE_LIMIT: Final = 10_000
#: The same for bytes of standard error.
_ERRORS_LIMIT: Final = 1024 * 1024
#: The standard error that a process inherits, whatever ``sys.stderr`` is.
_STDERR: Final = 2


class ChildLogs:
    """Writes in a thread of its own: a slow handler or terminal holds up no poll, a failing one no child."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[bytes, bool] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._repeats = Repeats()
        #: Bytes of standard error that were queued, and written; each is counted by one thread alone.
        self._errors_queued = 0
        self._errors_written = 0
        #: Bytes that were not even queued, and how many of those were told.
        self._errors_skipped = self._skipped_told = 0
        #: Bytes that nobody took in time. While there are any, nothing waits for it any more.
        self._errors_dropped = 0
        #: Pipes that are still open, because what a dead child has started may write there.
        self.pipes: set[Descriptor] = set()

    @property
    def busy(self) -> bool:
        """Whether so many records wait to be written that no more should be read."""
        return self._queue.qsize() >= _QUEUE_LIMIT

    @property
    def busy_with_errors(self) -> bool:
        """The same for what children write to standard error."""
        return self._errors_queued - self._errors_written >= _ERRORS_LIMIT or self.busy

    def write(self, message: bytes) -> None:
        """Queue a record, as its child sent it, and return at once."""
        self._put((message, False))

    def write_errors(self, data: bytes) -> None:
        """Queue what a child has written to its standard error, for this process's own, and return at once.

        While too much waits already, it is dropped.
        """
        if self.busy_with_errors:
            self._errors_skipped += len(data)
            return
        self._errors_queued += len(data)
        self._put((data, True))

    def _put(self, entry: tuple[bytes, bool]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="podium-child-logs", daemon=True)
            self._thread.start()
        self._queue.put(entry)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, for at most ``timeout`` seconds."""
        for pipe in self.pipes:
            pipe.close()
        self.pipes.clear()
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)
            self._thread = None

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            data, is_errors = entry
            if is_errors:
                self._pass_on(data)
                self._errors_written += len(data)
            else:
                self._write_record(data)

    def _write_record(self, message: bytes) -> None:
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

    def _pass_on(self, data: bytes) -> None:
        """Write to standard error, unless nobody takes it: neither children nor their log records may wait for ever."""
        if sys.__stderr__ is None:  # the program was started without one: the number may be anything's by now
            return
        rest = memoryview(data)
        while rest:
            try:
                if not _takes_errors(0 if self._errors_dropped else SEND_SECONDS):
                    break
                # No more than a pipe or terminal that has room takes at once.
                rest = rest[os.write(_STDERR, rest[: select.PIPE_BUF]) :]
            except OSError:  # closed, or its reader is gone: there is nobody to tell
                return
        if rest:
            self._errors_dropped += len(rest)
        else:
            self._tell_dropped()

    def _tell_dropped(self) -> None:
        skipped = self._errors_skipped
        dropped = self._errors_dropped + skipped - self._skipped_told
        self._errors_dropped, self._skipped_told = 0, skipped
        if dropped:
            logger.warning(
                "%d bytes that worker processes wrote to standard error were dropped, because nobody took them within "
                "%d s", dropped, SEND_SECONDS,
            )  # fmt: skip


def _takes_errors(seconds: float) -> bool:
    """Wait until standard error can be written to; raise OSError if nobody will read it any more."""
    poll = select.poll()
    poll.register(_STDERR, select.POLLOUT)
    found = poll.poll(seconds * 1000)
    if found and not found[0][1] & select.POLLOUT:  # a write would raise a signal that the program may not ignore
        raise BrokenPipeError
    return bool(found)
