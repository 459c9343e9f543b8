"""What can be learned of a child that does not answer, or no longer: a file in memory that it shares with its parent.

The child lets ``faulthandler`` write there where all its threads are: when the parent asks, or when it dies of a fault.
A thread of the child that holds the GIL can look at the others safely, because none of them moves. So the parent asks
such a thread first, by a word; and only if nothing comes back by a signal, which works while other code holds the GIL.
Were that code to go on while the signal's handler reads the stacks, the child could die of it.

    begin of the file    main thread's id, then for each thread of the pool its id and the key of its attempt (0: idle)
    the rest             text of faulthandler
"""

from __future__ import annotations

import contextlib
import faulthandler
import mmap
import os
import signal
import struct
import threading
from pathlib import Path
from typing import Final, Self

from podium.descriptor import Descriptor

#: What the parent asks with: hardly any program uses it. Where there are no real-time signals, it is the one of Ctrl-T.
ASK: Final[int] = signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else getattr(signal, "SIGINFO", 0)

#: Bytes of a word that the parent asks with.
MAX_WORD: Final = 32
#: The lines before and after the answer to a word.
_BEGIN: Final = "(answer %s)\n"
_END: Final = "(end of %s)\n"

_WORD: Final = struct.Struct("Q")
#: Threads that have an entry, and the bytes before the text. The system gives memory to those that are used.
_ENTRIES: Final = 1023
_TABLE: Final = 2 * _WORD.size * (_ENTRIES + 1)
#: Bytes of text beyond which the file is emptied before the next question.
_TEXT_LIMIT: Final = 256 * 1024


class Testimony(Descriptor):
    """The file, on either side."""

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Make a file; return the parent's hold on it and the child's.

        Where none is to be had, it is one that stays empty: children start and run all the same, and tell less.
        """
        import fcntl  # not every system has it; without it no children are started

        try:
            fd = _new_file()
        except OSError:
            fd = os.open(os.devnull, os.O_RDWR)
        # Whoever writes, appends: the parent can empty the file at any time.
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_APPEND)
        return cls(fd), cls(os.dup(fd))

    # the parent's side

    @property
    def size(self) -> int:
        """Bytes of text so far; 0 also for a child that cannot be asked yet, or any more."""
        return max(0, os.fstat(self._fd).st_size - _TABLE) if self._fd != -1 else 0

    @property
    def can_be_asked(self) -> bool:
        """Whether the child is prepared for the signal, which would kill it before."""
        return self._fd != -1 and os.fstat(self._fd).st_size >= _TABLE

    def begin(self) -> int:
        """Return where the next text will begin."""
        if self.size > _TEXT_LIMIT:
            os.ftruncate(self._fd, _TABLE)
        return self.size

    def text(self, start: int = 0) -> str:
        """Return the text from ``start`` on."""
        if self._fd == -1:
            return ""
        return os.pread(self._fd, max(0, self.size - start), _TABLE + start).decode("utf-8", "backslashreplace")

    def answer(self, word: str, start: int) -> str | None:
        """Return the answer to a word, from ``start`` on; None if it is not there, or has no end yet."""
        _, begin, rest = self.text(start).partition(_BEGIN % word)
        told, end, _ = rest.partition(_END % word)
        return told if begin and end else None

    def threads(self) -> tuple[int, dict[int, int]]:
        """Return the id of the main thread (0: not known), and key -> id for the pool's threads that run an attempt."""
        table = os.pread(self._fd, _TABLE, 0) if self.can_be_asked else b""
        if len(table) < _TABLE:
            return 0, {}
        words = memoryview(table).cast("Q")
        return words[0], {key: ident for ident, key in zip(words[2::2], words[3::2], strict=True) if key}

    # the child's side

    def tell(self, word: str) -> None:
        """Write where all threads are, in answer to a word."""
        with contextlib.suppress(OSError):  # a limit on the size of files is one for this one, too
            os.write(self._fd, (_BEGIN % word).encode())
            faulthandler.dump_traceback(file=self._fd, all_threads=True)
            os.write(self._fd, (_END % word).encode())

    def open(self) -> Attendance | None:
        """Let ``faulthandler`` write here from now on, and return the table in which threads say what they run.

        None if the file cannot hold one, as under a limit on the size of files: a child runs without it, and
        ``faulthandler`` writes to standard error.
        """
        try:
            faulthandler.enable(file=self._fd, all_threads=True)
            faulthandler.register(ASK, file=self._fd, all_threads=True, chain=False)
            os.ftruncate(self._fd, _TABLE)  # last: from now on the child may be asked
            return Attendance(memoryview(mmap.mmap(self._fd, _TABLE)).cast("Q"))
        except OSError:
            faulthandler.enable(file=2, all_threads=True)
            return None


def _new_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("podium-testimony", os.MFD_CLOEXEC)
    import tempfile  # it brings a dozen modules along

    fd, path = tempfile.mkstemp(prefix="podium-testimony-")
    Path(path).unlink()
    return fd


class Attendance:
    """Where the pool's threads note what they run, so that a stack can be told to be that of a task.

    ``table`` is memory that the parent can read: a note costs no system call.
    """

    def __init__(self, table: memoryview[int]) -> None:
        self._table = table
        self._next = 1
        self._lock = threading.Lock()
        table[0] = threading.main_thread().ident or 0

    def enter(self) -> int:
        """Give the calling thread an entry and return its place; 0 if there is none left for it."""
        with self._lock:
            place = self._next if self._next <= _ENTRIES else 0
            self._next += bool(place)
        if place:
            self._table[2 * place] = threading.get_ident()
        return place

    def note(self, place: int, key: int) -> None:
        """Note what the thread with that place runs now; 0 for nothing."""
        if place:
            self._table[2 * place + 1] = key
