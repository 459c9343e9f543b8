"""What a child says besides frames: its log records, and what it writes to standard error."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from podium.records import MAX_RECORD, SEND_SECONDS

if TYPE_CHECKING:
    import socket

    from podium.crew.logs import ChildLogs
    from podium.descriptor import Descriptor

#: Log records that are read in one turn of the loop, so that a child that floods does not hold up the others; and
#: those that are read of a dead child, which are more than its connection holds.
_RECORDS_PER_TURN: Final = 100
_LAST_RECORDS: Final = 10_000
#: Seconds after which more is read, if what was read before could not be written so fast.
_PAUSE: Final = 0.1
#: Bytes of standard error that are read at once, chunks of it that are read of a dead child, and bytes that are kept:
#: the stacks of all threads of a child that died of a fault, and what is told in any other case.
_CHUNK: Final = 64 * 1024
_LAST_CHUNKS: Final = 16
_KEPT: Final = 64 * 1024
_TAIL: Final = 2048


class RecordStream:
    """Takes the log records of one child, if they can be written as fast as they come; else the child has to wait."""

    def __init__(self, channel: socket.socket, logs: ChildLogs) -> None:
        self._channel = channel
        self._logs = logs
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(channel, self._on_readable)

    def close(self) -> None:
        """Take what a dead child has left, and close the connection."""
        self._read(_LAST_RECORDS)
        self._close()

    def _on_readable(self) -> None:
        if self._logs.busy:
            self._loop.remove_reader(self._channel)
            self._loop.call_later(_PAUSE, self._resume)
        else:
            self._read(_RECORDS_PER_TURN)

    def _resume(self) -> None:
        if self._channel.fileno() != -1:
            self._loop.add_reader(self._channel, self._on_readable)

    def _read(self, most: int) -> None:
        for _ in range(most):
            if self._channel.fileno() == -1:
                return
            try:
                message = self._channel.recv(MAX_RECORD)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if message:
                self._logs.write(message)
            else:
                self._close()

    def _close(self) -> None:
        if self._channel.fileno() != -1:
            self._loop.remove_reader(self._channel)
            self._channel.close()


class ErrorStream:
    """Passes on what a child writes to standard error, and keeps the end of it.

    If it cannot be written as fast as it comes, the child has to wait, but not for ever: then it is dropped.
    """

    def __init__(self, pipe: Descriptor, logs: ChildLogs) -> None:
        self._pipe = pipe
        self._logs = logs
        self._kept = b""
        self._loop = asyncio.get_running_loop()
        #: Monotonic time since which nothing could be passed on; 0 if that is not so.
        self._held_since = 0.0
        logs.pipes.add(pipe)
        self._loop.add_reader(pipe, self._on_readable)

    @property
    def tail(self) -> str:
        """The last 2 kB or so."""
        return self._kept[-_TAIL:].decode("utf-8", "backslashreplace").strip()

    @property
    def kept(self) -> str:
        """The last 64 kB: enough for what ``faulthandler`` writes about a child of many threads."""
        return self._kept.decode("utf-8", "backslashreplace")

    def finish(self) -> None:
        """Take what a dead child has left. What it has started may go on writing."""
        for _ in range(_LAST_CHUNKS):
            if not self._read():
                break

    def _on_readable(self) -> None:
        if not self._logs.busy_with_errors:
            self._held_since = 0.0
            self._read()
            return
        now = time.monotonic()
        self._held_since = self._held_since or now
        if now - self._held_since > SEND_SECONDS:
            self._read()
        else:
            self._loop.remove_reader(self._pipe)
            self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._pipe.fileno() != -1:
            self._loop.add_reader(self._pipe, self._on_readable)

    def _read(self) -> bool:
        """Read a chunk; return whether there was any."""
        if self._pipe.fileno() == -1:
            return False
        try:
            data = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._pipe)
            self._logs.pipes.discard(self._pipe)
            self._pipe.close()
            return False
        self._kept = (self._kept + data)[-_KEPT:]
        self._logs.write_errors(data)
        return True
