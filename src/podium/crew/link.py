"""The parent's end of one child process: its connections, and the tasks that it has in hand."""

from __future__ import annotations

import asyncio
import errno
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

from podium import stacks
from podium.answers import printable
from podium.bundle import Bundle
from podium.crew.death import OOM_KILLS, Death, fault_in
from podium.crew.held import InHand, interrupt
from podium.crew.inquiry import stack_of
from podium.crew.recycling import NEVER, RETRY_SECONDS
from podium.crew.streams import ErrorStream, RecordStream
from podium.descriptor import readable_now
from podium.errors import StartError
from podium.frames import (
    Beat,
    Boot,
    BootFailed,
    Cancel,
    Exit,
    FrameReader,
    Locate,
    Located,
    Outcome,
    Ready,
    Run,
    ToChild,
    ToParent,
    encode,
)
from podium.polled import Interrupted, PolledTask, was_cancelled

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.crew.launch import Child, Launcher
    from podium.crew.logs import ChildLogs
    from podium.crew.recycling import Allowance

#: How long outcomes may still arrive from a child that is known to be dead: they are in the socket already.
_LAST_WORDS: Final = 1.0
#: How long a child is asked where a coroutine waits: one that cannot answer has something that blocks its loop.
_ANSWER_SECONDS: Final = 0.3


class Source(Bundle, frozen=True):
    """What the children of a crew are made of."""

    boot: Boot
    functions: list[Callable[..., Any]]
    launcher: Launcher
    logs: ChildLogs

    async def child(self, title: str, allowance: Allowance | None = None) -> ChildLink:
        """Start a child, which is to be opened then; raises StartError if the system has no room for it."""
        OOM_KILLS.look()  # what was killed before is none of ours
        try:
            child = await self.launcher.launch(self.functions)
        except OSError as error:
            advice = "; raise the limit of open files (ulimit -n)" if error.errno == errno.EMFILE else ""
            name = printable(title)
            raise StartError(f"worker process {name} cannot be started: {error.strerror}{advice}") from error
        return ChildLink(title, self.boot, child, self.logs, allowance or NEVER.allowance(alone=True))


class ChildLink(asyncio.Protocol):
    """One child, from its launch to its death; a successor gets a link of its own.

    When it has used up its ``allowance``, ``spent`` resolves to the reason, and nothing else happens.
    """

    def __init__(self, title: str, boot: Boot, child: Child, logs: ChildLogs, allowance: Allowance) -> None:
        self.title = title
        self.pid = child.pid
        #: Tasks in execution, per worker of the crew.
        self.busy = [0] * len(boot.workers)
        #: Monotonic time of the last sign of life from the child's loop, and how many seconds late its last beat was.
        self.last_heard = time.monotonic()
        self.lag = 0.0
        #: Memory that the child had resident when it was heard last, in bytes, and the most that it ever had.
        self.memory = self._peak = 0
        self._boot = boot
        self._child = child
        self._keys = itertools.count(1)
        self._in_hand: dict[int, InHand] = {}
        #: Frames that go out at the end of this turn of the loop.
        self._outgoing: list[bytes] = []
        self._cancelled: set[int] = set()
        self._located: dict[int, asyncio.Future[str]] = {}
        self._inquiry: asyncio.Task[str] | None = None
        #: Why the child was killed to end one of its tasks, which costs the other ones nothing; empty if it was not.
        self.evicted_for = ""
        #: Why podium has killed the child; empty if it has not.
        self._killed_for = ""
        self._reader: FrameReader[ToParent] = FrameReader(ToParent)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._records = RecordStream(child.ends.records, logs)
        self._errors = ErrorStream(child.ends.errors, logs)
        self._allowance = allowance
        self._ageing: asyncio.TimerHandle | None = None
        #: Monotonic time until which tasks and memory, or memory, use up nothing.
        self._spared_until = self._memory_spared_until = 0.0
        #: What to say if the child had as much memory as it may at its start; empty if it had not.
        self.born_large = ""
        #: Whether the child is to end as soon as it has finished what it has.
        self._retiring = False
        self.spent: asyncio.Future[str] = self._loop.create_future()
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._eof: asyncio.Future[None] = self._loop.create_future()

    async def open(self) -> None:
        """Connect, boot the child, and wait until it can run tasks; raises StartError if it cannot."""
        ends = self._child.ends
        ends.frames.setblocking(False)
        self._transport, _ = await self._loop.create_unix_connection(lambda: self, sock=ends.frames)
        self._say(self._boot)
        started: list[asyncio.Future[Any]] = [self._ready, self._child.exited]
        await asyncio.wait(started, return_when=asyncio.FIRST_COMPLETED)
        if not self._ready.done():
            await asyncio.wait([self._eof], timeout=_LAST_WORDS)
        if not self._ready.done():
            death = self._learn(self._child.exited.result())
            self._ready.set_exception(StartError(f"{self.title}: while it was starting, the {death.reason}"))
        self._ready.result()
        if self._allowance.age is not None:
            self._ageing = self._loop.call_later(self._allowance.age, lambda: self._spend(self._allowance.age_used()))

    @property
    def exited(self) -> asyncio.Future[int | None]:
        """Resolves to the exit code when the process has ended."""
        return self._child.exited

    @property
    def alive(self) -> bool:
        """Whether the child can take tasks, as far as is known."""
        return not self._eof.done() and not self._child.exited.done()

    @property
    def silent_for(self) -> float | None:
        """Seconds since the child's loop was heard; None if it is not asked to beat.

        It is heard while plain functions run in threads, however long, and not while a coroutine blocks the loop,
        something holds the GIL, or the process is stopped.
        """
        interval = self._boot.beat_interval
        if not interval:
            return None
        silence = time.monotonic() - self.last_heard
        return 0.0 if silence > 2 * interval and self._is_unheard() else silence

    def _is_unheard(self) -> bool:
        """Whether words of the child wait to be read: then it is this process that was held up, not the child."""
        fd = self._child.ends.frames.fileno()
        return fd != -1 and readable_now(fd)()

    async def stack(self) -> str:
        """Return where the threads of the child are, innermost call first, also while it holds the GIL or blocks.

        Threads that run a task are named after it, podium's own calls are left out. If the child does not answer within
        a second, a text in parentheses says so.
        """
        if self._child.exited.done():  # another process may have its id by now
            return "(the process has ended)"
        if self._inquiry is None or self._inquiry.done():  # else its answer is everybody's
            tasks = {key: f"task {entry.task.task_id}" for key, entry in self._in_hand.items()}
            self._inquiry = self._loop.create_task(stack_of(self.pid, self._child.ends, tasks))
        return await asyncio.shield(self._inquiry)

    def run(self, worker: int, task: PolledTask, future: asyncio.Future[Outcome]) -> None:
        """Hand a task to the child; ``future`` will have its outcome, whatever becomes of the child."""
        key = next(self._keys)
        self._in_hand[key] = InHand(key, worker, task, future, time.time())
        self.busy[worker] += 1
        self._say(Run(key, worker, task.raw))
        if key >= self._allowance.tasks:
            self._spend(self._allowance.tasks_used(), unless_before=self._spared_until)

    def _say(self, frame: ToChild) -> None:
        """Send a frame, together with all others of this turn of the loop."""
        self._outgoing.append(encode(frame))
        if len(self._outgoing) == 1:
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(outgoing))

    def holds(self, future: asyncio.Future[Outcome]) -> bool:
        """Whether this child executes the task whose outcome that is."""
        return self._key_of(future) is not None

    def cancel(self, future: asyncio.Future[Outcome]) -> None:
        """Ask an execution to end."""
        key = self._key_of(future)
        if key is not None:
            self._say(Cancel(key))

    async def evict(self, future: asyncio.Future[Outcome], why: str) -> str:
        """Kill the child to end an execution; return where its code was. All that the child held is Interrupted."""
        stack = await self.stack_of_task(future)
        if not future.done():
            self.evicted_for = why
            self.kill(why)
            await asyncio.wait([future])
        return stack

    async def stack_of_task(self, future: asyncio.Future[Outcome]) -> str:
        """Return where the code of one task is: what ``stack`` would tell of it, or where its coroutine waits."""
        key = self._key_of(future) or 0
        if key not in self._child.ends.testimony.threads()[1] and (waits := await self._ask_where(key)):
            return waits
        text = await self.stack()
        main, running = self._child.ends.testimony.threads()
        thread = stacks.thread_in(text, running.get(key, main))
        return stacks.text_of(thread) if thread is not None else text

    async def _ask_where(self, key: int) -> str:
        """Ask the child where a coroutine waits; empty if it does not answer, because something blocks its loop."""
        if self._transport is None:
            return ""
        answer = self._located[key] = self._loop.create_future()
        self._say(Locate(key))
        await asyncio.wait([answer], timeout=_ANSWER_SECONDS)
        del self._located[key]
        return answer.result() if answer.done() else ""

    def _key_of(self, future: asyncio.Future[Outcome]) -> int | None:
        return next((key for key, entry in self._in_hand.items() if entry.future is future), None)

    def _spend(self, why: str, *, unless_before: float = 0.0) -> None:
        if not self.spent.done() and time.monotonic() >= unless_before:
            self.spent.set_result(why)

    def spare(self, seconds: float) -> None:
        """Let ``spent`` resolve again, so many seconds from now and no sooner."""
        why, self.spent = self.spent.result(), self._loop.create_future()
        self._spared_until = time.monotonic() + seconds
        if self._ageing is not None:
            self._ageing.cancel()
        self._ageing = self._loop.call_later(seconds, self._spend, why)

    def retire(self) -> None:
        """Let the child end when it has finished what it has. It must not get more."""
        self._retiring = True
        self._leave_if_idle()

    def _leave_if_idle(self) -> None:
        if not self._in_hand and self._transport is not None and self.alive:
            self._say(Exit())
            self._loop.call_later(_LAST_WORDS, self._child.kill)

    async def death(self) -> tuple[Death, list[InHand]]:
        """Wait for the child's end; return what is known of it, and the tasks that it held, to be settled elsewhere.

        What it held when it was killed for one of its tasks is Interrupted here, and nobody's fault.
        """
        exit_code = await self._child.wait()
        self._child.sweep()
        # The exit is known before the socket is read to its end: outcomes in it count.
        await asyncio.wait([self._eof], timeout=_LAST_WORDS)
        main, running = self._child.ends.testimony.threads()
        death = self._learn(exit_code)
        self._close()
        lost = list(self._in_hand.values())
        self._in_hand.clear()
        for entry in lost:
            self.busy[entry.worker] -= 1
            runs_in = running.get(entry.key)
            if death.thread_id in running.values():
                entry.is_culprit = runs_in == death.thread_id
            elif death.thread_id == main:  # where coroutines run
                entry.is_culprit = runs_in is None
        if self.evicted_for:
            interrupt(lost)
            lost = []
        return death, lost

    def _learn(self, exit_code: int | None) -> Death:
        """Return what is known of the end of the child, which is dead."""
        self._errors.finish()
        stack, thread_id = fault_in(self._child.ends.testimony.text(), exit_code)
        if not stack:  # the user's own faulthandler may write there
            stack, thread_id = fault_in(self._errors.kept, exit_code)
        return Death(
            exit_code=exit_code,
            killed_for=self._killed_for,
            peak_memory=max(self._child.peak_memory, self._peak),
            was_oom=OOM_KILLS.happened(),
            stack=stack,
            thread_id=thread_id,
            errors=self._errors.tail,
        )

    def kill(self, why: str) -> None:
        """Kill the child: it is of no use any more. What it held becomes known by its death."""
        self._killed_for = why
        self._child.kill()

    async def stop(self) -> int | None:
        """End the child, by force if it is busy or slow to go; what it held is Interrupted. Return its exit code.

        All code is asked to end first, so that it can clean up.
        """
        if self._transport is not None and self.alive:
            await self._cancel()
            if not self._in_hand:
                self._say(Exit())
                await asyncio.wait([self._child.exited], timeout=_LAST_WORDS)
        self._child.kill()
        exit_code = await self._child.wait()
        self._child.sweep()
        self._close()
        interrupt(list(self._in_hand.values()))
        self._in_hand.clear()
        return exit_code

    async def _cancel(self) -> None:
        self._cancelled = set(self._in_hand)
        if self._cancelled:
            for key in self._cancelled:
                self._say(Cancel(key))
            await asyncio.wait([self._in_hand[key].future for key in self._cancelled], timeout=_LAST_WORDS)

    def _settle(self, outcome: Outcome) -> None:
        entry = self._in_hand.pop(outcome.key)
        self.busy[entry.worker] -= 1
        if self._retiring:
            self._leave_if_idle()
        if entry.future.done():
            return
        if outcome.key in self._cancelled and was_cancelled(outcome):
            entry.future.set_exception(Interrupted())
        else:
            entry.future.set_result(outcome)

    def _close(self) -> None:
        if self._ageing is not None:
            self._ageing.cancel()
        self._records.close()
        self._errors.finish()
        self._child.ends.testimony.close()
        if self._transport is not None:
            self._transport.abort()
        else:
            self._child.ends.frames.close()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        """Take frames from the child."""
        for frame in self._reader.feed(data):
            match frame:
                case Outcome():
                    self._settle(frame)
                case Located(key, stack):
                    self._hear()
                    answer = self._located.get(key)
                    if answer is not None and not answer.done():
                        answer.set_result(stack)
                case Beat(lag, memory):
                    self._hear()
                    self.lag, self.memory, self._peak = lag, memory, max(memory, self._peak)
                    if memory >= self._allowance.memory:
                        spared_until = max(self._spared_until, self._memory_spared_until)
                        self._spend(self._allowance.memory_used(memory), unless_before=spared_until)
                case Ready(memory=memory):
                    self._hear()
                    if memory >= self._allowance.memory:  # so has its successor
                        self.born_large = self._allowance.born_large(memory)
                        self._memory_spared_until = time.monotonic() + RETRY_SECONDS
                    self._ready.set_result(None)
                case BootFailed(message):
                    self._ready.set_exception(StartError(f"{self.title}: {message}"))

    def _hear(self) -> None:
        """Take note of a sign of life from the child's loop; an outcome is none, threads send theirs themselves."""
        self.last_heard = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Take note that the child is gone, or cannot be talked to any more, which comes to the same."""
        self._eof.set_result(None)
        self._child.kill()
