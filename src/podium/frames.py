"""What the parent and a crew child say to each other: length-prefixed msgpack frames over one socketpair.

    parent -> child    Boot, Run, Cancel, Locate, Exit
    child  -> parent   Ready, BootFailed, Outcome, Located, Beat

Pure: bytes in, frames out. Only podium's own processes talk here, and nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, Final, Generic, TypeVar

import msgspec

from podium.models import TaskResultStatus

T = TypeVar("T")

_PREFIX = struct.Struct("!I")
#: Larger than anything a server accepts (10 MB of output) with room for inputs; a longer one is a broken stream.
MAX_FRAME: Final = 256 * 1024 * 1024


class _Frame(msgspec.Struct, array_like=True, gc=False):
    """Base of all frames."""


class WorkerRef(msgspec.Struct, array_like=True, frozen=True):
    """Where a child finds a worker's function, and what it must know to run it."""

    name: str
    #: ``module`` and ``qualname`` as Python has them.
    module: str
    qualname: str
    is_async: bool
    thread_count: int
    strict_schema: bool
    worker_id: str
    #: How many wrappers lie between what the name means in the module and the function itself.
    depth: int = 0


class Preparation(msgspec.Struct, array_like=True, frozen=True):
    """What makes a child see the modules that the parent sees. Text of the system is bytes: it need not be Unicode."""

    #: ``sys.path``, ``sys.argv`` and the working folder.
    path: list[bytes]
    arguments: list[bytes]
    folder: bytes
    #: The main module, if the child must import it: by its name, or else by its path.
    main_name: str = ""
    main_path: bytes = b""


class Boot(_Frame, tag="boot"):
    """The first frame: what this child runs."""

    title: str
    workers: list[WorkerRef]
    #: Modules to import first, so that their declarations and side effects are the same as in the parent.
    imports: list[str]
    preparation: Preparation
    #: Logger name -> level, as far as the parent has set any; the root logger's name is empty.
    log_levels: dict[str, int]
    #: Seconds between two Beat frames; 0 for none.
    beat_interval: float = 5.0


class Run(_Frame, tag="run"):
    """Run one task: ``key`` names the attempt on this connection, ``raw`` is the task's JSON as it was polled."""

    key: int
    worker: int
    raw: bytes


class Cancel(_Frame, tag="cancel"):
    """Cancel an attempt: its context says so, and a coroutine gets CancelledError; a thread cannot be interrupted."""

    key: int


class Locate(_Frame, tag="locate"):
    """Say where the coroutine of an attempt waits."""

    key: int


class Exit(_Frame, tag="exit"):
    """Nothing more will come: exit at once."""


class Ready(_Frame, tag="ready"):
    """The child has imported everything and can run tasks. ``memory`` is what it has resident, in bytes."""

    pid: int
    memory: int = 0


class BootFailed(_Frame, tag="boot-failed"):
    """The child cannot run: the user's module raised, or a function was not found."""

    message: str


class Cause(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An exception, in words: exceptions themselves do not cross process borders."""

    type_name: str
    message: str
    traceback: str = ""


class Outcome(_Frame, tag="outcome"):
    """How one attempt ended.

    ``body`` is the TaskResult as JSON, ready to be sent unread; empty if the attempt failed before its task was read,
    so that only the engine knows the ids.
    """

    key: int
    status: TaskResultStatus
    body: bytes
    #: Log lines beyond the ten that one update may carry.
    surplus_logs: list[str]
    #: Epoch seconds, and the monotonic length of the execution in seconds.
    started: float
    duration: float
    output_size: int
    #: The exception of a failed attempt; None when the function reported its own state.
    cause: Cause | None = None


class Located(_Frame, tag="located"):
    """Where the coroutine of an attempt waits, in the form of ``faulthandler``; empty if it has ended."""

    key: int
    stack: str


class Beat(_Frame, tag="beat"):
    """The child's event loop turns. ``lag`` is how many seconds later than due it came to say so.

    ``memory`` is how much the child has resident, in bytes.
    """

    lag: float
    memory: int = 0


ToChild = Boot | Run | Cancel | Locate | Exit
ToParent = Ready | BootFailed | Outcome | Located | Beat

_encoder = msgspec.msgpack.Encoder()


def encode(frame: msgspec.Struct) -> bytes:
    """Return the bytes of one frame, prefix included."""
    payload = _encoder.encode(frame)
    return _PREFIX.pack(len(payload)) + payload


@functools.cache
def _decoder_of(frame_type: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return the decoder for a type: one for all connections, as making one is dear and it remembers nothing."""
    return msgspec.msgpack.Decoder(frame_type)


class FrameReader(Generic[T]):
    """Cuts a byte stream into frames of one direction."""

    def __init__(self, frame_type: Any) -> None:
        self._decode = _decoder_of(frame_type).decode
        #: The beginning of a frame that is not complete yet.
        self._begun = bytearray()

    def feed(self, data: bytes) -> list[T]:
        """Take the next piece of the stream; return the frames that are complete now.

        Raises ValueError if the stream is broken.
        """
        begun = self._begun
        if not begun:
            frames, end = self._cut(memoryview(data))
            if end < len(data):
                begun += data[end:]
        else:
            begun += data
            with memoryview(begun) as view:
                frames, end = self._cut(view)
            del begun[:end]
        return frames

    def _cut(self, view: memoryview) -> tuple[list[T], int]:
        """Return the frames that begin the view, and where the last one ends."""
        frames: list[T] = []
        start, size = 0, len(view)
        while size - start >= _PREFIX.size:
            (length,) = _PREFIX.unpack_from(view, start)
            if length > MAX_FRAME:
                raise ValueError(f"frame of {length} bytes is longer than {MAX_FRAME}")
            end = start + _PREFIX.size + length
            if end > size:
                break
            try:
                frames.append(self._decode(view[start + _PREFIX.size : end]))
            except msgspec.DecodeError as error:
                raise ValueError(f"a frame cannot be read: {error}") from error
            start = end
        return frames, start
