"""One attempt of one task: decode, bind, call, and turn what came out into a result. No HTTP, never raises.

The same code runs in a crew child and in the thread crew. A plain function is run by ``run_plain`` in a pool
thread, a coroutine function by ``run_async`` on the crew's loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import math
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from podium.binding import Binder
from podium.bundle import Bundle
from podium.context import (
    DEFAULT_CALLBACK_SECONDS,
    Cancellation,
    TaskContext,
    TaskInProgress,
    enter_task_context,
    read_whole,
)
from podium.convert import check_depth, to_json, to_output, without_values
from podium.errors import ConversionError, NonRetryableException
from podium.frames import Cause, Outcome
from podium.models import MAX_OUTPUT, TaskBrief, TaskExecLog, TaskResult, TaskResultStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

#: The server keeps this many log entries of one update and drops the rest without a word.
LOGS_PER_UPDATE: Final = 10
#: The server cuts reasons at this length.
MAX_REASON: Final = 500
#: A deep recursion has a traceback of megabytes; both ends tell the story.
MAX_TRACEBACK: Final = 16_000

_HERE = Path(__file__).parent
#: Where podium's frames are on the way to user code. Not all of podium: its demo's functions are user code.
_OWN_FILES: Final = tuple(str(_HERE / name) for name in ("execution.py", "binding.py", "convert"))

_read_brief = msgspec.json.Decoder(TaskBrief).decode
_encode = msgspec.json.Encoder().encode


class Runnable(Bundle, frozen=True):
    """A worker, compiled to be run: everything about the function that does not depend on the task."""

    name: str
    function: Callable[..., Any]
    binder: Binder
    #: Reads a task as far as the function's run needs it.
    read: Callable[[bytes], TaskBrief]
    is_async: bool
    thread_count: int
    worker_id: str

    @classmethod
    def compile(
        cls,
        name: str,
        function: Callable[..., Any],
        *,
        is_async: bool,
        thread_count: int,
        strict_schema: bool,
        worker_id: str,
    ) -> Runnable:
        """Prepare a function; raises DeclarationError if its signature can never be bound."""
        binder = Binder.compile(function, strict=strict_schema)
        read = read_whole if binder.takes_task else _read_brief
        return cls(name, function, binder, read, is_async, thread_count, worker_id)


class Attempt:
    """One execution in progress. ``key`` is the engine's name for it."""

    __slots__ = (
        "_begun", "_started", "_task", "_task_context", "cancellation", "context", "is_on_loop", "key", "raw",
        "thread_id", "worker",
    )  # fmt: skip

    def __init__(self, worker: Runnable, key: int, raw: bytes) -> None:
        self.worker = worker
        self.key = key
        self.raw = raw
        self.cancellation = Cancellation()
        #: Id of the thread that a plain function runs in; 0 before and after.
        self.thread_id = 0
        #: Whether it has begun to run as a coroutine.
        self.is_on_loop = False
        self._started = time.time()
        self._begun = time.monotonic()
        #: What is known of the task once it has been read.
        self._task: TaskBrief | None = None
        self._task_context: TaskContext | None = None
        #: What the function, and whatever it returns, runs in.
        self.context = contextvars.copy_context()

    def begin(self) -> tuple[tuple[Any, ...], dict[str, Any]] | Outcome:
        """Read the task, make it the current one, and return the function's arguments.

        Runs inside ``context``. A task or input that does not fit is an outcome: no retry can help it.
        """
        try:
            task = self.worker.read(self.raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self.fail(ConversionError("task", str(error)), terminal=True)
        self._task = task
        self._task_context = TaskContext(task, self.cancellation, self.raw)
        enter_task_context(self._task_context)
        try:
            check_depth(self.raw, task.input_data)
            return self.worker.binder.arguments(task)
        except ConversionError as error:
            return self.fail(error, terminal=True)
        except BaseException as error:  # a constructor of the user's types may raise anything
            return self.fail(error)

    def conclude(self, value: Any) -> Outcome:
        """Turn what the function returned into an outcome."""
        try:
            return self._outcome(self._result_of(value))
        except BaseException as error:  # not only ConversionError: a property of the user's value may raise anything
            return self.fail(error)

    def fail(self, error: BaseException, *, terminal: bool = False) -> Outcome:
        """Turn an exception into an outcome; ``terminal`` if a retry cannot help."""
        terminal = terminal or isinstance(error, NonRetryableException)
        status = TaskResultStatus.FAILED_WITH_TERMINAL_ERROR if terminal else TaskResultStatus.FAILED
        cause = describe(error)
        result = TaskResult(status=status, reason_for_incompletion=reason_of(cause))
        result.log(cause.traceback)
        try:
            result.output_data = self._extra_output()
        except BaseException:  # the output set so far cannot be sent: the failure itself still can
            result.output_data = {}
        if isinstance(error, ConversionError):  # the server has the value; logs and listeners need not
            cause = Cause(cause.type_name, without_values(cause.message), without_values(cause.traceback))
        return self._outcome(result, cause)

    def break_off(self) -> Outcome:
        """Return the outcome of a function that ended before its work was done, because it was asked to."""
        return self.fail(asyncio.CancelledError("the function ended when it was cancelled"))

    def _result_of(self, value: Any) -> TaskResult:
        if isinstance(value, TaskResult):
            result = _checked(value)
            output = to_json(result.output_data)
        elif isinstance(value, TaskInProgress):
            seconds = _whole_seconds(value.callback_after_seconds)
            result = TaskResult(status=TaskResultStatus.IN_PROGRESS, callback_after_seconds=seconds)
            output = to_json(_checked_output("TaskInProgress.output", value.output))
        else:
            result = TaskResult(status=TaskResultStatus.COMPLETED)
            output = to_output(value)
        extra = self._extra_output()
        result.output_data = extra | output if extra else output
        return result

    def _extra_output(self) -> dict[str, Any]:
        if self._task_context is None or not self._task_context.output:
            return {}
        output: dict[str, Any] = to_json(self._task_context.output)
        return output

    def _outcome(self, result: TaskResult, cause: Cause | None = None) -> Outcome:
        """Fill in ids, merge what the task said through its context, and encode.

        A task that was not read has no ids here: the outcome's body stays empty, and the engine words it.
        """
        task, context = self._task, self._task_context
        output = _encode(result.output_data)
        if len(output) > MAX_OUTPUT:
            output, cause = b"{}", _too_large(result, len(output), cause)
        size = len(output)
        result.output_data = msgspec.Raw(output)  # type: ignore[assignment]  # measured, then embedded
        del output
        if context is not None and not context.is_silent:
            # The context's lines come first: a failure's traceback is the last thing that happened.
            result.logs = [*context.logs, *result.logs] if cause else [*result.logs, *context.logs]
            said = result.callback_after_seconds
            result.callback_after_seconds = said or context.get_callback_after_seconds() or said
        if result.callback_after_seconds is None:
            result.callback_after_seconds = DEFAULT_CALLBACK_SECONDS
        surplus: list[str] = []
        if result.logs:
            surplus = [encodable(line.log) for line in result.logs[LOGS_PER_UPDATE:]]
            result.logs = [_sendable(line) for line in result.logs[:LOGS_PER_UPDATE]]
        result.worker_id = self.worker.worker_id
        body = b""
        if task is not None:
            result.task_id, result.workflow_instance_id = task.task_id, task.workflow_instance_id
            body = _encode(result)
        return Outcome(
            key=self.key,
            status=result.status,
            body=body,
            surplus_logs=surplus,
            started=self._started,
            duration=time.monotonic() - self._begun,
            output_size=size,
            cause=cause,
        )


def run_plain(attempt: Attempt) -> Outcome | Coroutine[Any, Any, Outcome]:
    """Run a plain function in the calling thread, in the attempt's context.

    If it returns an awaitable, a coroutine is returned instead of an outcome: it is to be run on the crew's loop, in
    ``attempt.context``, and holds no thread.
    """
    attempt.thread_id = threading.get_ident()
    try:
        return attempt.context.run(_run_plain, attempt)
    finally:
        attempt.thread_id = 0


def _run_plain(attempt: Attempt) -> Outcome | Coroutine[Any, Any, Outcome]:
    begun = attempt.begin()
    if isinstance(begun, Outcome):
        return begun
    args, kwargs = begun
    try:
        value = attempt.worker.function(*args, **kwargs)
    except BaseException as error:  # SystemExit and KeyboardInterrupt of a task are that task's failure
        return attempt.fail(error) if not attempt.cancellation.noticed else attempt.break_off()
    if type(value) is not dict and inspect.isawaitable(value):  # most are dicts, and the question is no cheap one
        return _finish(attempt, value)
    # Who ends early because it was asked to has no result, whatever it returns: it must not pass for one.
    return attempt.conclude(value) if not attempt.cancellation.noticed else attempt.break_off()


async def run_async(attempt: Attempt) -> Outcome:
    """Run a coroutine function. To be run as an asyncio task in ``attempt.context``."""
    begun = attempt.begin()
    if isinstance(begun, Outcome):
        return begun
    args, kwargs = begun
    try:
        awaitable = attempt.worker.function(*args, **kwargs)
    except BaseException as error:
        return attempt.fail(error)
    return await _finish(attempt, awaitable)


async def _finish(attempt: Attempt, awaitable: Awaitable[Any]) -> Outcome:
    try:
        value = await awaitable
    except BaseException as error:
        return attempt.fail(error)
    return attempt.conclude(value)


def describe(error: BaseException) -> Cause:
    """Return an exception in words; whatever its own ``__str__`` does."""
    type_name = type(error).__name__
    try:
        message = str(error)
    except BaseException as broken:
        message = f"<no message: its __str__ raised {type(broken).__name__}>"
    try:
        text = "".join(_without_own_frames(traceback.TracebackException.from_exception(error)).format())
    except BaseException as broken:
        text = f"{type_name}: {message}\n<no traceback: formatting it raised {type(broken).__name__}>"
    if len(text) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"
    return Cause(type_name, encodable(message), encodable(text))


def _without_own_frames(error: traceback.TracebackException) -> traceback.TracebackException:
    """Let every traceback start in the user's code; an error of podium's own conversion has none at all."""
    parts = [error]
    for part in parts:  # grows: a chain of exceptions may be longer than a recursion could follow
        foreign = itertools.dropwhile(lambda frame: frame.filename.startswith(_OWN_FILES), part.stack)
        part.stack = traceback.StackSummary.from_list(list(foreign))
        parts += [other for other in (part.__cause__, part.__context__, *(part.exceptions or ())) if other is not None]
    return error


def _too_large(result: TaskResult, size: int, cause: Cause | None) -> Cause:
    """Make a failure of a result whose output the server would not take, and return its cause; it may be one already.

    It is a terminal one: that is how the server ends such a task, and the next attempt would most often do the same
    work for as large an output.
    """
    problem = (
        f"the output has {size / 2**20:.1f} MB of JSON, and the server takes {MAX_OUTPUT >> 20} MB "
        f"({MAX_OUTPUT >> 10} KB) at most: store it elsewhere, and return where"
    )
    if cause is not None:
        result.log(f"The output was left out: {problem}")
        return cause
    cause = Cause("OutputTooLarge", problem)
    result.status = TaskResultStatus.FAILED_WITH_TERMINAL_ERROR
    result.reason_for_incompletion = reason_of(cause)
    result.callback_after_seconds = 0
    return cause


def reason_of(cause: Cause) -> str:
    """Return the reason that the server shows: ``Type: message``, cut as the server would cut it."""
    reason = f"{cause.type_name}: {cause.message}" if cause.message else cause.type_name
    return reason if len(reason) <= MAX_REASON else reason[: MAX_REASON - 3] + "..."


def encodable(text: str) -> str:
    """Return text that can be encoded: lone surrogates escaped."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def _sendable(line: TaskExecLog) -> TaskExecLog:
    created = line.created_time or time.time_ns() // 1_000_000
    return TaskExecLog(log=encodable(str(line.log)), created_time=created)


def _checked(result: TaskResult) -> TaskResult:
    """Return a copy of the user's result that can be sent; the user's own object is left alone."""
    try:
        status = TaskResultStatus(result.status)
    except ValueError:
        allowed = ", ".join(TaskResultStatus)
        raise ConversionError("TaskResult.status", f"expected one of {allowed}, got {result.status!r}") from None
    _checked_output("TaskResult.output_data", result.output_data)
    reason, seconds = result.reason_for_incompletion, result.callback_after_seconds
    return msgspec.structs.replace(
        result,
        status=status,
        reason_for_incompletion=None if reason is None else encodable(str(reason))[:MAX_REASON],
        callback_after_seconds=None if seconds is None else _whole_seconds(seconds),
        logs=list(result.logs or ()),
    )


def _checked_output(path: str, output: Any) -> dict[str, Any]:
    if not isinstance(output, dict):
        raise ConversionError(path, f"expected dict, got {type(output).__name__}")
    return output


def _whole_seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**31:
        raise ConversionError("callback_after_seconds", f"expected seconds, 0 or more, got {value!r}")
    return math.ceil(value)
