"""How ``podium run`` ends: signals before anything runs, exit codes, the drain report, and threads that never end."""

from __future__ import annotations

import _thread
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO

from podium.errors import ConfigError, DeclarationError, NoWorkerLeftError, PodiumError, StartError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from podium.drain import DrainReport

logger = logging.getLogger(__name__)

#: How long threads that the user's modules have started may take to end, when everything else has.
_THREADS: Final = 0.5
#: Those of podium.signals, which is loaded later: what it needs would delay the moment from which they are minded.
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
#: How long after a signal before workers run until it is repeated, if the program has not ended by then.
_AGAIN: Final = 0.5


class ExitCode(IntEnum):
    """What the exit code of ``podium run`` says; docs/stopping.md has them for readers."""

    DRAINED = 0
    FAILED = 1
    MISUSED = 2
    NOT_STARTED = 3
    LOST = 4
    NO_WORKER_LEFT = 5

    @classmethod
    def of(cls, error: PodiumError) -> ExitCode:
        """Return the code for an error that ends the program."""
        match error:
            case ConfigError() | DeclarationError():
                return cls.MISUSED
            case StartError():
                return cls.NOT_STARTED
            case NoWorkerLeftError():
                return cls.NO_WORKER_LEFT
            case _:
                return cls.FAILED


class StoppedEarly(BaseException):
    """A signal came before workers ran: there is nothing to drain."""


class EarlyStop:
    """SIGTERM and SIGINT before and after the time when a TaskHandler minds them.

    The modules of the workers may take their time to be imported; a signal meanwhile ends the program at once, with
    exit code 0. After the drain a signal has nothing left to ask for, and must not spoil the exit code.

    An exception out of a signal handler may be lost: a module swallows it, or it is raised in a finalizer or in the
    callback of a weak reference (an import has some), where Python ignores it. So podium's own modules are not
    interrupted, a signal is repeated until it has had its effect, and whatever else ends the program meanwhile is
    taken for what a module has made of it.
    """

    def __init__(self) -> None:
        #: Whether a signal has come that no TaskHandler has minded.
        self.asked = False
        self._interrupts = self._is_repeated = False
        self._over = threading.Event()
        self._pid = 0

    def install(self) -> None:
        """Mind signals from now on: ``interrupt`` will see to them."""
        self._pid = os.getpid()
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def interrupt(self) -> None:
        """Raise StoppedEarly from now on, wherever a signal finds the main thread; at once if one has come."""
        sys.unraisablehook = _silent_of(StoppedEarly, sys.unraisablehook)
        self._interrupts = True
        self.check()

    def check(self) -> None:
        """Raise StoppedEarly if a signal has come."""
        if self.asked:
            raise StoppedEarly

    def hand_over(self) -> None:
        """Leave signals to the TaskHandler that runs now, also one that has come and had no effect yet."""
        self.over()
        if self.asked:
            self.asked = False
            signal.raise_signal(signal.SIGTERM)

    def over(self) -> None:
        """Let signals do nothing from now on."""
        self._interrupts = False
        self._over.set()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._pid != os.getpid():  # what the user's code has forked has its own end
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        elif not self._over.is_set():
            self.asked = True
            if not self._is_repeated:
                with contextlib.suppress(RuntimeError):  # the system has no room for a thread
                    # Without the threading module, whose locks the signal may have found taken.
                    _thread.start_new_thread(self._repeat, ())
                self._is_repeated = True
            if self._interrupts:
                raise StoppedEarly

    def _repeat(self) -> None:
        main = threading.main_thread().ident
        while main is not None and not self._over.wait(_AGAIN):
            if signal.getsignal(signal.SIGTERM) == self._handle:  # else hand_over is near
                signal.pthread_kill(main, signal.SIGTERM)


def _silent_of(error: type[BaseException], hook: Callable[[Any], object]) -> Callable[[Any], object]:
    def silent(unraisable: Any) -> None:
        if unraisable.exc_type is None or not issubclass(unraisable.exc_type, error):
            hook(unraisable)

    return silent


EARLY_STOP: Final = EarlyStop()


def code_after(error: BaseException) -> int:
    """Say what has ended the program before its workers, and return the exit code for it.

    Raises the error again if it is no foreseen one.
    """
    if EARLY_STOP.asked:
        say("podium: stopped by a signal before any worker ran")
        return ExitCode.DRAINED
    match error:
        case SystemExit():
            return error.code if isinstance(error.code, int) else 0
        case PodiumError():
            explain(error)
            return ExitCode.of(error)
        case _:
            raise error


def open_standard_streams() -> None:
    """Let standard streams that are closed lead nowhere; else the next socket has their number, and gets the prints."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def explain(error: PodiumError) -> None:
    """Say what is wrong: in one line, and before it, for an exception of the user's module, where that was raised."""
    cause = error.__cause__
    if isinstance(error, StartError) and cause is not None:
        from podium.discovery import frames_of_users

        own = str(Path(__file__).parent.parent) + os.sep
        frames = [frame for frame in frames_of_users(cause) if not frame.filename.startswith(own)]
        if frames or isinstance(cause, SyntaxError):
            shown = traceback.TracebackException.from_exception(cause)
            shown.stack = traceback.StackSummary.from_list(frames)
            say("".join(shown.format()).rstrip())
    say(f"podium: {error}")


def check_report_target(target: str) -> None:
    """Refuse a drain report that could not be written in the end, and remove an old one; ``-`` is standard output."""
    path = Path(target)
    if target == "-":
        return
    if path.exists() and not path.is_file():
        raise ConfigError(f"--drain-report {target}: it is no file; name a file, or - for standard output")
    if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
        raise ConfigError(f"--drain-report {target}: there is no folder {path.absolute().parent} to write it to")
    path.unlink(missing_ok=True)  # what is there after a crash must not look like this run's


def write_report(report: DrainReport, target: str) -> None:
    """Write a drain report as JSON: whole or not at all. A disk that is full now costs the report only."""
    text = json.dumps(dataclasses.asdict(report)) + "\n"
    try:
        if target == "-":
            sys.stdout.write(text)
            sys.stdout.flush()
            return
        path = Path(target).absolute()
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)
    except OSError as error:
        logger.error("the drain report could not be written to %s: %s", target, error)  # noqa: TRY400 - it says it all


def leave(code: int) -> NoReturn:
    """End the program, whatever the user's modules have left running, and whoever has closed its output."""

    def end() -> None:
        deadline = time.monotonic() + _THREADS
        for thread in _threads_left():
            thread.join(max(0.0, deadline - time.monotonic()))
        left = [thread.name for thread in _threads_left()]
        if left:
            logger.warning("threads that the modules of the workers have started do not end: %s", ", ".join(left))
            logging.shutdown()
            _flush()
            os._exit(code)

    if _threads_left():
        threading.Thread(target=end, name="podium-end", daemon=True).start()
    _flush()
    for number in _SIGNALS:  # Python gives up handlers of its own when it ends, but leaves this
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _threads_left() -> list[threading.Thread]:
    main = threading.main_thread()
    return [thread for thread in threading.enumerate() if thread is not main and not thread.daemon]


def say(text: str) -> None:
    """Write a line to standard error, if anybody reads it."""
    from podium.answers import harmless

    with contextlib.suppress(OSError, ValueError):
        print(harmless(text), file=sys.stderr, flush=True)


def _flush() -> None:
    """Flush what was printed; if its reader is gone, let the rest go nowhere, or Python would exit with 120."""
    streams: list[TextIO | None] = [sys.stdout, sys.stderr]
    for stream in streams:
        if stream is None:
            continue
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
