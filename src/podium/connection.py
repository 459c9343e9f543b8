"""A child's end of the connection for frames: any thread says what it has to say itself, and none waits.

An outcome is with the system, or with a thread that is sending already, before its own thread takes up the next task:
whatever the event loop does meanwhile, and next to whatever the next task does to the process.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from podium.frames import FrameReader, ToChild, encode

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable, Iterable

    from podium.frames import ToParent

#: Bytes that are read at once.
_PIECE: Final = 64 * 1024


class Connection:
    """The connection, from the parent's first word on; ``gone`` is called when the parent has closed its end."""

    def __init__(self, sock: socket.socket, gone: Callable[[], object]) -> None:
        self._sock = sock
        self._gone = gone
        self._reader: FrameReader[ToChild] = FrameReader(ToChild)
        #: What is to be sent, in this order, by whoever holds the lock.
        self._unsent: deque[bytes | memoryview] = deque()
        self._sending = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._take: Callable[[ToChild], None]

    def first(self) -> list[ToChild]:
        """Wait for the first frames and return them."""
        self._sock.setblocking(True)
        frames: list[ToChild] = []
        while not frames:
            frames = self._receive()
        return frames

    def open(self, loop: asyncio.AbstractEventLoop, take: Callable[[ToChild], None]) -> None:
        """Call ``take`` on a loop with every frame that comes from now on."""
        self._sock.setblocking(False)
        self._loop, self._take = loop, take
        loop.add_reader(self._sock, self._read)
        os.register_at_fork(after_in_child=self._leave_to_original)

    def send(self, frames: Iterable[ToParent]) -> None:
        """Send frames together. To be called in any thread; from the opening on it does not wait."""
        self._unsent.append(b"".join(map(encode, frames)))
        self._send_unsent()

    def _read(self) -> None:
        try:
            for frame in self._receive():
                self._take(frame)
        except BaseException:  # told by the loop; and what is left of the stream may be anything
            if self._loop is not None:
                self._loop.call_soon(self._gone)
            raise

    def _receive(self) -> list[ToChild]:
        try:
            data = self._sock.recv(_PIECE)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._gone()
        return self._reader.feed(data)

    def _send_unsent(self) -> None:
        # Who finds the lock taken leaves its frames to the one who has it, and who looks again when it has let go.
        while self._unsent and self._sending.acquire(blocking=False):
            if not self._push() and self._loop is not None:  # the loop sends the rest, and has the lock until then
                self._loop.call_soon_threadsafe(self._loop.add_writer, self._sock, self._go_on)
                return
            self._sending.release()

    def _push(self) -> bool:
        """Send what there is; return whether the system had room for all of it."""
        unsent = self._unsent
        while unsent:
            data = unsent.popleft()
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:  # the parent is gone, and so is this process in a moment
                continue
            if sent < len(data):
                unsent.appendleft(memoryview(data)[sent:])
                return False
        return True

    def _go_on(self) -> None:
        """Send the rest as far as there is room now."""
        if self._push():
            assert self._loop is not None
            self._loop.remove_writer(self._sock)
            self._sending.release()
            self._send_unsent()  # what came after the last look

    def _leave_to_original(self) -> None:
        """Say nothing any more: this is a copy of the process, which a task has made by a fork."""
        self._sending = threading.Lock()
        self._sending.acquire()
