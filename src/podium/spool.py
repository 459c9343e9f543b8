"""The spool: where the results of one process wait on disk, and how the next process finds what was left.

    SPOOL/                                  any number of processes, of any number of hosts, share it
      results-<host>-<server>-<random>/     one per running engine, locked by it
        lock
        <hash>.json                         one result each
      superseded/                           results that came too late, kept for whoever wants to salvage them
      bad/                                  files that are no records

Whoever starts takes over the folders of its host and its server whose lock is free: their process is gone. Those of
other hosts, on a shared volume, are left alone. Everything here blocks, and is meant for one thread.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from podium.bundle import Bundle
from podium.config import Configuration, masked_url
from podium.spoolfile import (
    SUFFIX,
    UNFINISHED,
    BadRecordError,
    Folder,
    Record,
    SpoolError,
    encode_record,
    new_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SUPERSEDED: Final = "superseded"
BAD: Final = "bad"
LOCK: Final = "lock"
PREFIX: Final = "results"
#: Of what came too late and of what cannot be read, the newest so many are kept, for so many seconds.
MOST_KEPT: Final = 1000
LONGEST_KEPT: Final = 7 * 86400
#: Counting them costs a look at each; it is done once for so many.
_PRUNE_EVERY: Final = 100
_NO_BODY: Final = msgspec.Raw(b"{}")


def default_folder() -> Path:
    """Return where results wait unless a setting says otherwise: with the user's state, or with temporary files."""
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if state.is_absolute():  # the XDG rules want others ignored
        return state / "podium" / "spool"
    with contextlib.suppress(RuntimeError):  # no home
        home = Path.home()
        if home.is_absolute() and home.is_dir() and os.access(home, os.W_OK | os.X_OK):
            return home / ".local" / "state" / "podium" / "spool"
    import tempfile  # it brings a dozen modules along

    return Path(tempfile.gettempdir()) / f"podium-spool-{os.geteuid()}"


def spool_of(configuration: Configuration) -> Spool | None:
    """Return the spool that a Configuration asks for; None if it wants none."""
    return Spool(folder_of(configuration), masked_url(configuration.host)) if configuration.spool else None


def folder_of(configuration: Configuration) -> Path:
    """Return the folder of a Configuration's spool."""
    return default_folder() if configuration.spool_dir is None else Path(configuration.spool_dir).expanduser()


def this_host() -> str:
    """Return the name by which results of this host are told from those of others."""
    return socket.gethostname()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:12]


class Found(Bundle, frozen=True):
    """A result that an earlier process has left: its file, its record without the body, and the file's size."""

    name: str
    record: Record
    size: int


class Takeover(Bundle):
    """What a look at the folders of ended processes has brought."""

    found: list[Found] = msgspec.field(default_factory=list)
    #: Name and fault of what was set aside.
    bad: list[tuple[str, str]] = msgspec.field(default_factory=list)
    #: What kept the system from going on; the next look does.
    fault: OSError | None = None


class Spool:
    """The part of the spool that one engine has to itself."""

    def __init__(self, path: Path, server: str, host: str | None = None) -> None:
        self.path = path
        self.server = server
        self.host = this_host() if host is None else host
        self._family = f"{PREFIX}-{_short(self.host)}-{_short(server)}-"
        self._base: Folder | None = None
        self._own: Folder | None = None
        self._lock = -1
        #: Folders of ended processes that cannot be used; each is told once.
        self._useless: set[str] = set()
        self._superseded = 0

    def open(self) -> None:
        """Make the engine's folder. Raises SpoolError if the spool cannot be used; nothing is left open then."""
        base = Folder.open(self.path)
        try:
            while self._own is None:
                with self._quiet(base):
                    own = Folder.open(self.path / f"{self._family}{secrets.token_hex(6)}", base)
                    lock = locked(own)
                    if lock is None:
                        own.close()
                    else:
                        self._own, self._lock = own, lock
        except OSError as error:
            raise SpoolError(f"{self.path}: {error.strerror}") from None
        finally:
            if self._own is None:
                base.close()
        self._base = base

    def take_over(self) -> Takeover:
        """Take over what ended processes of this host have left for this server; raises OSError if none can be seen."""
        takeover = Takeover()
        base, own = self._opened()
        for name in base.names():
            if not name.startswith(self._family) or name == own.path.name or name in self._useless:
                continue
            try:
                with self._quiet(base):
                    self._take_over(name, takeover)
            except FileNotFoundError:  # another process was faster
                continue
            except SpoolError as error:
                self._useless.add(name)
                takeover.bad.append((name, str(error)))
            except OSError as error:  # what has been found by now is ours already
                takeover.fault = error
                break
        if takeover.bad:
            with contextlib.suppress(SpoolError, OSError):
                self._prune(BAD)
        return takeover

    def _take_over(self, name: str, takeover: Takeover) -> None:
        base, _ = self._opened()
        with contextlib.closing(Folder.open(self.path / name, base, create=False)) as left:
            lock = locked(left)
            if lock is None:
                return
            try:
                self._empty(left, takeover)
                _discard(base, left)
            finally:
                os.close(lock)

    def _empty(self, left: Folder, takeover: Takeover) -> None:
        _, own = self._opened()
        for name in left.names():
            if name == LOCK:
                continue
            if name.endswith(UNFINISHED):  # its process died over it; the result was never held to be safe
                left.remove(name)
                continue
            try:
                if not name.endswith(SUFFIX):
                    raise BadRecordError("not a name that podium gives")  # noqa: TRY301 - one end for all faults
                record = left.read_record(name)
                if record.server != self.server:
                    raise BadRecordError(f"for another server, {record.server}")  # noqa: TRY301
                size = left.state(name).st_size
                left.move(name, own)
                takeover.found.append(Found(name, msgspec.structs.replace(record, body=_NO_BODY), size))
            except BadRecordError as error:
                takeover.bad.append((name, str(error)))
                try:
                    self._set_aside(left, name)
                except SpoolError:  # it stays where it is, and is told once
                    self._useless.add(left.path.name)

    def save(self, record: Record) -> str:
        """Write a result; return the name to ask for it by. Raises OSError."""
        _, own = self._opened()
        name = new_name(record.task_id)
        own.write(name, encode_record(record))
        return name

    def load(self, name: str) -> Record:
        """Read a result. Raises FileNotFoundError if somebody has removed it, BadRecordError if it is damaged."""
        _, own = self._opened()
        return own.read_record(name)

    def remove_all(self, names: Iterable[str]) -> None:
        """Forget results: the server has them."""
        _, own = self._opened()
        for name in names:
            own.remove(name)

    def set_aside(self, name: str) -> None:
        """Put a file that turned out to be damaged with the bad ones. Raises OSError."""
        _, own = self._opened()
        self._set_aside(own, name)

    def keep_superseded(self, record: Record, name: str | None) -> None:
        """Keep a result that came too late for a while, in place of the file of that name. Raises OSError."""
        base, own = self._opened()
        with contextlib.closing(Folder.open(self.path / SUPERSEDED, base)) as folder:
            folder.write(new_name(record.task_id), encode_record(record))
        if name is not None:
            own.remove(name)
        if self._superseded % _PRUNE_EVERY == 0:
            self._prune(SUPERSEDED)
        self._superseded += 1

    def close(self) -> None:
        """Give the folder up: remove it if nothing waits in it, else leave it to the next start."""
        base, own = self._opened()
        self._base = self._own = None
        if not any(name != LOCK for name in own.names()):
            _discard(base, own)
        os.close(self._lock)
        own.close()
        base.close()

    def _set_aside(self, source: Folder, name: str) -> None:
        base, _ = self._opened()
        with contextlib.closing(Folder.open(self.path / BAD, base)) as folder:
            source.move(name, folder, new_name(name))

    def _prune(self, name: str) -> None:
        """Keep the newest files only of a folder."""
        base, _ = self._opened()
        with contextlib.closing(Folder.open(self.path / name, base)) as folder:
            _prune(folder)

    def _opened(self) -> tuple[Folder, Folder]:
        assert self._base is not None
        assert self._own is not None
        return self._base, self._own

    @staticmethod
    @contextlib.contextmanager
    def _quiet(base: Folder) -> Iterator[None]:
        """Make and take over folders one process at a time: a new one is not locked yet when it appears."""
        descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=base.descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def locked(folder: Folder) -> int | None:
    """Lock a folder; None if another process has it, or has just removed it. The lock ends with its process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(LOCK, flags, 0o600, dir_fd=folder.descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


def _discard(base: Folder, folder: Folder) -> None:
    """Remove an empty folder that we have locked, together with its lock."""
    with contextlib.suppress(OSError):
        folder.remove(LOCK)
        os.rmdir(folder.path.name, dir_fd=base.descriptor)


def _prune(folder: Folder) -> None:
    known: list[tuple[float, str]] = []
    for name in folder.names():
        with contextlib.suppress(OSError):
            known.append((folder.state(name).st_mtime, name))
    known.sort(reverse=True)
    oldest = time.time() - LONGEST_KEPT  # a date on disk can only be compared with a date
    for place, (written, name) in enumerate(known):
        if place >= MOST_KEPT or written < oldest:
            folder.remove(name)
