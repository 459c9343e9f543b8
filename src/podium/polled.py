"""A task in the engine's hands, and what the engine itself can say about it without the user's code."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

import msgspec

from podium.answers import flattened, printable
from podium.errors import AnswerError
from podium.frames import Cause, Outcome
from podium.models import TaskExecLog, TaskHead, TaskIds, TaskResult, TaskResultStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

_head_decoder = msgspec.json.Decoder(TaskHead)
_encode = msgspec.json.encode

#: What the decoders raise for a task that is not JSON, not UTF-8, of wrong types, or nested too deeply.
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Interrupted(Exception):  # noqa: N818 - not an error: the work was stopped, and will be done elsewhere
    """A task's execution was stopped before its end, and its code is no longer running."""


class Abandoned(Exception):  # noqa: N818 - not an error of the task
    """A task's code goes on, but nobody waits for it any more: it can neither be reported nor be given back."""


class PolledTask:
    """A task as it was polled: its JSON unread but for the head."""

    __slots__ = ("head", "raw", "task_id", "workflow_id")

    def __init__(self, raw: bytes, head: TaskHead) -> None:
        self.raw = raw
        self.head = head
        #: The ids of the attempt and of the workflow execution.
        self.task_id = head.task_id
        self.workflow_id = head.workflow_instance_id

    @classmethod
    def of(cls, ids: TaskIds) -> PolledTask:
        """Return a stand-in for a task of which only the ids could be read."""
        return cls(b"", TaskHead(task_id=ids.task_id, workflow_instance_id=ids.workflow_instance_id))

    @classmethod
    def stand_in(cls, task_id: str, workflow_id: str, response_timeout: int, poll_count: int) -> PolledTask:
        """Return what is left of a task whose result waits: enough to keep its lease."""
        head = TaskHead(
            task_id=task_id, workflow_instance_id=workflow_id, response_timeout_seconds=response_timeout,
            poll_count=poll_count,
        )  # fmt: skip
        return cls(b"", head)

    def forget_input(self) -> None:
        """Let go of what only its function, or giving it back, needed: its result may wait for hours."""
        self.raw = b""
        self.head.output_data = msgspec.Raw(b"{}")


def read_task(raw: bytes) -> PolledTask:
    """Read a task's head; raises UnreadableTaskError."""
    try:
        head = _head_decoder.decode(raw)
    except UNREADABLE as error:
        problem = "it is nested too deeply" if isinstance(error, RecursionError) else printable(str(error))
        raise UnreadableTaskError(problem, _ids_in(raw)) from error
    if not _are_ids(head):
        raise UnreadableTaskError("its ids are empty, or have control characters in them", None)
    return PolledTask(raw, head)


def _ids_in(raw: bytes) -> TaskIds | None:
    """Find the ids in what is no proper task, and perhaps no proper JSON: NaN, half characters, wrong types.

    What is nested does not matter, however deeply it is, and neither do numbers, however long they are.
    """
    try:
        text = flattened(raw).decode("utf-8", "replace")
        fields = json.loads(text, strict=False, parse_int=_no_number, parse_float=_no_number)
        ids = msgspec.convert(fields, TaskIds)
    except (AnswerError, ValueError, msgspec.ValidationError):
        return None
    return ids if _are_ids(ids) else None


def _no_number(_digits: str) -> None:
    """Read a number that nobody asks for."""


def _are_ids(found: TaskHead | TaskIds) -> bool:
    """Whether a server may have issued these ids. They go into log lines, where control characters could forge some."""
    task_id, workflow_id = found.task_id, found.workflow_instance_id
    return bool(task_id and workflow_id) and task_id.isprintable() and workflow_id.isprintable()


class UnreadableTaskError(AnswerError):
    """A task that the server handed out cannot be read; ``ids`` is what it takes to report that, if it is there."""

    def __init__(self, problem: str, ids: TaskIds | None) -> None:
        super().__init__(f"the server handed out a task that cannot be read: {problem}")
        self.problem = problem
        self.ids = ids


def give_back_body(task: PolledTask, worker_id: str) -> bytes:
    """Return the update that puts a task back into its queue at once, without costing it a retry.

    The output that came with the poll goes along, because the server replaces what it has.
    """
    result = TaskResult(
        task_id=task.task_id,
        workflow_instance_id=task.workflow_id,
        status=TaskResultStatus.IN_PROGRESS,
        worker_id=worker_id,
        output_data=task.head.output_data,  # type: ignore[arg-type]  # raw JSON is embedded as it is
    )
    return _encode(result)


def failure(
    ids: TaskIds,
    key: int,
    worker_id: str,
    cause: Cause,
    *,
    terminal: bool = False,
    started: float | None = None,
    details: Sequence[str] = (),
) -> Outcome:
    """Return the outcome of a task that failed without its function having its say; ``details`` go into its log."""
    status = TaskResultStatus.FAILED_WITH_TERMINAL_ERROR if terminal else TaskResultStatus.FAILED
    now = time.time()
    result = TaskResult(
        task_id=ids.task_id,
        workflow_instance_id=ids.workflow_instance_id,
        status=status,
        reason_for_incompletion=cause.message,
        worker_id=worker_id,
        logs=[TaskExecLog(log=line, created_time=int(now * 1000)) for line in (cause.message, *details)],
    )
    begun = now if started is None else started
    return Outcome(key, status, _encode(result), [], begun, max(0.0, now - begun), 2, cause)


def was_cancelled(outcome: Outcome) -> bool:
    """Whether a coroutine ended because it was cancelled, rather than finished or failed in spite of it."""
    return outcome.cause is not None and outcome.cause.type_name == "CancelledError"


def ids_of(task: PolledTask) -> TaskIds:
    """Return the ids of a task."""
    return TaskIds(task_id=task.task_id, workflow_instance_id=task.workflow_id)
