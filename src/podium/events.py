"""What happens to polls and tasks, as frozen records, and how listeners hear of it."""

from __future__ import annotations

import asyncio
import inspect
import logging
import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

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

    Listeners are called one after another in a thread of their own, in the user's process: they keep their state,
    and a slow or failing one delays no poll and no task. No listener has to inherit from this class;
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
    "on_task_update_completed": TaskUpdateCompleted,
    "on_task_update_failure": TaskUpdateFailure,
    "on_task_paused": TaskPaused,
}


class EventDispatcher:
    """Hands events to listeners, in order, in one thread that starts with the first event somebody wants to hear."""

    def __init__(self, listeners: Iterable[object] = ()) -> None:
        self._handlers: dict[type[TaskRunnerEvent], list[Callable[[Any], Any]]] = {}
        self._queue: queue.SimpleQueue[TaskRunnerEvent | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        #: The ``id()`` of handlers whose failure was logged: they live as long as this object, and may be unhashable.
        self._reported: set[int] = set()
        for listener in listeners:
            for name, event_type in HANDLERS.items():
                method = getattr(listener, name, None)
                # A class that inherits the protocol has its empty methods; they are nobody's handlers.
                if callable(method) and getattr(type(listener), name, None) is not getattr(
                    TaskRunnerEventsListener, name
                ):
                    self._handlers.setdefault(event_type, []).append(method)

    def has_listeners(self, event_type: type[TaskRunnerEvent]) -> bool:
        """Whether an event of that type would be heard: build none that would not."""
        return event_type in self._handlers

    def publish(self, event: TaskRunnerEvent) -> None:
        """Queue an event for its listeners and return at once."""
        if type(event) not in self._handlers:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._deliver, name="podium-listeners", daemon=True)
            self._thread.start()
        self._queue.put(event)

    def delivers_in_this_thread(self) -> bool:
        """Whether the caller is a listener that is being called."""
        return threading.current_thread() is self._thread

    def close(self, timeout: float = 5.0) -> None:
        """Deliver what is queued, for at most ``timeout`` seconds."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)
            self._thread = None

    def _deliver(self) -> None:
        loop = asyncio.new_event_loop()
        try:
            while (event := self._queue.get()) is not None:
                for handler in self._handlers[type(event)]:
                    self._call(loop, handler, event)
        finally:
            loop.close()

    def _call(self, loop: asyncio.AbstractEventLoop, handler: Callable[[Any], Any], event: TaskRunnerEvent) -> None:
        try:
            result = handler(event)
            if inspect.isawaitable(result):
                loop.run_until_complete(_finish(result))
        except BaseException:  # a sys.exit() or a cancelled coroutine must not end the thread that serves the others
            if id(handler) not in self._reported:  # the first failure says it all; a thousand more would hide the rest
                self._reported.add(id(handler))
                logger.exception("event listener %r failed; further failures of it are not logged", handler)


async def _finish(awaitable: Any) -> None:
    await awaitable
