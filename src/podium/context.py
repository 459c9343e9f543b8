"""What a function can see of, and say about, the task it is running."""

from __future__ import annotations

import asyncio
import threading
import time
from contextvars import ContextVar
from typing import Any, Final

import msgspec

from podium.errors import NoTaskContextError, UnfitTaskError
from podium.models import Task, TaskBrief, TaskExecLog

#: A task that logs in a loop must not fill the memory of its child: later lines are counted, not kept.
MAX_LOG_LINES: Final = 10_000

#: When a task in progress is handed out again, if nobody says when.
DEFAULT_CALLBACK_SECONDS: Final = 60

read_whole: Final = msgspec.json.Decoder(Task).decode

_current: ContextVar[TaskContext] = ContextVar("podium_task_context")


class TaskInProgress:
    """Return it from a function whose task is not done: the server hands the task out again.

    ``callback_after_seconds`` (default 60) is when; 0 is what ``set_callback_after`` said, else at once. ``output``
    replaces the task's output and is there for the next call in ``get_task_context().get_task().output_data``.
    """

    __slots__ = ("callback_after_seconds", "output")

    def __init__(
        self, callback_after_seconds: int = DEFAULT_CALLBACK_SECONDS, output: dict[str, Any] | None = None
    ) -> None:
        self.callback_after_seconds = callback_after_seconds
        self.output = output if output is not None else {}

    def __repr__(self) -> str:
        return f"TaskInProgress(callback_after_seconds={self.callback_after_seconds}, output={self.output!r})"


class Cancellation:
    """Whether a task's code has been asked to end. Set once, on the crew's loop; asked in any thread, and awaited."""

    __slots__ = ("_asked", "_event", "_waiters", "noticed")
    #: For what is made only when somebody waits, which few tasks do.
    _making: Final = threading.Lock()

    def __init__(self) -> None:
        self._asked = False
        self._event: threading.Event | None = None
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        #: Whether the code has seen that it is asked to end.
        self.noticed = False

    def ask(self) -> None:
        """Ask the task's code to end."""
        with self._making:
            self._asked = True
            waiters, self._waiters = self._waiters, []
        if self._event is not None:
            self._event.set()
        for loop, event in waiters:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that loop is closed, and nobody waits there any more
                continue

    @property
    def asked(self) -> bool:
        """Whether it was asked; does not count as noticing."""
        return self._asked

    def notice(self) -> bool:
        """Whether it was asked; whoever gets True has noticed."""
        if self._asked:
            self.noticed = True
        return self._asked

    def wait(self, seconds: float | None) -> bool:
        """Wait in this thread until it is asked, at most so long; return whether it was."""
        with self._making:
            if self._event is None:
                self._event = threading.Event()
            if self._asked:
                self._event.set()
        self._event.wait(seconds)
        return self.notice()

    async def wait_on_loop(self) -> None:
        """Wait on the running loop until it is asked."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._making:
            if not self._asked:
                self._waiters.append(waiter)
            else:
                waiter[1].set()
        try:
            await waiter[1].wait()
        finally:  # who gave up waiting, as in a loop of wait_for, must not be remembered as long as the task runs
            with self._making:
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        self.notice()


class TaskContext:
    """The running task. It follows the code into coroutines, and into threads that start with a copied context."""

    __slots__ = ("_callback_after", "_cancellation", "_dropped_logs", "_logs", "_output", "_raw", "_task")

    def __init__(self, task: TaskBrief, cancellation: Cancellation | None = None, raw: bytes = b"") -> None:
        #: A Task from the beginning, or from when somebody asks for one: it is read from ``raw`` then.
        self._task = task
        self._raw = raw
        self._cancellation = cancellation or Cancellation()
        self._logs: list[TaskExecLog] = []
        self._dropped_logs = 0
        self._callback_after = 0
        self._output: dict[str, Any] = {}

    def get_task(self) -> Task:
        """Return the task as the server handed it out."""
        if not isinstance(self._task, Task):
            try:
                task = read_whole(self._raw)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise UnfitTaskError("task", str(error)) from error
            task.input_data = self._task.input_data  # the same object as ever: who changes it expects to see that
            self._task = task
        return self._task

    def get_task_id(self) -> str:
        """Return the id of this attempt."""
        return self._task.task_id

    def get_workflow_instance_id(self) -> str:
        """Return the id of the workflow execution."""
        return self._task.workflow_instance_id

    def get_retry_count(self) -> int:
        """Return how many attempts failed before this one (0 for the first)."""
        return self._task.retry_count

    def get_poll_count(self) -> int:
        """Return how often this attempt was handed out, this time included."""
        return self._task.poll_count

    def get_task_def_name(self) -> str:
        """Return the name of the task definition."""
        return self._task.task_def_name or self._task.task_type

    def get_workflow_task_type(self) -> str:
        """Return the type of the workflow's node: SIMPLE for an ordinary worker task."""
        node = self.get_task().workflow_task
        return str(node["type"]) if node and "type" in node else self._task.task_type

    def get_input(self) -> dict[str, Any]:
        """Return the task's input."""
        return self._task.input_data

    def is_cancelled(self) -> bool:
        """Whether this execution should end: nobody waits for its result any more, or the worker stops.

        Cheap enough for every turn of a loop. True from the moment that the server was seen to have cancelled the
        task or timed it out, that the worker's ``timeout_seconds`` have passed, or that the worker stops and its grace
        period has ended. A plain function should return or raise then; whatever it does after it has got True here
        or from ``wait`` is dropped: at a stop the task is given back and runs again elsewhere, in the other cases
        nobody wants the result. A coroutine gets CancelledError at its next ``await``.
        """
        return self._cancellation.notice()

    def wait(self, seconds: float | None = None) -> bool:
        """Sleep in a plain function, at most so many seconds, but not beyond a cancellation; return ``is_cancelled()``.

        ``while not ctx.wait(5): look()`` is a loop that ends in time. None waits for the cancellation alone.
        """
        return self._cancellation.wait(seconds)

    async def wait_cancelled(self) -> None:
        """Wait until ``is_cancelled()``, in a coroutine: for one that watches while others work.

        A coroutine that waits here itself gets CancelledError instead, as at any other ``await``.
        """
        await self._cancellation.wait_on_loop()

    def add_log(self, message: object) -> None:
        """Add a line to the task's execution log, stamped with the current time.

        Lines arrive with the result, also when the task fails. After 10,000 lines only their number is kept.
        """
        if len(self._logs) >= MAX_LOG_LINES:
            self._dropped_logs += 1
            return
        self._logs.append(TaskExecLog(log=str(message), created_time=time.time_ns() // 1_000_000))

    def set_callback_after(self, seconds: int) -> None:
        """Ask for the task to be handed out again after so many seconds, if it is reported as IN_PROGRESS.

        It holds if the function returns a result that names no number of its own; ``TaskInProgress()`` names 60.
        """
        if type(seconds) is not int or seconds < 0:
            raise ValueError(f"set_callback_after: expected whole seconds, 0 or more, got {seconds!r}")
        self._callback_after = seconds

    def get_callback_after_seconds(self) -> int:
        """Return what ``set_callback_after`` set (0 if nothing)."""
        return self._callback_after

    def set_output(self, output: dict[str, Any]) -> None:
        """Set output fields that are reported whatever the function returns or raises.

        A later call replaces an earlier one; fields that the function returns win over these.
        """
        if not isinstance(output, dict):
            raise ValueError(f"set_output: expected a dict, got {type(output).__name__}")  # noqa: TRY004 - peers' type
        self._output = output

    @property
    def is_silent(self) -> bool:
        """Whether the task has said nothing here that belongs into its result."""
        return not (self._logs or self._output or self._callback_after)

    @property
    def output(self) -> dict[str, Any]:
        """What ``set_output`` set."""
        return self._output

    @property
    def logs(self) -> list[TaskExecLog]:
        """The lines so far, with a last one that says how many were dropped, if any were."""
        if not self._dropped_logs:
            return list(self._logs)
        note = f"... {self._dropped_logs} more lines were dropped (limit {MAX_LOG_LINES})"
        return [*self._logs, TaskExecLog(log=note, created_time=time.time_ns() // 1_000_000)]

    def __repr__(self) -> str:
        return (
            f"TaskContext(task_id={self.get_task_id()!r}, task_def_name={self.get_task_def_name()!r}, "
            f"retry_count={self.get_retry_count()}, poll_count={self.get_poll_count()})"
        )


def get_task_context() -> TaskContext:
    """Return the context of the task that the calling code is running.

    Raises NoTaskContextError outside a task, and in a thread that was started without the task's context.
    """
    try:
        return _current.get()
    except LookupError:
        raise NoTaskContextError(
            "no task is running here: get_task_context() works inside a task's function, and in threads started with "
            "its context (contextvars.copy_context().run, asyncio.to_thread)"
        ) from None


def enter_task_context(context: TaskContext) -> None:
    """Make ``context`` the current one; called inside the contextvars context that the task runs in."""
    _current.set(context)
