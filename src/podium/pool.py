"""Where executions run: plain functions in threads, coroutines on a loop. Used by a child and by the thread crew.

Methods are called on the loop that the pool was made for, unless they say otherwise.
"""

from __future__ import annotations

import asyncio
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


class TaskPool:
    """Runs attempts and gives their outcomes back.

    ``deliver`` is called with the outcome of a plain function in the thread that ran it, and on the loop with those of
    the coroutines that ended in one of its turns. It must not wait. ``attendance`` is where threads note what they run,
    for those who look on from outside, ``owner`` whose loop it is, for log lines.
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
        self._threads = [_Threads(worker, self._take, attendance) for worker in workers]
        self._attempts: dict[int, Attempt] = {}
        self._coroutines: dict[int, asyncio.Task[None]] = {}
        self._loop_thread = threading.get_ident()
        self._watch = LoopWatch(self._loop, lambda: bool(self._coroutines), owner)
        self._ended: list[Outcome] = []

    def run(self, worker: int, key: int, raw: bytes) -> None:
        """Start an attempt of the worker with that index; a plain function's in any thread."""
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
            if attempt.is_on_loop and (task := self._coroutines.get(key)) is not None:
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
        task = self._loop.create_task(self._see_through(attempt, coroutine), context=attempt.context)
        self._coroutines[attempt.key] = task
        self._watch.attend()

    async def _see_through(self, attempt: Attempt, coroutine: Coroutine[Any, Any, Outcome]) -> None:
        """Run a coroutine to its end, unless it was cancelled before its first step, or while a thread still had it."""
        attempt.is_on_loop = True
        if attempt.cancellation.asked:
            coroutine.close()
            outcome = attempt.fail(asyncio.CancelledError())
        else:
            outcome = await coroutine
        del self._coroutines[attempt.key], self._attempts[attempt.key]
        self._ended.append(outcome)
        if len(self._ended) == 1:
            self._loop.call_soon(self._deliver_ended)

    def _deliver_ended(self) -> None:
        ended, self._ended = self._ended, []
        self._deliver(ended)

    def _take(self, attempt: Attempt, handed: Outcome | Coroutine[Any, Any, Outcome]) -> None:
        """Take what a plain function has come to: its outcome, or a coroutine that goes on; called in its thread."""
        if isinstance(handed, Outcome):
            del self._attempts[attempt.key]
            self._deliver([handed])
            return
        try:
            self._loop.call_soon_threadsafe(self._spawn, attempt, handed)
        except RuntimeError:  # the loop is closed: the process is ending and nobody waits for this outcome
            handed.close()


class _Threads:
    """The threads of one plain worker: as many as its tasks ever needed at once, at most its thread_count."""

    def __init__(
        self,
        worker: Runnable,
        take: Callable[[Attempt, Outcome | Coroutine[Any, Any, Outcome]], None],
        attendance: Attendance | None,
    ) -> None:
        self._worker = worker
        self._take = take
        self._attendance = attendance
        #: Guards what follows.
        self._lock = threading.Lock()
        self._queued: deque[Attempt] = deque()
        #: What idle threads wait for, the one that became idle last at the end: it is the quickest to go on.
        self._idle: list[threading.Lock] = []
        #: Whether a thread is on its way to what is queued. It wakes the next one, if there is work for two.
        self._waking = False
        self._started = 0
        #: Attempts queued or running.
        self._busy = 0
        self._closed = False

    def submit(self, attempt: Attempt) -> None:
        """Run an attempt as soon as a thread is free; to be called in any thread."""
        with self._lock:
            self._queued.append(attempt)
            self._busy += 1
            is_short = self._started < min(self._busy, self._worker.thread_count)
            if is_short:
                self._started += 1
            else:
                self._wake()
        if is_short:
            self._start(attempt)

    def close(self) -> None:
        """Let the threads end when nothing is queued any more."""
        with self._lock:
            self._closed = True
            for gate in self._idle:
                gate.release()
            self._idle.clear()

    def _start(self, attempt: Attempt) -> None:
        # A daemon, so that a function that never returns cannot keep the process alive.
        thread = threading.Thread(target=self._work, name=f"{self._worker.name}-{self._started}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no room for it; those that there are do the work
            with self._lock:
                self._started -= 1
                is_lost = not self._started
                if is_lost:
                    self._busy -= 1
                    self._queued.remove(attempt)
            if is_lost:
                self._take(attempt, attempt.fail(error))

    def _wake(self) -> None:
        if self._idle and not self._waking:
            self._waking = True
            self._idle.pop().release()

    def _next(self, gate: threading.Lock) -> Attempt | None:
        """Return the next attempt if there is one; else the thread is idle, and to wait at its gate. Needs the lock."""
        if not self._queued:
            if self._closed:  # nobody else will
                gate.release()
            else:
                self._idle.append(gate)
            return None
        attempt = self._queued.popleft()
        if self._queued:
            self._wake()
        return attempt

    def _work(self) -> None:
        gate = threading.Lock()
        gate.acquire()
        attendance = self._attendance
        place = attendance.enter() if attendance is not None else 0
        with self._lock:
            attempt = self._next(gate)
        while True:
            while attempt is None:
                gate.acquire()
                with self._lock:
                    if self._closed and not self._queued:
                        return
                    self._waking = False
                    attempt = self._next(gate)
            if attendance is not None:
                attendance.note(place, attempt.key)
            handed = run_plain(attempt)
            if attendance is not None:
                attendance.note(place, 0)
            with self._lock:
                self._busy -= 1
                following = self._next(gate)
            self._take(attempt, handed)  # last: whoever hears of it finds the thread idle
            attempt = following
            del handed, following  # what is large must not live until the next task comes
