"""SIGTERM and SIGINT: a drain of everything that runs, and at the second signal the end of its grace period."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from types import FrameType

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: How long a program has, after the drain, to show that it goes on by itself.
_RAISE_AGAIN_AFTER: Final = 1.0


class Stoppable(Protocol):
    """What a signal stops. Both members are safe in a signal handler: they take no lock."""

    @property
    def ended(self) -> bool:
        """Whether it has ended already."""

    def request_stop(self, grace: float) -> None:
        """Ask for the end, ``grace`` seconds from now at the latest."""


@dataclass
class Watched:
    """One thing that signals stop."""

    target: Stoppable
    grace: float
    #: Set by a program that waits for the target's end, and then goes on by itself.
    awaited: threading.Event = field(default_factory=threading.Event)
    #: The signal that asked for the end, if one did.
    number: int | None = None

    def after_end(self) -> None:
        """Raise the signal again if the program did not wait for the end.

        It would go on as if nothing had been asked of it. Called in a thread of the target, after its end.
        """
        if self.number is not None and not self.awaited.wait(_RAISE_AGAIN_AFTER):
            os.kill(os.getpid(), self.number)


class SignalWatch:
    """The handlers of this process, in place while there is something to stop."""

    def __init__(self) -> None:
        self._watched: list[Watched] = []
        self._previous: dict[int, Any] = {}
        self._pid = 0

    def add(self, target: Stoppable, grace: float) -> Watched | None:
        """Let signals stop a target; None outside the main thread, where Python has no signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            return None
        watched = Watched(target, grace)
        self._watched.append(watched)
        if not self._previous:
            self._pid = os.getpid()
            self._previous = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return watched

    def remove(self, watched: Watched) -> None:
        """Forget a target; with the last one, the handlers that were there before come back."""
        watched.awaited.set()
        if watched in self._watched:
            self._watched.remove(watched)
        if not self._watched:
            self._restore()

    def _restore(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self._previous = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        running = [watched for watched in self._watched if not watched.target.ended]
        # A process that the user's code forked has this handler too, but nothing to drain.
        if not running or os.getpid() != self._pid:
            self._restore()
            signal.raise_signal(number)
            return
        for watched in running:
            watched.target.request_stop(watched.grace if watched.number is None else 0.0)
            watched.number = number


SIGNAL_WATCH: Final = SignalWatch()


def leave_to_parent() -> None:
    """Let SIGTERM and SIGINT do nothing in a crew child: the parent drains, and the child finishes its tasks meanwhile.

    A handler that does nothing, rather than SIG_IGN, because ignored signals are inherited by programs that the
    user's code starts; and the default in processes that it forks: both could not be stopped otherwise.
    """
    own = os.getpid()

    def ignore(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, ignore)
