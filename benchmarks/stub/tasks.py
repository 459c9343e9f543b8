"""The tasks of the stub: their JSON, when each is handed out and finished, and what follows from that."""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterable
from typing import Any, Final

#: Order and content of the fields are those of a Conductor server (OSS 3.32.3), which sends the definition twice.
_DEFINITION: Final = (
    '{"createTime":1795443846202,"updateTime":0,"createdBy":"","name":"^TYPE^","retryCount":3,"timeoutSeconds":0,'
    '"inputKeys":[],"outputKeys":[],"runtimeMetadata":[],"timeoutPolicy":"TIME_OUT_WF","retryLogic":"FIXED",'
    '"retryDelaySeconds":60,"responseTimeoutSeconds":600,"inputTemplate":{},"rateLimitPerFrequency":0,'
    '"rateLimitFrequencyInSeconds":1,"ownerEmail":"bench@example.com","backoffScaleFactor":1,"maxRetryDelaySeconds":0,'
    '"backoffJitterMs":0,"totalTimeoutSeconds":0,"taskStatusListenerEnabled":true,"enforceSchema":false}'
)
_TASK: Final = (
    '{"taskType":"^TYPE^","status":"IN_PROGRESS","inputData":{"amount":12.5,"order_id":"order-%d"^PAYLOAD^},'
    '"referenceTaskName":"^TYPE^_ref","retryCount":0,"seq":1,"pollCount":1,"taskDefName":"^TYPE^",'
    '"scheduledTime":%d,"startTime":%d,"endTime":0,"updateTime":%d,"startDelayInSeconds":0,'
    '"retried":false,"executed":false,"callbackFromWorker":true,"responseTimeoutSeconds":600,'
    '"workflowInstanceId":"%08x-0000-5000-8000-%012x","workflowType":"bench_workflow",'
    '"taskId":"%08x-0000-4000-8000-%012x","callbackAfterSeconds":0,"workerId":"bench","outputData":{},'
    '"workflowTask":{"name":"^TYPE^","taskReferenceName":"^TYPE^_ref",'
    '"inputParameters":{"order_id":"${workflow.input.order_id}","amount":"${workflow.input.amount}"},'
    '"type":"SIMPLE","decisionCases":{},"defaultCase":[],"forkTasks":[],"startDelay":0,"joinOn":[],"optional":false,'
    '"taskDefinition":^DEFINITION^,"defaultExclusiveJoinTask":[],"asyncComplete":false,"loopOver":[],'
    '"onStateChange":{},"permissive":false,"metadata":{}},"rateLimitPerFrequency":0,"rateLimitFrequencyInSeconds":1,'
    '"workflowPriority":0,"iteration":0,"subworkflowChanged":false,"firstStartTime":0,'
    '"executionMetadata":{"additionalContext":{}},"taskDefinition":^DEFINITION^,"loopOverTask":false,"queueWaitTime":0}'
)


def task_template(name: str, payload: int) -> bytes:
    """Return the JSON of a type's tasks with places for what differs; ``payload`` is the length of an extra input."""
    extra = f',"payload":"{"x" * payload}"' if payload else ""
    text = _TASK.replace("^DEFINITION^", _DEFINITION).replace("^TYPE^", name).replace("^PAYLOAD^", extra)
    return text.encode()


def numbers_of(task_id: str) -> tuple[int, int]:
    """Return the number of the type and that of the task; raises ValueError for what is no id of the stub."""
    if len(task_id) != 36 or task_id[8:24] != "-0000-4000-8000-":
        raise ValueError(task_id)
    return int(task_id[:8], 16), int(task_id[24:], 16)


class Queue:
    """All tasks of one type, in order: those before ``next`` have been handed out."""

    def __init__(self, name: str, number: int, total: int, payload: int) -> None:
        self.name = name
        self.number = number
        self.next = 0
        self._template = task_template(name, payload)
        #: Monotonic times; 0 for what has not happened.
        self.handed_at = array("d", bytes(8 * total))
        self.done_at = array("d", bytes(8 * total))
        self.first_poll = 0.0

    def encode(self, index: int, epoch_ms: int) -> bytes:
        """Return the JSON of a task that is handed out now."""
        number = self.number
        return self._template % (index, epoch_ms, epoch_ms, epoch_ms, number, index, number, index)


class Store:
    """Everything the stub knows of its tasks. None is handed out before ``start``; then all, or ``rate`` a second."""

    def __init__(self, types: Iterable[str], tasks: int, rate: float = 0.0, payload: int = 0) -> None:
        self._tasks = tasks
        self._rate = rate
        self.queues = [Queue(name, number, tasks, payload) for number, name in enumerate(types)]
        self._by_name = {queue.name: queue for queue in self.queues}
        self.started_at = 0.0
        self.all_polled_at = 0.0
        self.first_hand_out = self.last_end = 0.0
        self._unpolled = len(self.queues)
        self.handed_out = self.completed = self.failed = self.in_progress = self.duplicates = self.unknown = 0

    @property
    def finished(self) -> bool:
        """Whether every task has come to its end."""
        return self.completed + self.failed == self._tasks * len(self.queues)

    @property
    def all_polled(self) -> bool:
        """Whether every type was polled for."""
        return not self._unpolled

    def queue(self, name: str) -> Queue | None:
        """Return the queue of a type, if it has one."""
        return self._by_name.get(name)

    def start(self) -> None:
        """Make the tasks available."""
        self.started_at = time.monotonic()

    def note_poll(self, queue: Queue) -> None:
        """Take note that a type is polled for."""
        if not queue.first_poll:
            queue.first_poll = time.monotonic()
            self._unpolled -= 1
            if not self._unpolled:
                self.all_polled_at = queue.first_poll

    def due(self, queue: Queue) -> float:
        """Return the monotonic time at which the next task of a type is available; infinite if none will be."""
        if not self.started_at or queue.next >= self._tasks:
            return math.inf
        return self._due(queue.next)

    def _due(self, index: int) -> float:
        return self.started_at + (index / self._rate if self._rate else 0.0)

    def take(self, queue: Queue, count: int) -> list[bytes]:
        """Hand out up to ``count`` of the tasks that are available."""
        now = time.monotonic()
        first = last = queue.next
        limit = min(first + count, self._tasks) if self.started_at else first
        while last < limit and self._due(last) <= now:
            queue.handed_at[last] = now
            last += 1
        if last > first:
            queue.next = last
            self.handed_out += last - first
            self.first_hand_out = self.first_hand_out or now
        epoch_ms = int(time.time() * 1000)
        return [queue.encode(index, epoch_ms) for index in range(first, last)]

    def _find(self, task_id: str) -> tuple[Queue, int] | None:
        """Return queue and index of a task; None if it was never handed out."""
        try:
            number, index = numbers_of(task_id)
            queue = self.queues[number]
        except (ValueError, IndexError):
            return None
        return (queue, index) if index < queue.next else None

    def show(self, task_id: str) -> bytes | None:
        """Return the JSON of a task that somebody works on; None if there is no such."""
        found = self._find(task_id)
        if found is None or found[0].done_at[found[1]]:
            return None
        return found[0].encode(found[1], int(time.time() * 1000))

    def finish(self, task_id: str, status: str) -> Queue | None:
        """Take in a result; None if the stub never handed out such a task."""
        found = self._find(task_id)
        if found is None:
            self.unknown += 1
            return None
        queue, index = found
        if status == "IN_PROGRESS":
            self.in_progress += 1
        elif queue.done_at[index]:
            self.duplicates += 1
        else:
            queue.done_at[index] = self.last_end = time.monotonic()
            if status == "COMPLETED":
                self.completed += 1
            else:
                self.failed += 1
        return queue

    def figures(self) -> dict[str, Any]:
        """Return what became of the tasks, counts and times."""
        ended = self.completed + self.failed
        wall = self.last_end - self.first_hand_out if ended else 0.0
        spans, waits = [], []
        for queue in self.queues:
            spans += [done - handed for handed, done in zip(queue.handed_at, queue.done_at, strict=True) if done]
            if self._rate:
                waits += [at - self._due(index) for index, at in enumerate(queue.handed_at[: queue.next])]
        return {
            "all_polled_at": self.all_polled_at,
            "wall_s": wall,
            "tasks_per_s": ended / wall if wall else 0.0,
            "latency_ms": quantiles_ms(spans),
            "pickup_ms": quantiles_ms(waits),
            "handed_out": self.handed_out,
            "completed": self.completed,
            "failed": self.failed,
            "in_progress": self.in_progress,
            "duplicates": self.duplicates,
            "unknown": self.unknown,
            "lost": self.handed_out - ended,
        }


def quantiles_ms(seconds: list[float]) -> dict[str, float]:
    """Return quantiles of durations, in milliseconds; none of nothing."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    last = len(ordered) - 1
    return {name: ordered[round(share * last)] * 1000 for name, share in _QUANTILES.items()}


_QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
