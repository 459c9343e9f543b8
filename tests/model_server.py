"""A server as the engine's client sees it, in virtual time: with the real one's semantics, and faults on order."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, TypeVar

from engine_fakes import FakeClient, task_json
from event_log import EventLog, Kind
from podium.errors import ApiError, ConnectError, CutError, NotFoundError
from podium.models.tasks import TaskState

T = TypeVar("T")

#: What may become of a request. "slow" takes 4 s and then succeeds.
FAULTS = ("ok", "500", "503", "429", "cut before", "cut after", "slow")
_SLOW = 4.0


@dataclass
class Known:
    """One task as the server has it."""

    task_id: str
    status: str = "SCHEDULED"
    #: Who polled it last, and how often it was handed out.
    worker: str = ""
    polls: int = 0


class ModelServer(FakeClient):
    """Hands out tasks, believes reports, and notes everything in an event log, with the loop's time."""

    def __init__(self, response_timeout: int = 0) -> None:
        super().__init__()
        self.log = EventLog()
        self.is_down = False
        #: What becomes of the next polls, updates and heartbeats.
        self.poll_faults: deque[str] = deque()
        self.update_faults: deque[str] = deque()
        self.heartbeat_faults: deque[str] = deque()
        self.known: dict[str, Known] = {}
        #: Ids of tasks whose output the server will never take.
        self.refused: set[str] = set()
        #: Whether a worker that is not ours takes at once what is given back.
        self.stranger_waits = False
        self._queue: deque[Known] = deque()
        self._numbers = itertools.count(1)
        self._response_timeout = response_timeout

    def add(self, count: int) -> None:
        for _ in range(count):
            task = Known(f"t{next(self._numbers)}")
            self.known[task.task_id] = task
            self._queue.append(task)

    def in_state(self, *states: str) -> list[str]:
        return [task.task_id for task in self.known.values() if task.status in states]

    def cancel(self, task_id: str) -> None:
        self.known[task_id].status = "CANCELED"
        self._note(Kind.CANCELED, task_id)

    def remove(self, task_id: str) -> None:
        """Remove a task with its workflow: nobody waits for it any more."""
        del self.known[task_id]
        self._note(Kind.CANCELED, task_id)

    async def give_to_a_stranger(self, count: int) -> None:
        """Hand tasks to a worker that is not ours."""
        for task in self._take(count):
            self._give(task, "ok", "stranger")

    async def hear_from_the_stranger(self) -> None:
        """Let that worker complete what it has."""
        for task in self.known.values():
            if task.worker == "stranger" and task.status == "IN_PROGRESS":
                self._report({"taskId": task.task_id, "status": "COMPLETED", "workerId": "stranger"}, "ok")

    def heal(self) -> None:
        self.is_down = False
        for faults in (self.poll_faults, self.update_faults, self.heartbeat_faults):
            faults.clear()

    async def poll_tasks(
        self, task_type: str, *, worker_id: str, domain: str | None = None, count: int = 1, timeout_ms: int = 100
    ) -> list[bytes]:
        fault = await self._begin(self.poll_faults)
        return self._end(fault, [self._give(task, fault, worker_id) for task in self._take(count)])

    async def post_result(self, body: bytes) -> None:
        fault = await self._begin(self.update_faults)
        self._report(json.loads(body), fault)
        self._end(fault, None)

    async def post_result_v2(self, body: bytes) -> bytes | None:
        fault = await self._begin(self.update_faults)
        result = json.loads(body)
        self._report(result, fault)
        following = [self._give(task, fault, result.get("workerId", "")) for task in self._take(1)]
        return self._end(fault, following[0] if following else None)

    async def extend_lease(self, task_id: str, workflow_id: str) -> None:
        fault = await self._begin(self.heartbeat_faults)
        task = self._find(task_id)
        self._note(Kind.HEARTBEAT, task_id, accepted=task.status == "IN_PROGRESS")
        self._end(fault, None)

    async def get_task_state(self, task_id: str) -> TaskState:
        await self._begin(deque())
        task = self._find(task_id)
        return TaskState(status=task.status, worker_id=task.worker or None, poll_count=task.polls)

    async def append_task_log(self, task_id: str, message: str) -> None:
        await self._begin(deque())

    async def _begin(self, faults: deque[str]) -> str:
        fault = faults.popleft() if faults else "ok"
        await asyncio.sleep(_SLOW if fault == "slow" else 0.001)
        if self.is_down:
            raise ConnectError("connection refused")
        if fault == "cut before":
            raise CutError("cut before")
        if fault.isdigit():
            raise ApiError.of(int(fault))(int(fault), "told to fail", retry_after=5.0 if fault == "429" else None)
        return fault

    def _end(self, fault: str, answer: T) -> T:
        if fault == "cut after":
            raise CutError("cut after")
        return answer

    def _find(self, task_id: str) -> Known:
        if task_id not in self.known:
            raise NotFoundError(404, f"No such task found by id: {task_id}")
        return self.known[task_id]

    def _take(self, count: int) -> list[Known]:
        taken: list[Known] = []
        while self._queue and len(taken) < count:
            task = self._queue.popleft()
            if task.status == "SCHEDULED" and task.task_id in self.known:
                taken.append(task)
        return taken

    def _give(self, task: Known, fault: str, worker: str) -> bytes:
        task.status, task.worker, task.polls = "IN_PROGRESS", worker, task.polls + 1
        in_vain = fault == "cut after"
        self._note(
            Kind.GIVEN_IN_VAIN if in_vain else Kind.GIVEN, task.task_id,
            worker=worker, response_timeout=self._response_timeout,
        )  # fmt: skip
        return task_json(task.task_id, responseTimeoutSeconds=self._response_timeout, pollCount=task.polls)

    def _report(self, result: dict[str, Any], fault: str) -> None:
        task_id, status = result["taskId"], result["status"]
        task = self._find(task_id)
        if task_id in self.refused and task.worker != "stranger" and status in {"COMPLETED", "FAILED"}:
            raise ApiError.of(400)(400, "refused for good")
        accepted = task.status == "IN_PROGRESS"
        back = status == "IN_PROGRESS" and not result.get("callbackAfterSeconds")
        self._note(
            Kind.GIVEN_BACK if back else Kind.RESULT, task_id, status=status, accepted=accepted,
            answered=fault != "cut after", worker=result.get("workerId") or "",
        )  # fmt: skip
        if not accepted:
            return
        if status == "IN_PROGRESS":
            task.status = "SCHEDULED"
            if back and self.stranger_waits:
                self._give(task, "ok", "stranger")
            else:
                pause = result.get("callbackAfterSeconds", 0)
                asyncio.get_running_loop().call_later(pause, self._queue.append, task)
        else:
            task.status = status

    def _note(self, kind: Kind, task_id: str, **fields: Any) -> None:
        self.log.add(kind, task_id, at=asyncio.get_running_loop().time(), **fields)
