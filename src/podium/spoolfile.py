"""Records of results on disk: their format, and folders that nobody else may write to. Blocking; no podium state.

A record is one JSON document: a version, a checksum, and in ``record`` what it takes to deliver a result. It holds
no credentials. A file appears under its name whole or not at all, also if the process or the machine dies meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import msgspec

from podium.errors import PodiumError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The version of the format. Records of another one are set aside, never guessed at.
VERSION: Final = 1
SUFFIX: Final = ".json"
#: A name that a file has until it is whole.
UNFINISHED: Final = ".tmp"
#: No record is larger: a server takes 10 MB of output, and some log lines.
MAX_RECORD: Final = 64 * 1024 * 1024

#: What the system says of links, pipes without a writer, and files of others.
_NO_FILE: Final = frozenset({errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR})
_FLAGS: Final = os.O_NOFOLLOW | os.O_CLOEXEC
_encode = msgspec.json.encode


class SpoolError(PodiumError):
    """A folder cannot be used for results; the message says why and what to do."""


class UnreadableSpoolError(SpoolError):
    """The disk does not give a result back at the moment."""

    retryable: ClassVar[bool] = True


class BadRecordError(PodiumError):
    """A file of the spool is no record that can be trusted; the message says why, in a few words."""


class Record(msgspec.Struct, kw_only=True):
    """A result that waits for the server, or has been given up."""

    task_id: str
    workflow_id: str
    task_type: str
    worker_id: str
    #: What the update says of the task.
    status: str
    #: Seconds; 0 if the task has none.
    response_timeout: int
    #: URL of the API that it is for, without credentials, and the host that ran the task.
    server: str
    host: str
    #: Epoch seconds of the first failed attempt.
    created: float
    #: Attempts before it was written, and how the last one failed or why it was given up.
    attempts: int
    problem: str
    #: The update as it is sent.
    body: msgspec.Raw
    #: How often the task had been handed out; 0 if that is not known.
    poll_count: int = 0


class _Version(msgspec.Struct):
    podium_spool: int


class _Envelope(msgspec.Struct):
    podium_spool: int
    sha256: str
    record: msgspec.Raw


def encode_record(record: Record) -> bytes:
    """Return the content of a record's file."""
    inner = _encode(record)
    return b'{"podium_spool":%d,"sha256":"%s","record":%s}\n' % (VERSION, _digest(inner).encode(), inner)


def decode_record(data: bytes) -> Record:
    """Read a record; raises BadRecordError for whatever is not one, to the last bit."""
    try:
        version = msgspec.json.decode(data, type=_Version).podium_spool
        if version != VERSION:
            raise BadRecordError(f"version {version}, and this podium knows {VERSION}")
        envelope = msgspec.json.decode(data, type=_Envelope)
        inner = bytes(envelope.record)
        if _digest(inner) != envelope.sha256:
            raise BadRecordError("its checksum does not fit")
        return msgspec.json.decode(inner, type=Record)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRecordError(f"not a record: {error}") from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def new_name(task_id: str) -> str:
    """Return a file name for a result of a task: from a hash, so that nothing of the server's text is in it.

    It is new each time: a task that reports its progress may have two results under way.
    """
    return _digest(f"{task_id}\0{secrets.token_hex(16)}".encode())[:40] + SUFFIX


class Folder:
    """An open folder of our own: everything in it is reached through its descriptor, and no link is followed."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor

    @classmethod
    def open(cls, path: Path, parent: Folder | None = None, *, create: bool = True) -> Self:
        """Open a folder, by its path or below an open one, and make it if it is missing.

        Raises SpoolError if it is not ours alone to write to, or cannot be made; FileNotFoundError if it is missing
        and ``create`` is False.
        """
        where: Any = path if parent is None else path.name
        within = None if parent is None else parent.descriptor
        try:
            if create:
                if parent is None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                with suppress(FileExistsError):
                    os.mkdir(where, 0o700, dir_fd=within)
            descriptor = os.open(where, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=within)
        except FileNotFoundError:
            if create:
                raise SpoolError(f"{path}: there is no such folder, and it cannot be made") from None
            raise
        except OSError as error:
            link = " (it is a link: name the folder itself)" if path.is_symlink() else ""
            raise SpoolError(f"{path}: {error.strerror}{link}") from None
        try:
            _check_owner(path, os.fstat(descriptor))
        except SpoolError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def close(self) -> None:
        """Close the folder."""
        os.close(self.descriptor)

    def names(self) -> Iterator[str]:
        """Return the names in it, without order."""
        return iter(os.listdir(self.descriptor))  # noqa: PTH208 - by descriptor

    def write(self, name: str, data: bytes) -> None:
        """Write a file so that it is there whole, and stays, or is not there at all. Raises OSError."""
        unfinished = name.removesuffix(SUFFIX) + UNFINISHED
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
        descriptor = os.open(unfinished, flags, 0o600, dir_fd=self.descriptor)
        try:
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(unfinished, name, src_dir_fd=self.descriptor, dst_dir_fd=self.descriptor)
        except OSError:
            self.remove(unfinished)
            raise
        os.fsync(self.descriptor)

    def read(self, name: str) -> bytes:
        """Return a file's content.

        Raises FileNotFoundError, BadRecordError for what is not an ordinary file of ours, and other OSErrors for
        faults of the system, such as too many open files, that say nothing of the file.
        """
        try:
            # Not blocking: a pipe that somebody has put there must not hold us up.
            descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _FLAGS, dir_fd=self.descriptor)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            raise BadRecordError(f"cannot be opened: {error.strerror}") from None
        try:
            state = os.fstat(descriptor)
            _check_file(state)
            parts = []
            while part := os.read(descriptor, 1 << 20):
                parts.append(part)
            return b"".join(parts)
        finally:
            os.close(descriptor)

    def read_record(self, name: str) -> Record:
        """Return a file's record; raises what ``read`` raises."""
        return decode_record(self.read(name))

    def remove(self, name: str) -> bool:
        """Remove a file, if it is there; return whether it was."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self.descriptor)
            return True
        return False

    def move(self, name: str, target: Folder, new: str | None = None) -> None:
        """Move whatever has that name into another folder, a link as a link. Raises OSError."""
        os.rename(name, new or name, src_dir_fd=self.descriptor, dst_dir_fd=target.descriptor)

    def state(self, name: str) -> os.stat_result:
        """Return size and times of what has that name, of a link itself. Raises OSError."""
        return os.stat(name, dir_fd=self.descriptor, follow_symlinks=False)


def _check_owner(path: Path, state: os.stat_result) -> None:
    if state.st_uid != os.geteuid():
        raise SpoolError(f"{path} belongs to user {state.st_uid}, not to {os.geteuid()}: name a folder of your own")
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SpoolError(
            f"{path}: others may write to it (mode {stat.S_IMODE(state.st_mode):04o}): chmod go-w, or name a folder "
            "below it, which podium makes"
        )


def _check_file(state: os.stat_result) -> None:
    if not stat.S_ISREG(state.st_mode):
        raise BadRecordError("not an ordinary file")
    if state.st_uid != os.geteuid():
        raise BadRecordError(f"belongs to user {state.st_uid}")
    if state.st_size > MAX_RECORD:
        raise BadRecordError(f"{state.st_size} bytes, and no record is that long")
