"""What ``faulthandler`` writes about a process, read: which threads there are, and where each of them is.

Text in, text out; a traceback and a coroutine that waits are brought into the same form.
"""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from podium.bundle import Bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

_OWN: Final = str(Path(__file__).parent)
_LIBRARY: Final = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
#: Folders of packages that the user has installed, as opposed to written.
_INSTALLED: Final = ("site-packages", "dist-packages")

#: The name of a thread stands here since Python 3.14.
_THREAD: Final = re.compile(r"(?P<current>Current thread|Thread) 0x(?P<ident>[0-9a-f]+).*\(most recent call first\):")
_FRAME: Final = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.+)')
_TRACEBACK_FRAME: Final = re.compile(r'^  File "(?P<file>.*)", line (?P<line>\d+), in (?P<function>.+)$', re.MULTILINE)
#: How a frame and what it awaits are called in a coroutine, an awaiting generator and an asynchronous generator.
_AWAITING: Final = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))


class Frame(NamedTuple):
    """One call: the function, and the line that it has come to (0 if that is not known)."""

    file: str
    line: int
    function: str

    @classmethod
    def of(cls, frame: FrameType) -> Frame:
        """Return a call that is under way in this process."""
        return cls(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)

    def __str__(self) -> str:
        line = f":{self.line}" if self.line else ""
        return f"{self.function} ({self.file}{line})"

    @property
    def is_own(self) -> bool:
        """Whether this is podium itself."""
        return self.file.startswith(_OWN)

    @property
    def is_installed(self) -> bool:
        """Whether this is a package that was installed."""
        return any(folder in Path(self.file).parts for folder in _INSTALLED)

    @property
    def is_library(self) -> bool:
        """Whether this is Python's own library, or no file at all."""
        return not self.is_installed and (self.file.startswith(_LIBRARY) or self.file.startswith("<"))

    @property
    def rank(self) -> int:
        """How well a frame tells where the user's code is: 0 for that code itself, 3 for podium's."""
        return 3 if self.is_own else 2 if self.is_library else 1 if self.is_installed else 0


class ThreadStack(Bundle):
    """One thread. ``frames`` begin with the innermost."""

    ident: int
    #: Whether the thread took the signal; if that was a fatal one, the thread that caused it.
    is_current: bool = False
    frames: list[Frame] = msgspec.field(default_factory=list)

    @property
    def place(self) -> Frame | None:
        """The innermost frame of the user's own code, else of an installed package; None if neither is at work."""
        foreign = [frame for frame in self.frames if frame.rank < 2]
        return min(foreign, key=lambda frame: frame.rank, default=None)

    def told(self) -> list[Frame]:
        """The frames without those that only lead from podium to the user's code."""
        outermost = max((index for index, frame in enumerate(self.frames) if frame.rank < 2), default=-1)
        return self.frames[: outermost + 1] or [frame for frame in self.frames if not frame.is_own] or self.frames


def parse(text: str) -> list[ThreadStack]:
    """Return the threads that a text of ``faulthandler`` tells of, in its order: as a rule the main thread is last.

    Whatever else is in the text is passed over.
    """
    threads: list[ThreadStack] = []
    open_thread: ThreadStack | None = None
    for line in text.splitlines():
        if (frame := _FRAME.fullmatch(line)) is not None and open_thread is not None:
            number = int(frame["line"]) if frame["line"].isdecimal() else 0
            open_thread.frames.append(Frame(frame["file"], number, frame["function"]))
        elif (thread := _THREAD.fullmatch(line)) is not None:
            open_thread = ThreadStack(int(thread["ident"], 16), thread["current"] == "Current thread")
            threads.append(open_thread)
        elif not line.startswith("  "):
            open_thread = None
    return threads


def thread_in(text: str, ident: int = 0) -> ThreadStack | None:
    """Return the thread with that id, or the main thread for 0; None if the text does not tell of it."""
    threads = parse(text)
    if not ident:
        return threads[-1] if threads else None
    return next((thread for thread in threads if thread.ident == ident), None)


def place_in(text: str, ident: int = 0) -> str:
    """Return where the user's code is in the thread with that id, or the main thread: ``function (file:line)``.

    Empty if it is nowhere in the user's code, or the text does not tell.
    """
    thread = thread_in(text, ident)
    place = thread.place if thread is not None else None
    return str(place) if place is not None else ""


def from_traceback(text: str) -> ThreadStack:
    """Return the calls that a traceback tells of. Of a chain of exceptions it is the last one's that are innermost."""
    frames = [Frame(found["file"], int(found["line"]), found["function"]) for found in _TRACEBACK_FRAME.finditer(text)]
    return ThreadStack(0, frames=frames[::-1])


def awaiting(coroutine: Any) -> list[Frame]:
    """Return where a suspended coroutine waits: its own calls and those that they await, the innermost first."""
    frames: list[Frame] = []
    while coroutine is not None:
        for frame_name, next_name in _AWAITING:
            if (frame := getattr(coroutine, frame_name, None)) is not None:
                frames.append(Frame.of(frame))
                coroutine = getattr(coroutine, next_name)
                break
        else:
            break
    return frames[::-1]


def text_of(thread: ThreadStack) -> str:
    """Return what ``faulthandler`` would write of a thread, without podium's own calls."""
    return _lines_of(thread, "")


def told(text: str, names: Mapping[int, str]) -> str:
    """Return the same text without podium's own calls, and without threads that only wait for work.

    ``names`` are what to call threads, by their ids. Whoever is named there is told of in any case.
    """
    threads = parse(text)
    kept = [thread for thread in threads if thread.place or thread.ident in names]
    return "\n".join(_lines_of(thread, names.get(thread.ident, "")) for thread in kept or threads[-1:])


def _lines_of(thread: ThreadStack, name: str) -> str:
    title = f"{'Current thread' if thread.is_current else 'Thread'} 0x{thread.ident:016x}{name and f' [{name}]'}"
    frames = [f'  File "{frame.file}", line {frame.line or "???"} in {frame.function}' for frame in thread.told()]
    return "\n".join([f"{title} (most recent call first):", *frames])
