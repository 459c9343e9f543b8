"""A look at a spool from outside, also while workers use it: what waits, what came too late, what cannot be read."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from podium.spool import BAD, LOCK, PREFIX, SUPERSEDED, locked, this_host
from podium.spoolfile import SUFFIX, BadRecordError, Folder, Record, SpoolError

State = Literal["waiting", "held", "foreign", "superseded", "bad"]
#: How much of a file that is no record is shown.
_SHOWN: Final = 2000
#: Letters of a file's name that are shown to name it by.
_SHORT: Final = 12


@dataclass(frozen=True)
class Kept:
    """A file of the spool.

    ``state`` is "waiting" (the next start on this host delivers it), "held" (a running worker does), "foreign" (of
    another host), "superseded" (it came too late), or "bad" (no record).
    """

    state: State
    folder: Path
    name: str
    size: int
    #: Seconds since the first failed attempt, or since the file was written.
    age: float
    record: Record | None
    #: Why it is there.
    reason: str

    @property
    def key(self) -> str:
        """What to call it."""
        return self.name.removesuffix(SUFFIX)[:_SHORT]


class SpoolView:
    """The spool of a folder; each method looks anew. Raises SpoolError if the folder cannot be used."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def kept(self) -> list[Kept]:
        """Return everything in the spool, the oldest first; an empty list if there is no spool."""
        try:
            with contextlib.closing(Folder.open(self.path, create=False)) as base:
                found = [kept for name in base.names() for kept in self._in(base, name)]
        except FileNotFoundError:
            return []
        return sorted(found, key=lambda kept: -kept.age)

    def find(self, key: str) -> Kept:
        """Return the file whose name begins so, or the only result of that task; SpoolError if there is none."""
        everything = self.kept()
        found = [kept for kept in everything if kept.name.startswith(key)] if key else []
        found = found or [kept for kept in everything if kept.record is not None and kept.record.task_id == key]
        if len(found) != 1:
            what = f"{len(found)} results" if found else "no result"
            raise SpoolError(f"{what} by the name of {key!r} in {self.path}: podium spool list shows the names")
        return found[0]

    def drop(self, kept: Kept) -> None:
        """Delete a file. SpoolError if a running worker holds it."""
        with self.hands_on(kept) as folder:
            folder.remove(kept.name)

    def read(self, kept: Kept) -> bytes:
        """Return the content of a file; of one that is no record, the beginning. SpoolError if it cannot be read."""
        with contextlib.closing(Folder.open(kept.folder, create=False)) as folder:
            try:
                return folder.read(kept.name) if kept.record is not None else folder.read(kept.name)[:_SHOWN]
            except (OSError, BadRecordError) as error:
                raise SpoolError(f"{kept.name}: {error}") from None

    @contextlib.contextmanager
    def hands_on(self, kept: Kept) -> Iterator[Folder]:
        """Hold a file's folder, so that no worker takes it over meanwhile. SpoolError if one has it already."""
        try:
            folder = Folder.open(kept.folder, create=False)
        except FileNotFoundError:
            raise SpoolError(f"{kept.key} is gone: a worker has just taken it over") from None
        with contextlib.closing(folder):
            if not kept.folder.name.startswith(PREFIX):
                yield folder
                return
            try:
                lock = locked(folder)
            except FileNotFoundError:
                raise SpoolError(f"{kept.key} is gone: a worker has just taken it over") from None
            except OSError as error:
                raise SpoolError(f"{kept.folder} cannot be locked: {error.strerror}") from None
            if lock is None:
                raise SpoolError(f"{kept.key} is held by a running worker, which delivers it itself; stop it first")
            try:
                yield folder
            finally:
                os.close(lock)

    def _in(self, base: Folder, name: str) -> Iterator[Kept]:
        if not (name.startswith(PREFIX) or name in {SUPERSEDED, BAD}):
            return
        try:
            folder = Folder.open(self.path / name, base, create=False)
        except (FileNotFoundError, SpoolError):
            return
        with contextlib.closing(folder):
            try:
                state = self._state_of(folder)
            except FileNotFoundError:  # its worker has just ended, or another one has taken it over
                return
            except OSError as error:
                raise SpoolError(f"{folder.path} cannot be locked: {error.strerror}") from None
            for file in folder.names():
                if file != LOCK and file.endswith(SUFFIX):
                    with contextlib.suppress(OSError):  # it may be delivered just now
                        yield _kept(folder, file, state)

    @staticmethod
    def _state_of(folder: Folder) -> State:
        if folder.path.name == SUPERSEDED:
            return "superseded"
        if folder.path.name == BAD:
            return "bad"
        lock = locked(folder)
        if lock is None:
            return "held"
        os.close(lock)
        return "waiting"


def _kept(folder: Folder, name: str, state: State) -> Kept:
    status = folder.state(name)
    try:
        record = folder.read_record(name)
    except BadRecordError as error:
        return Kept("bad", folder.path, name, status.st_size, time.time() - status.st_mtime, None, str(error))
    if state == "bad":  # whole, but of another server
        return Kept(state, folder.path, name, status.st_size, time.time() - record.created, record, "set aside")
    if state == "waiting" and record.host != this_host():
        state = "foreign"
    reason = f"of host {record.host}" if state == "foreign" else record.problem
    return Kept(state, folder.path, name, status.st_size, time.time() - record.created, record, reason)
