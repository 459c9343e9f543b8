"""Seeing to it that Python runs the handler of a signal at once, whatever the main thread waits for.

Handlers run in the main thread, between two steps of Python code. The kernel may give a signal to another thread, and
it may come a moment before the main thread falls asleep: that would sleep on, for ever if it waits without a limit. But
what Python does in C at a signal happens in any case, and that can write a byte into a pipe.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

#: How often, and how many seconds apart, the main thread is interrupted until it has seen to a signal.
_ATTEMPTS: Final = 50
_PAUSE: Final = 0.01


class Waker:
    """Interrupts the main thread, by a signal whose handler does nothing, until it has run the handlers of others.

    Does nothing if the program has a use of its own for Python's wakeup descriptor, as asyncio has in the main thread.
    """

    def __init__(self, minded: Collection[int], harmless: int, handled: Callable[[], int]) -> None:
        self._minded = minded
        self._harmless = harmless
        #: Returns how many signals the main thread has seen to.
        self._handled = handled
        self._open = True
        self._main = threading.main_thread().ident or 0
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        previous = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        if previous != -1:
            signal.set_wakeup_fd(previous)
        threading.Thread(target=self._watch, args=(read,), name="podium-signals", daemon=True).start()

    def close(self) -> None:
        """Let go of the descriptor; called in the main thread."""
        self._open = False
        current = signal.set_wakeup_fd(-1)
        if current != self._write:
            signal.set_wakeup_fd(current)
        os.close(self._write)  # what was sent last arrives on the way back from the kernel, at the latest

    def _watch(self, read: int) -> None:
        seen = self._handled()
        while numbers := os.read(read, 64):
            if any(number in self._minded for number in numbers):
                self._insist(seen)
            seen = self._handled()
        os.close(read)

    def _insist(self, seen: int) -> None:
        for _ in range(_ATTEMPTS):
            time.sleep(_PAUSE)
            if self._handled() != seen or not self._open:
                return
            signal.pthread_kill(self._main, self._harmless)
