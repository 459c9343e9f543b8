"""What happens to polls and tasks, as frozen records, and how listeners hear of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from podium.loops import close_loop

if TYPE_CHECKING:
    from podium.models import TaskResult

logger = logging.getLogger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRunnerEvent:
    """Base of all events; ``timestamp`` is UTC."""

    task_type: str
    timestamp: datetime = field(default_factory=_now)


@dataclass(frozen=True, kw_only=True, slots=True)
class PollStarted(TaskRunnerEvent):
    """A poll is about to be sent; ``poll_count`` is the number of tasks asked for."""

    worker_id: str
    poll_count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PollCompleted(TaskRunnerEvent):
    """A poll was answered."""

    duration_ms: float
    tasks_received: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PollFailure(TaskRunnerEvent):
    """A poll failed."""

    duration_ms: float
    cause: Exception


@dataclass(frozen=True, kw_only=True, slots=True)
class _OfTask(TaskRunnerEvent):
    task_id: str
    worker_id: str
    workflow_instance_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskExecutionStarted(_OfTask):
    """A task was handed to its crew."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskExecutionCompleted(_OfTask):
    """The function returned; the length is that of the execution itself."""

    duration_ms: float
    output_size_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskExecutionFailure(_OfTask):
    """The function raised, its input or output did not fit, or its process died."""

    cause: Exception
    duration_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskCancelled(_OfTask):
    """An execution has ended whose result nobody waits for, so that it was dropped.

    ``status`` is what the server had made of the task meanwhile: CANCELED or TIMED_OUT as a rule, REMOVED if it does
    not have the task any more.
    """

    status: str
    duration_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskGivenBack(_OfTask):
    """An execution was stopped before its end, through no fault of its task, which is put back into its queue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskUpdateCompleted(_OfTask):
    """The server took the result."""

    duration_ms: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskUpdateFailure(_OfTask):
    """The server did not take the result in ``retry_count`` attempts; the result is in the event."""

    cause: Exception
    retry_count: int
    task_result: TaskResult


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskPaused(TaskRunnerEvent):
    """A worker stopped polling because it was paused."""


@runtime_checkable
class TaskRunnerEventsListener(Protocol):
    """What a listener may implement: every method is optional, ``def`` or ``async def``.

    A listener is an ordinary object of the user's process and keeps its state. It is called in a thread of its own,
    in the order of the events, and sees all of them: those of every worker, whatever process its functions run in. A
    slow or failing one delays no poll, no task and no other listener. No listener has to inherit from this class;
    ``isinstance(x, TaskRunnerEventsListener)`` asks whether ``x`` has all the methods, which nobody requires.
    """

    def on_poll_started(self, event: PollStarted) -> Any:  # noqa: D102 - named after the event
        return None

    def on_poll_completed(self, event: PollCompleted) -> Any:  # noqa: D102
        return None

    def on_poll_failure(self, event: PollFailure) -> Any:  # noqa: D102
        return None

    def on_task_execution_started(self, event: TaskExecutionStarted) -> Any:  # noqa: D102
        return None

    def on_task_execution_completed(self, event: TaskExecutionCompleted) -> Any:  # noqa: D102
        return None

    def on_task_execution_failure(self, event: TaskExecutionFailure) -> Any:  # noqa: D102
        return None

    def on_task_cancelled(self, event: TaskCancelled) -> Any:  # noqa: D102
        return None

    def on_task_given_back(self, event: TaskGivenBack) -> Any:  # noqa: D102
        return None

    def on_task_update_completed(self, event: TaskUpdateCompleted) -> Any:  # noqa: D102
        return None

    def on_task_update_failure(self, event: TaskUpdateFailure) -> Any:  # noqa: D102
        return None

    def on_task_paused(self, event: TaskPaused) -> Any:  # noqa: D102
        return None


#: Method name of the listener protocol -> event class.
HANDLERS: dict[str, type[TaskRunnerEvent]] = {
    "on_poll_started": PollStarted,
    "on_poll_completed": PollCompleted,
    "on_poll_failure": PollFailure,
    "on_task_execution_started": TaskExecutionStarted,
    "on_task_execution_completed": TaskExecutionCompleted,
    "on_task_execution_failure": TaskExecutionFailure,
    "on_task_cancelled": TaskCancelled,
    "on_task_given_back": TaskGivenBack,
    "on_task_update_completed": TaskUpdateCompleted,
    "on_task_update_failure": TaskUpdateFailure,
    "on_task_paused": TaskPaused,
}


class Meter:
    """Is told what happens to every task of one type, where an event for each would cost more; this one does not care.

    It takes the place of the events in ``METERED``, and is called on the engine's loop.
    """

    def started(self) -> None:
        """A task was handed to its crew."""

    def completed(self, seconds: float, size: int) -> None:
        """A function returned after so many seconds; its output has so many bytes."""

    def delivered(self, seconds: float) -> None:
        """The server took a result, so many seconds after it was to be sent first."""


#: The handlers of the events that a meter stands for.
METERED: Final = frozenset({"on_task_execution_started", "on_task_execution_completed", "on_task_update_completed"})

#: Events that a listener may be behind; what comes then is left out for it, until it is behind half as much.
MAX_BEHIND: Final = 100_000


class EventDispatcher:
    """Hands every event to every listener that wants it, in order.

    Each listener has a thread of its own, which starts with the first event that it wants to hear: a slow or failing
    one holds up neither the engine nor the other listeners. A listener with ``handles_events_inline = True`` is called
    by the publisher itself; it must return within microseconds, as metrics do.
    """

    def __init__(self, listeners: Iterable[object] = ()) -> None:
        self._takers: dict[type[TaskRunnerEvent], list[Callable[[Any], None]]] = {}
        self._mailboxes: list[_Mailbox] = []
        for listener in listeners:
            handlers = _handlers_of(listener)
            if getattr(listener, "handles_events_inline", False) is True:  # a mock has every attribute
                for event_type, handler in handlers.items():
                    self._takers.setdefault(event_type, []).append(_Caller(handler))
            else:
                mailbox = _Mailbox(listener, handlers)
                self._mailboxes.append(mailbox)
                for event_type in handlers:
                    self._takers.setdefault(event_type, []).append(mailbox.put)

    def has_listeners(self, event_type: type[TaskRunnerEvent]) -> bool:
        """Whether an event of that type would be heard: build none that would not."""
        return event_type in self._takers

    def publish(self, event: TaskRunnerEvent) -> None:
        """Hand an event over and return at once."""
        for take in self._takers.get(type(event), ()):
            take(event)

    def delivers_in_this_thread(self) -> bool:
        """Whether the caller is a listener that is being called."""
        return any(mailbox.thread is threading.current_thread() for mailbox in self._mailboxes)

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what is queued, for at most ``timeout`` seconds in all."""
        deadline = time.monotonic() + timeout
        for mailbox in self._mailboxes:
            mailbox.end()
        for mailbox in self._mailboxes:
            mailbox.join(max(0.0, deadline - time.monotonic()))


def _handlers_of(listener: object) -> dict[type[TaskRunnerEvent], Callable[[Any], Any]]:
    """Return the methods that a listener implements. The empty ones of the protocol are nobody's handlers."""
    return {
        event_type: getattr(listener, name)
        for name, event_type in HANDLERS.items()
        if callable(getattr(listener, name, None))
        and getattr(type(listener), name, None) is not getattr(TaskRunnerEventsListener, name)
    }


class _Caller:
    """Calls a handler; its first failure is logged, a thousand more would hide the rest."""

    def __init__(self, handler: Callable[[Any], Any]) -> None:
        self._handler = handler
        self._failed = False

    def __call__(self, event: TaskRunnerEvent) -> Any:
        try:
            return self._handler(event)
        except BaseException as error:  # a sys.exit() must not end the thread that calls, either
            self.complain(error)
            return None

    def complain(self, error: BaseException) -> None:
        """Log what the handler raised, if it is the first time."""
        if not self._failed:
            self._failed = True
            text = "event listener %r failed; further failures of it are not logged"
            logger.error(text, self._handler, exc_info=error)


class _Mailbox:
    """The events that one listener has still to hear, and the thread that calls it."""

    def __init__(self, listener: object, handlers: dict[type[TaskRunnerEvent], Callable[[Any], Any]]) -> None:
        self._listener = listener
        self._callers = {event_type: _Caller(handler) for event_type, handler in handlers.items()}
        self._queue: queue.SimpleQueue[TaskRunnerEvent | None] = queue.SimpleQueue()
        self._left_out = 0
        self.thread: threading.Thread | None = None

    def put(self, event: TaskRunnerEvent) -> None:
        """Queue an event. A listener that is far behind gets no more until it has caught up a little.

        It still gets every result that could not be delivered: it may be the one that saves them.
        """
        # Not one by one: each gap is worth two lines in the log, and a listener that is always too slow has many.
        if self._queue.qsize() >= (MAX_BEHIND // 2 if self._left_out else MAX_BEHIND):
            if not isinstance(event, TaskUpdateFailure):
                self._leave_out()
                return
        else:
            self._tell_left_out()
        if self.thread is None:
            name = f"podium-listener-{type(self._listener).__name__}"
            self.thread = threading.Thread(target=self._deliver, name=name, daemon=True)
            self.thread.start()
        self._queue.put(event)

    def _leave_out(self) -> None:
        if not self._left_out:
            logger.error("event listener %r is %d events behind: it misses what comes now", self._listener, MAX_BEHIND)
        self._left_out += 1

    def _tell_left_out(self) -> None:
        if self._left_out:
            logger.error("event listener %r missed %d events", self._listener, self._left_out)
            self._left_out = 0

    def end(self) -> None:
        """Let the thread end after what is queued."""
        self._tell_left_out()
        self._queue.put(None)

    def join(self, timeout: float) -> None:
        """Wait for the end of the thread."""
        if self.thread is not None:
            self.thread.join(timeout)
            self.thread = None

    def _deliver(self) -> None:
        loop = asyncio.new_event_loop()
        try:
            while (event := self._queue.get()) is not None:
                caller = self._callers[type(event)]
                result = caller(event)
                if inspect.isawaitable(result):
                    try:
                        loop.run_until_complete(_finish(result))
                    except BaseException as error:  # nor may a cancelled coroutine
                        caller.complain(error)
        finally:
            close_loop(loop)


async def _finish(awaitable: Any) -> None:
    await awaitable
