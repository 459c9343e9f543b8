"""Results that the server has not taken yet: where each is held, on disk or in memory, and how many there may be."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from podium.discovery import counted
from podium.polled import PolledTask
from podium.spoolfile import BadRecordError, Record, SpoolError, UnreadableSpoolError
from podium.waiting import Room, Waiting, Watch

if TYPE_CHECKING:
    from podium.spool import Spool, Takeover

logger = logging.getLogger(__name__)

R = TypeVar("R")
#: Runs blocking work elsewhere.
InThread = Callable[..., Awaitable[Any]]


#: A result on disk takes a kilobyte of memory, one in memory all of its size.
ON_DISK: Final = (100_000, 2 * 1024**3)
IN_MEMORY: Final = (1000, 64 * 1024**2)
#: Folders of processes that have ended are looked for again after this many seconds.
LOOK_AGAIN: Final = 60.0


class Outbox:
    """Holds waiting results. Without a spool, or where that fails, they are in memory.

    The methods are for the engine's loop; the disk's work is done in one thread.
    """

    def __init__(self, spool: Spool | None, watch: Watch, in_thread: InThread | None = None) -> None:
        self._spool = spool
        self._watch = watch
        self._thread: concurrent.futures.ThreadPoolExecutor | None = None
        self._in_thread = in_thread or self._in_own_thread
        self._entries: dict[int, Waiting] = {}
        self._by_task: dict[str, int] = {}
        self._unreleased: list[Waiting] = []
        self._disk = Room(*ON_DISK)
        self._memory = Room(*IN_MEMORY)
        self._saving: set[asyncio.Task[None]] = set()
        #: Names of files that are to be removed, and the asyncio task that does it.
        self._done_with: list[str] = []
        self._removing: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        self._usable = False
        #: The size of all that waits.
        self.bytes = 0
        #: Whether the last write failed.
        self.failing = False

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(list(self._entries.values()))

    def of_task(self, task_id: str) -> Waiting | None:
        """Return the latest result of that task that waits; None if none does."""
        return self._entries.get(self._by_task.get(task_id, 0))

    def holds(self, task_id: str) -> bool:
        """Whether a result of that task waits."""
        return task_id in self._by_task

    async def open(self) -> None:
        """Open the spool. What cannot be opened is warned of, and results are held in memory."""
        try:
            if self._spool is not None:
                await self._in_thread(self._spool.open)
                self._usable = True
        except (SpoolError, OSError) as error:
            self._spool = None
            self.failing = True
            self._watch.on_spool_failure()
            logger.warning(
                "results that cannot be delivered will wait in memory, and not survive the process: %s", error
            )
        finally:
            self._opened.set()

    async def take_over(self) -> list[Waiting]:
        """Take over what earlier processes have left; return it, held already."""
        if not self._usable or self._spool is None:
            return []
        try:
            takeover: Takeover = await self._in_thread(self._spool.take_over)
        except (OSError, SpoolError) as error:
            self._fails(error)
            return []
        if takeover.fault is not None:
            self._fails(takeover.fault)
        if takeover.bad:
            (name, fault), *others = takeover.bad
            more = f", and {len(others)} more" if others else ""
            logger.error("%s: set aside as no result that can be sent: %s (%s)%s", self._spool.path, name, fault, more)
        entries = [self._adopted(found.name, found.record, found.size) for found in takeover.found]
        for entry in entries:
            self._keep(entry)
            self._enter(entry, self._disk)
        if entries:
            logger.info("%s that an earlier process has left will be delivered", counted(len(entries), "result"))
            self._watch.on_waiting(len(self._entries), self.bytes)
        return entries

    def _adopted(self, name: str, record: Record, size: int) -> Waiting:
        task = PolledTask.stand_in(record.task_id, record.workflow_id, record.response_timeout, record.poll_count)
        now = asyncio.get_running_loop().time()
        return Waiting(
            task=task, task_type=record.task_type, worker_id=record.worker_id, status=record.status, body=None,
            size=size, problem=SpoolError(record.problem), attempts=0, created=record.created, begun=now, since=now,
            adopted=True, name=name,
        )  # fmt: skip

    def hold(self, entry: Waiting) -> None:
        """Hold a result; its ``released`` says when it is safe, or over."""
        self._keep(entry)
        self._unreleased.append(entry)
        if self._spool is None:
            self._release_what_fits()
        else:
            self._start_saving(entry)
        self._watch.on_waiting(len(self._entries), self.bytes)

    def _keep(self, entry: Waiting) -> None:
        self._entries[id(entry)] = entry
        self.bytes += entry.size
        self._by_task[entry.task.task_id] = id(entry)

    def _start_saving(self, entry: Waiting) -> None:
        saving = asyncio.get_running_loop().create_task(self._save(entry))
        self._saving.add(saving)
        saving.add_done_callback(self._saving.discard)

    async def _save(self, entry: Waiting) -> None:
        """Write a result to disk, so that its memory, and then the worker's slot, come free."""
        await self._opened.wait()
        if entry.settled or entry.name is not None or entry.body is None:
            return
        if self._spool is not None:
            try:
                name = await self._in_thread(self._write, entry, self._record(entry))
            except (OSError, SpoolError) as error:
                self._fails(error)
            else:
                if name is None or entry.settled:
                    self._forget(name)
                    return
                entry.name, entry.body = name, None
                self._works()
                if entry.room is self._memory:
                    self._leave(entry)
                    self._enter(entry, self._disk)
        self._release_what_fits()

    def _write(self, entry: Waiting, record: Record) -> str | None:
        """In the thread: by now the server may have it."""
        assert self._spool is not None
        return None if entry.settled else self._spool.save(record)

    def _record(self, entry: Waiting) -> Record:
        assert self._spool is not None
        assert entry.body is not None
        return Record(
            task_id=entry.task.task_id, workflow_id=entry.task.workflow_id, task_type=entry.task_type,
            worker_id=entry.worker_id, status=entry.status, response_timeout=entry.task.head.response_timeout_seconds,
            poll_count=entry.task.head.poll_count,
            server=self._spool.server, host=self._spool.host, created=entry.created, attempts=entry.attempts,
            problem=str(entry.problem), body=msgspec.Raw(entry.body),
        )  # fmt: skip

    async def save_again(self, entry: Waiting) -> None:
        """Try the disk once more for a result that it did not take."""
        if entry.name is None and not entry.settled and self._spool is not None:
            await self._save(entry)

    async def body_of(self, entry: Waiting) -> bytes | None:
        """Return the update of a result; None if its file is gone or damaged: then it has left.

        Raises UnreadableSpoolError if the disk does not give it back just now.
        """
        if entry.body is not None:
            return entry.body
        if self._spool is None or entry.name is None:  # it has left
            return None
        try:
            record: Record = await self._in_thread(self._spool.load, entry.name)
            return bytes(record.body)
        except FileNotFoundError:
            if entry.settled:
                return None
            logger.warning("the result of task %s is gone: its file was removed", entry.task.task_id)
            entry.name = None
        except BadRecordError as error:
            logger.critical("the result of task %s is lost: its file was damaged (%s)", entry.task.task_id, error)
            with contextlib.suppress(OSError, SpoolError):
                await self._in_thread(self._spool.set_aside, entry.name)
            entry.name = None
        except OSError as error:
            self._watch.on_spool_failure()
            raise UnreadableSpoolError(f"{self._spool.path}: {error.strerror}") from None
        return None

    def settle(self, entry: Waiting) -> None:
        """Let a result go: the server has it, or will never take it."""
        self._forget(self._strike(entry))

    async def settle_superseded(self, entry: Waiting, body: bytes | None, reason: str) -> bool:
        """Let a result go that came too late, and keep it for a while; return whether that could be done."""
        kept = False
        if body is not None and self._usable and self._spool is not None:
            entry.body = body
            record = msgspec.structs.replace(self._record(entry), problem=reason)
            try:
                await self._in_thread(self._spool.keep_superseded, record, entry.name)
                entry.name, kept = None, True
            except (OSError, SpoolError) as error:
                self._fails(error)
        self.settle(entry)
        return kept

    def _strike(self, entry: Waiting) -> str | None:
        if entry.settled:
            return None
        entry.settled = True
        if self._entries.pop(id(entry), None) is None:  # it never had to wait
            return None
        self.bytes -= entry.size
        if self._by_task.get(entry.task.task_id) == id(entry):
            del self._by_task[entry.task.task_id]
        self._leave(entry)
        entry.body = None
        entry.released.set()
        self._release_what_fits()
        self._watch.on_waiting(len(self._entries), self.bytes)
        name, entry.name = entry.name, None
        return name

    def _forget(self, name: str | None) -> None:
        """Remove a file soon, many at a time. If that is never done, its result is sent again, which does no harm."""
        if name is None:
            return
        self._done_with.append(name)
        if self._removing is None or self._removing.done():
            self._removing = asyncio.get_running_loop().create_task(self._remove())

    async def _remove(self) -> None:
        while self._done_with and self._spool is not None:
            names, self._done_with = self._done_with, []
            await self._in_thread(self._spool.remove_all, names)

    def _enter(self, entry: Waiting, room: Room) -> None:
        entry.room = room
        room.count += 1
        room.bytes += entry.size
        entry.released.set()

    @staticmethod
    def _leave(entry: Waiting) -> None:
        if entry.room is not None:
            entry.room.count -= 1
            entry.room.bytes -= entry.size
            entry.room = None

    def _release_what_fits(self) -> None:
        """Free the slots of results for which there is room now, the oldest first."""
        still = []
        for entry in self._unreleased:
            room = self._disk if entry.name is not None else self._memory
            if entry.settled:
                continue
            if room.fits(entry.size) and (entry.name is not None or self._spool is None or self.failing):
                self._enter(entry, room)
            else:
                still.append(entry)
        self._unreleased = still

    def _fails(self, error: Exception) -> None:
        self._watch.on_spool_failure()
        if not self.failing:
            assert self._spool is not None
            logger.warning(
                "results cannot be written to %s and wait in memory, where they do not survive the process: %s",
                self._spool.path, error,
            )  # fmt: skip
        self.failing = True

    def _works(self) -> None:
        if self.failing:
            assert self._spool is not None
            logger.info("results can be written to %s again", self._spool.path)
        self.failing = False

    async def flush(self) -> None:
        """Write what is not on disk yet, if that can be done."""
        for saving in list(self._saving):
            await saving
        if self._removing is not None:
            await self._removing
        for entry in self:
            await self.save_again(entry)

    async def close(self) -> None:
        """Close the spool."""
        if self._usable and self._spool is not None:
            self._usable = False
            try:
                with contextlib.suppress(OSError):
                    await self._in_thread(self._spool.close)
            finally:
                if self._thread is not None:
                    self._thread.shutdown(wait=False)

    async def _in_own_thread(self, work: Callable[..., R], *arguments: Any) -> R:
        if self._thread is None:
            self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="podium-spool")
        try:
            working = asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)
        except RuntimeError:  # the program ends without having stopped its workers: Python starts no thread any more
            return work(*arguments)
        return await working
