"""The thread crew: functions run in this process, in threads and on a loop of their own beside the engine's.

Least memory and fastest start; but a function that holds the GIL holds up the engine too, and one that crashes takes
the process along.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from podium.loops import beat, close_loop, loop_factory
from podium.polled import Abandoned, Interrupted, PolledTask, was_cancelled
from podium.pool import TaskPool
from podium.records import TASK_FIELDS_ON_RECORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from podium.execution import Runnable
    from podium.frames import Outcome

logger = logging.getLogger(__name__)

#: How long what is cancelled at stop may take to end, and then the loop.
_CANCEL_SECONDS: Final = 1.0
_LOOP_END_SECONDS: Final = 0.5


class ThreadCrew:
    """Implements ``podium.oversight.Crew`` for all workers of this process that are not in child processes.

    ``beat_interval`` is how often its loop shows that it turns, in seconds (0 = never); ``on_change`` is called when
    code that was left behind has ended, so that its place is free. While a crew runs, the log
    records that its tasks make carry the task's fields, by way of the process's log record factory.
    """

    def __init__(
        self, workers: Sequence[Runnable], beat_interval: float = 5.0, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._workers = workers
        self._beat_interval = beat_interval
        self._on_change = on_change
        #: Monotonic time of the last sign of life from the crew's loop, and how many seconds late its last beat was.
        self.last_heard = time.monotonic()
        self.lag = 0.0
        self._marks_records = False
        self._engine = asyncio.get_running_loop()
        self._keys = itertools.count(1)
        self._in_hand: dict[int, tuple[int, asyncio.Future[Outcome]]] = {}
        self._busy = [0] * len(workers)
        self._stuck = [0] * len(workers)
        self._batch: list[tuple[int, int, bytes]] = []
        #: What the engine is to settle, and whether it has been woken for that.
        self._outcomes: deque[Outcome] = deque()
        self._waking = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: TaskPool | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._ended: asyncio.Future[None] = self._engine.create_future()

    async def start(self) -> None:
        """Start the loop that coroutines run on."""
        TASK_FIELDS_ON_RECORDS.add()
        self._marks_records = True
        started: asyncio.Future[None] = self._engine.create_future()
        self._thread = threading.Thread(target=self._run_loop, args=(started,), name="podium-crew", daemon=True)
        self._thread.start()
        await started

    @property
    def alive(self) -> bool:
        """Whether tasks can run."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def thread_id(self) -> int:
        """The id of the thread of the crew's loop; 0 before the start."""
        return (self._thread.ident or 0) if self._thread is not None else 0

    @property
    def silent_for(self) -> float | None:
        """Seconds since the crew's loop was heard, as for a child; None if it is not asked to beat, or has ended."""
        return time.monotonic() - self.last_heard if self._beat_interval and self.alive else None

    def free(self, worker: int) -> int:
        """Return how many more tasks of that worker could start now."""
        return self._workers[worker].thread_count - self._busy[worker]

    def stuck(self, worker: int) -> int:
        """Return how many executions of that worker go on although nobody waits for them any more."""
        return self._stuck[worker]

    def run(self, worker: int, task: PolledTask) -> asyncio.Future[Outcome]:
        """Execute a task."""
        future: asyncio.Future[Outcome] = self._engine.create_future()
        key = next(self._keys)
        self._in_hand[key] = (worker, future)
        self._busy[worker] += 1
        if not self._workers[worker].is_async:
            assert self._pool is not None
            self._pool.run(worker, key, task.raw)
            return future
        self._batch.append((worker, key, task.raw))
        if len(self._batch) == 1:  # all that start in one turn of the engine's loop cross over together
            self._engine.call_soon(self._hand_over)
        return future

    @property
    def deserted(self) -> bool:
        """Whether no task will run here any more: never, this process runs."""
        return False

    def wind_down(self) -> None:
        """Start nothing any more; nothing waits here."""

    def cancel(self, future: asyncio.Future[Outcome]) -> None:
        """Ask an execution to end."""
        key, loop, pool = self._key_of(future), self._loop, self._pool
        if key is not None and loop is not None and pool is not None:
            self._engine.call_soon(loop.call_soon_threadsafe, pool.cancel, key)  # after what still is to start

    async def evict(self, future: asyncio.Future[Outcome], why: str) -> str:
        """Abandon an execution, because its code cannot be stopped; return where the code is."""
        key = self._key_of(future)
        if key is None or self._pool is None or future.done():
            return ""
        stack = self._pool.stack(key)
        self._stuck[self._in_hand[key][0]] += 1
        logger.error("%s, and its code cannot be stopped in a thread of this process: its slot stays taken", why)
        future.set_exception(Abandoned())
        return stack

    def _key_of(self, future: asyncio.Future[Outcome]) -> int | None:
        return next((key for key, (_, known) in self._in_hand.items() if known is future), None)

    async def stop(self) -> None:
        """Ask all code to end; what does is Interrupted, the rest is Abandoned. Then end the loop."""
        if self._marks_records:
            self._marks_records = False
            TASK_FIELDS_ON_RECORDS.remove()
        loop, pool = self._loop, self._pool
        if loop is None or pool is None or self._stopping:
            return
        self._stopping = True
        loop.call_soon_threadsafe(pool.close)
        if self._in_hand:
            await asyncio.wait([future for _, future in self._in_hand.values()], timeout=_CANCEL_SECONDS)
        for _, future in self._in_hand.values():
            if not future.done():
                future.set_exception(Abandoned())
        loop.call_soon_threadsafe(loop.stop)
        await asyncio.wait([self._ended], timeout=_LOOP_END_SECONDS)

    def _run_loop(self, started: asyncio.Future[None]) -> None:
        loop = loop_factory()()
        asyncio.set_event_loop(loop)
        self._loop = loop

        async def open_pool() -> None:
            self._pool = TaskPool(self._workers, self._deliver, owner="the event loop of the thread crew")
            beat(loop, self._beat_interval, self._hear)
            self._engine.call_soon_threadsafe(started.set_result, None)

        try:
            loop.run_until_complete(open_pool())
            while not self._stopping:  # asyncio lets a SystemExit of any task end the whole loop
                with contextlib.suppress(SystemExit, KeyboardInterrupt):
                    loop.run_forever()
        finally:
            close_loop(loop)
            with contextlib.suppress(RuntimeError):  # the engine did not wait that long
                self._engine.call_soon_threadsafe(self._ended.set_result, None)

    def _hand_over(self) -> None:
        assert self._loop is not None
        batch, self._batch = self._batch, []
        self._loop.call_soon_threadsafe(self._start, batch)

    def _start(self, batch: list[tuple[int, int, bytes]]) -> None:
        assert self._pool is not None
        for worker, key, raw in batch:
            self._pool.run(worker, key, raw)

    def _hear(self, lag: float) -> None:
        """Take note that the crew's loop turns; called on it."""
        self.last_heard, self.lag = time.monotonic(), lag

    def _deliver(self, outcomes: list[Outcome]) -> None:
        """Carry outcomes to the engine; called in any thread."""
        self._outcomes.extend(outcomes)
        if not self._waking:
            self._waking = True
            with contextlib.suppress(RuntimeError):  # the engine has ended, and nobody waits for them
                self._engine.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        # The flag goes first: what comes from here on is either taken below or wakes the engine again.
        self._waking = False
        while self._outcomes:
            outcome = self._outcomes.popleft()
            worker, future = self._in_hand.pop(outcome.key)
            self._busy[worker] -= 1
            if future.done():
                self._stuck[worker] -= 1
                self._on_change()
                continue
            if self._stopping and was_cancelled(outcome):
                future.set_exception(Interrupted())
            else:
                future.set_result(outcome)
