"""Where executions run: plain functions in threads, coroutines on a loop. Used by a child and by the thread crew.

All methods are called on the loop that the pool was made for; only the threads' end of the hand-over is not.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from podium.execution import Attempt, run_async, run_plain
from podium.frames import Outcome
from podium.stacks import ThreadStack, awaiting, text_of
from podium.watch import LoopWatch, stack_of_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from podium.execution import Runnable
    from podium.testimony import Attendance

#: What a pool thread hands over: an outcome, or a coroutine that goes on where the plain function left off.
_Handed = tuple["_Threads", Attempt, "Outcome | Coroutine[Any, Any, Outcome]"]


class TaskPool:
    """Runs attempts and gives their outcomes back in batches.

    ``deliver`` is called on the loop with the outcomes that came in since it was called last: one wake-up of the
    loop serves all that finished meanwhile. ``attendance`` is where threads note what they run, for those who look on
    from outside, ``owner`` whose loop it is, for log lines.
    """

    def __init__(
        self,
        workers: Sequence[Runnable],
        deliver: Callable[[list[Outcome]], None],
        attendance: Attendance | None = None,
        *,
        owner: str = "the event loop",
    ) -> None:
        self._workers = workers
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._threads = [_Threads(worker, self._hand_over, attendance) for worker in workers]
        self._attempts: dict[int, Attempt] = {}
        self._coroutines: dict[int, asyncio.Task[Outcome]] = {}
        self._loop_thread = threading.get_ident()
        self._watch = LoopWatch(self._loop, lambda: bool(self._coroutines), owner)
        self._handed: deque[_Handed] = deque()
        self._finished: list[Outcome] = []
        self._waking = False
        self._delivering = False

    def run(self, worker: int, key: int, raw: bytes) -> None:
        """Start an attempt of the worker with that index."""
        attempt = self._attempts[key] = Attempt(self._workers[worker], key, raw)
        if attempt.worker.is_async:
            self._spawn(attempt, run_async(attempt))
        else:
            self._threads[worker].submit(attempt)

    def cancel(self, key: int) -> None:
        """Ask an attempt to end: a plain function can see it in its context, a coroutine gets CancelledError."""
        attempt = self._attempts.get(key)
        if attempt is not None:  # else it has ended meanwhile
            attempt.cancellation.ask()
            if (task := self._coroutines.get(key)) is not None:
                task.cancel()

    def stack(self, key: int) -> str:
        """Return where the code of an attempt is, as ``faulthandler`` tells it; empty if it has ended."""
        attempt, task = self._attempts.get(key), self._coroutines.get(key)
        ident = attempt.thread_id if attempt is not None else 0
        if task is not None:
            coroutine = task.get_coro()
            if not getattr(coroutine, "cr_running", False):
                return text_of(ThreadStack(self._loop_thread, frames=awaiting(coroutine)))
            ident = self._loop_thread
        thread = stack_of_thread(ident)
        return text_of(thread) if thread.frames else ""

    def close(self) -> None:
        """Cancel all attempts and let the threads end after what they are doing."""
        for key in list(self._attempts):
            self.cancel(key)
        for threads in self._threads:
            threads.close()
        self._watch.close()

    def _spawn(self, attempt: Attempt, coroutine: Coroutine[Any, Any, Outcome]) -> None:
        task = self._loop.create_task(coroutine, context=attempt.context)
        self._coroutines[attempt.key] = task
        self._watch.attend()
        task.add_done_callback(lambda done: self._on_coroutine_done(attempt, done))
        if attempt.cancellation.asked:  # while a thread still had it
            task.cancel()

    def _on_coroutine_done(self, attempt: Attempt, task: asyncio.Task[Outcome]) -> None:
        del self._coroutines[attempt.key]
        if task.cancelled():  # cancelled before its first step
            self._finish(attempt.fail(asyncio.CancelledError()))
        else:
            self._finish(task.result())

    def _hand_over(self, handed: _Handed) -> None:
        """Take what a thread has done; called in that thread."""
        self._handed.append(handed)
        if not self._waking:
            self._waking = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:  # the loop is closed: the process is ending and nobody waits for this outcome
                return

    def _collect(self) -> None:
        # The flag goes first: what a thread appends from here on is either taken below or wakes the loop again.
        self._waking = False
        while self._handed:
            threads, attempt, handed = self._handed.popleft()
            threads.busy -= 1
            if isinstance(handed, Outcome):
                self._finish(handed)
            else:
                self._spawn(attempt, handed)

    def _finish(self, outcome: Outcome) -> None:
        del self._attempts[outcome.key]
        self._finished.append(outcome)
        if not self._delivering:
            self._delivering = True
            self._loop.call_soon(self._deliver_batch)

    def _deliver_batch(self) -> None:
        self._delivering = False
        batch, self._finished = self._finished, []
        self._deliver(batch)


class _Threads:
    """The threads of one plain worker: as many as its tasks ever needed at once, at most its thread_count."""

    def __init__(self, worker: Runnable, hand_over: Callable[[_Handed], None], attendance: Attendance | None) -> None:
        self._worker = worker
        self._attendance = attendance
        self._hand_over = hand_over
        self._attempts: queue.SimpleQueue[Attempt | None] = queue.SimpleQueue()
        self._started = 0
        #: Attempts queued or running.
        self.busy = 0

    def submit(self, attempt: Attempt) -> None:
        self.busy += 1
        if self._started < min(self.busy, self._worker.thread_count):
            self._started += 1
            # A daemon, so that a function that never returns cannot keep the process alive.
            threading.Thread(target=self._work, name=f"{self._worker.name}-{self._started}", daemon=True).start()
        self._attempts.put(attempt)

    def close(self) -> None:
        for _ in range(self._started):
            self._attempts.put(None)

    def _work(self) -> None:
        attendance = self._attendance
        place = attendance.enter() if attendance is not None else 0
        while (attempt := self._attempts.get()) is not None:
            if attendance is None:
                handed = run_plain(attempt)
            else:
                attendance.note(place, attempt.key)
                handed = run_plain(attempt)
                attendance.note(place, 0)
            self._hand_over((self, attempt, handed))
            del attempt, handed  # a large input must not live until the next task comes
