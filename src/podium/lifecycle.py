"""One engine after another: how a TaskHandler starts and stops them, whoever asks, and in whatever process."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from typing import TYPE_CHECKING

from podium.signals import SIGNAL_WATCH, Watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.drain import DrainReport
    from podium.engine import Engine


class Lifecycle:
    """The engine that runs now, if one does, with what was put in place around it. Any thread may call."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._watched: Watched | None = None
        #: Takes back what the start has put in place around the engine.
        self._undo = contextlib.ExitStack()
        #: The process that the engine runs in.
        self._pid = 0
        #: One thread at a time starts, or clears away what has ended; the same one may do both, in a signal handler.
        self._changing = threading.RLock()
        self._last_report: DrainReport | None = None

    @property
    def engine(self) -> Engine | None:
        """The engine; None in a forked copy of the program, where its threads are missing."""
        return self._engine if self._pid == os.getpid() else None

    @property
    def drain_report(self) -> DrainReport | None:
        """What became of the tasks in hand at the last stop; None before the first, and while an engine runs."""
        engine = self.engine
        return engine.drain_report if engine is not None else self._last_report

    def start(self, make: Callable[[contextlib.ExitStack], Engine], signal_grace: float | None) -> None:
        """Start an engine, unless one runs; return when every worker can run tasks.

        ``make`` makes it, and leaves on the stack what takes back whatever else it does. Signals stop the engine, with
        that many seconds of grace, unless these are None.
        """
        if self._engine is not None and self.engine is None:  # this process is a forked copy of the program
            Lifecycle.__init__(self)
        with self._changing:
            if self._engine is not None and not self._engine.ended:
                return
            if self._engine is not None:  # what ended by itself, or by a signal, has left metrics and log in place
                self._clear(self._engine)
            with contextlib.ExitStack() as undo:
                engine = make(undo)
                watched = None if signal_grace is None else SIGNAL_WATCH.add(engine, signal_grace)
                if watched is not None:
                    undo.callback(SIGNAL_WATCH.remove, watched)
                # Before it runs: another thread, or a signal handler of the program, may want to stop it meanwhile.
                self._engine, self._watched, self._pid = engine, watched, os.getpid()
                try:
                    engine.start(after_end=watched.after_end if watched is not None else None)
                except BaseException:
                    self._engine = self._watched = None
                    raise
                if self._engine is engine:
                    self._undo = undo.pop_all()
                    # A program that ends without stopping its handler gives its tasks back; they need not time out.
                    atexit.register(self._stop_at_exit)

    def stop(self, grace: float, by: str) -> DrainReport | None:
        """Stop the engine and await its end; return its report, None if nothing runs, or if it waits for the caller."""
        engine = self.engine
        if engine is None:
            return None
        engine.request_stop(grace, by)
        if engine.needs_this_thread():
            return None
        engine.wait()
        self._clear(engine)
        return engine.drain_report

    def awaited(self) -> None:
        """Take note that the program waits for the end, and goes on by itself then."""
        if self._watched is not None:
            self._watched.awaited.set()

    def _stop_at_exit(self) -> None:
        self.stop(0.0, "the end of the program")

    def _clear(self, engine: Engine) -> None:
        """Take back what was put in place around an engine that has ended."""
        with self._changing:
            if self._engine is engine:
                atexit.unregister(self._stop_at_exit)
                self._last_report = engine.drain_report
                self._engine = self._watched = None
                undo, self._undo = self._undo, contextlib.ExitStack()
                undo.close()
