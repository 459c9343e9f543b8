"""SIGTERM and SIGINT: a drain of everything that runs, and at the second signal the end of its grace period.

SIGHUP, which a terminal sends when it is closed, stops nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from podium.bundle import Bundle
from podium.waking import Waker

if TYPE_CHECKING:
    from types import FrameType

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: Sent when the terminal is closed, which is no wish to stop: a deploy sends SIGTERM. Nothing happens, unless the
#: program has a handler of its own, or was started with the signal ignored (nohup).
HANGUP: Final[signal.Signals | None] = getattr(signal, "SIGHUP", None)
#: Interrupts what the main thread waits for. The system passes it by where nobody minds it, so that it can do no harm
#: in any program that is started from here.
NUDGE: Final[signal.Signals | None] = getattr(signal, "SIGURG", None)
#: How long a program has, after the drain, to show that it goes on by itself.
_RAISE_AGAIN_AFTER: Final = 1.0


class Stoppable(Protocol):
    """What a signal stops. Both members are safe in a signal handler: they take no lock."""

    @property
    def ended(self) -> bool:
        """Whether it has ended already."""

    def request_stop(self, grace: float, by: str) -> None:
        """Ask for the end, ``grace`` seconds from now at the latest; ``by`` says who asks."""


class Watched(Bundle):
    """One thing that signals stop."""

    target: Stoppable
    grace: float
    #: Set by a program that waits for the target's end, and then goes on by itself.
    awaited: threading.Event = msgspec.field(default_factory=threading.Event)
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
        #: How often a handler has run.
        self._handled = 0
        self._waker: Waker | None = None

    def add(self, target: Stoppable, grace: float) -> Watched | None:
        """Let signals stop a target; None outside the main thread, where Python has no signal handlers."""
        if threading.current_thread() is not threading.main_thread():
            return None
        watched = Watched(target, grace)
        self._watched.append(watched)
        self._install()
        return watched

    def _install(self) -> None:
        if self._pid != os.getpid():  # a forked copy of the program: what it copied is another process's to stop
            self._watched = self._watched[-1:]
            self._waker = None
        elif self._previous:
            return
        self._pid = os.getpid()
        self._previous |= {number: signal.signal(number, self._handle) for number in SIGNALS if not self._ours(number)}
        for number in (HANGUP, NUDGE):
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                self._previous[number] = signal.signal(number, self._pass_by)
        if NUDGE is not None and signal.getsignal(NUDGE) == self._pass_by:
            self._waker = Waker(SIGNALS, NUDGE, lambda: self._handled)

    def _ours(self, number: int) -> bool:
        return bool(signal.getsignal(number) == self._handle)

    def remove(self, watched: Watched) -> None:
        """Forget a target; with the last one, the handlers that were there before come back."""
        watched.awaited.set()
        if watched in self._watched:
            self._watched.remove(watched)
        if not self._watched and threading.current_thread() is threading.main_thread():
            self._restore()

    def _restore(self) -> None:
        """Put the handlers back that were there before; in the main thread, where also handlers run.

        In a process that was forked a moment ago, the threading module may still take that for another thread.
        """
        waker, self._waker = self._waker, None
        if waker is not None and os.getpid() == self._pid:
            waker.close()
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous = {}

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._handled += 1
        running = [watched for watched in self._watched if not watched.target.ended]
        # A process that the user's code forked has this handler too, but nothing to drain.
        if not running or os.getpid() != self._pid:
            self._restore()
            if os.getpid() == 1 and signal.getsignal(number) is signal.SIG_DFL:
                os._exit(128 + number)  # the kernel drops what would end the first process of a container
            signal.raise_signal(number)
            return
        for watched in running:
            watched.target.request_stop(watched.grace if watched.number is None else 0.0, signal.Signals(number).name)
            watched.number = number

    def _pass_by(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            self._restore()
            signal.raise_signal(number)


SIGNAL_WATCH: Final = SignalWatch()


def leave_to_parent() -> None:
    """Let SIGTERM, SIGINT and SIGHUP do nothing in a crew child: the parent drains, and the child finishes its tasks.

    A handler that does nothing, rather than SIG_IGN, because ignored signals are inherited by programs that the
    user's code starts; and the default in processes that it forks: both could not be stopped otherwise. A signal that
    the program was told to ignore (nohup) stays ignored.
    """
    own = os.getpid()

    def ignore(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != own:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    for number in SIGNALS:
        signal.signal(number, ignore)
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        signal.signal(HANGUP, ignore)
