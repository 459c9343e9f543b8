"""A scripted Conductor of the simple kind, for loads: it hands out tasks, believes reports, and keeps an event log.

    with TaskServer(faults=Faults(errors=0.02, cut_before=0.02, cut_after=0.02, seed=1)) as server:
        server.add("type", 1000)
        ...
        server.wait_for_end()
        check(server.log, slots=20)

It knows tasks only: no workflows, no definitions. A failed or timed-out attempt is followed by another one under a new
id, as long as ``retries`` are left. An attempt that has ended takes no further report, and answers as if it did.
"""

from __future__ import annotations

import itertools
import json
import random
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from event_log import EventLog, Kind
from fake_server import Answer, FakeServer, Fault, Request, error_answer, json_answer, text_answer

POLL_PATH = "/api/tasks/poll/batch/"
UPDATE_PATHS = {"/api/tasks", "/api/tasks/update-v2"}
OPEN = {"SCHEDULED", "IN_PROGRESS"}


@dataclass
class Faults:
    """Chances, from 0 to 1, of what goes wrong with a request whose path starts with one of ``paths``.

    ``cut_before``: the connection ends with nothing done. ``cut_after``: it ends when everything is done but told.
    """

    errors: float = 0.0
    cut_before: float = 0.0
    cut_after: float = 0.0
    seed: int = 0
    #: Default: updates, and not heartbeats, which have faults of their own.
    paths: tuple[str, ...] = ("/api/tasks",)
    not_paths: tuple[str, ...] = (POLL_PATH,)
    #: How many of each there were.
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def draw(self, request: Request) -> str:
        """Return what happens to a request: "errors", "cut_before", "cut_after", or "" for nothing."""
        path = request.path
        if not path.startswith(self.paths) or path.startswith(self.not_paths) or b'"extendLease"' in request.body:
            return ""
        number = self._random.random()
        for name in ("errors", "cut_before", "cut_after"):
            chance = getattr(self, name)
            if number < chance:
                self.counts[name] += 1
                return name
            number -= chance
        return ""


@dataclass
class Attempt:
    """One task as the server has it."""

    task_id: str
    task_type: str
    inputs: dict[str, Any]
    #: The task that all attempts belong to: the id of the first.
    origin: str
    retry_count: int = 0
    poll_count: int = 0
    status: str = "SCHEDULED"
    output: dict[str, Any] = field(default_factory=dict)
    worker: str = ""
    reason: str = ""
    last_sign: float = 0.0


class TaskServer(FakeServer):
    """The server. Its state is touched in its own thread, and under its lock by ``add`` and ``cancel``."""

    def __init__(
        self,
        *,
        faults: Faults | None = None,
        response_timeout: float = 0,
        retries: int = 0,
        update_v2: bool = True,
    ) -> None:
        super().__init__()
        self.log = EventLog()
        self.faults = faults or Faults()
        #: Whether requests are answered 503 for the time being.
        self.unavailable = False
        self.attempts: dict[str, Attempt] = {}
        #: Reports of attempts that had a report already, and those of attempts that the server had ended itself.
        self.duplicates = 0
        self.superseded = 0
        self._response_timeout = response_timeout
        self._retries = retries
        self._update_v2 = update_v2
        self._queues: dict[str, deque[Attempt]] = defaultdict(deque)
        self._numbers = itertools.count(1)
        self._unfinished = 0
        self.otherwise(self.answer)

    def add(self, task_type: str, count: int = 1, **inputs: Any) -> list[str]:
        """Put tasks into a queue; return their ids."""
        with self._changed:
            return [self._schedule(task_type, inputs).task_id for _ in range(count)]

    def cancel(self, task_id: str) -> None:
        """End an attempt as the end of its workflow would."""
        with self._changed:
            attempt = self.attempts[task_id]
            if attempt.status in OPEN:
                self._end(attempt, "CANCELED")
                self.log.add(Kind.CANCELED, task_id)

    def wait_for_end(self, deadline: float = 60.0) -> None:
        """Return when every task has ended: reported, with no retry left."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._unfinished == 0, deadline):
                raise AssertionError(f"{self._unfinished} tasks have not ended within {deadline} s")

    def statuses(self) -> dict[str, int]:
        """Return how many attempts are in each state."""
        with self._changed:
            found: dict[str, int] = defaultdict(int)
            for attempt in self.attempts.values():
                found[attempt.status] += 1
            return dict(found)

    def _schedule(self, task_type: str, inputs: dict[str, Any], before: Attempt | None = None) -> Attempt:
        name = f"{task_type}-{next(self._numbers)}"
        attempt = Attempt(name, task_type, inputs, before.origin if before else name)
        if before is None:
            self._unfinished += 1
        else:
            attempt.retry_count = before.retry_count + 1
        self.attempts[name] = attempt
        self._queues[task_type].append(attempt)
        return attempt

    def _end(self, attempt: Attempt, status: str) -> None:
        attempt.status = status
        if status in {"FAILED", "TIMED_OUT"} and attempt.retry_count < self._retries:
            self._schedule(attempt.task_type, attempt.inputs, attempt)
        else:
            self._unfinished -= 1

    def answer(self, request: Request) -> Answer:
        """Answer a request: also for scripts that answer only some requests themselves."""
        self._time_out()
        if self.unavailable:
            return error_answer(503, "unavailable", retryable=True)
        fault = self.faults.draw(request)
        if fault == "errors":
            return error_answer(500, "internal error", retryable=True)
        if fault == "cut_before":
            return Answer(fault=Fault.CUT)
        answered = fault != "cut_after"
        answer = self._act(request, answered=answered)
        return answer if answered else Answer(fault=Fault.CUT)

    def _act(self, request: Request, *, answered: bool) -> Answer:
        path = request.path
        if path.startswith(POLL_PATH):
            return self._poll(path.removeprefix(POLL_PATH), request, answered=answered)
        if request.method == "POST" and path in UPDATE_PATHS:
            if path.endswith("v2") and not self._update_v2:
                return error_answer(404, "No static resource api/tasks/update-v2.")
            return self._update(request, answered=answered, v2=path.endswith("v2"))
        _, _, task_id = path.removeprefix("/api/").partition("/")
        if path.startswith("/api/tasks/") and request.method == "POST" and path.endswith("/log"):
            return Answer()
        attempt = self.attempts.get(task_id)
        if request.method == "GET" and path.startswith("/api/tasks/") and attempt is not None:
            return json_answer(self._json(attempt))
        return error_answer(404, "No such task found by id" if path.startswith("/api/tasks/") else "not found")

    def _poll(self, task_type: str, request: Request, *, answered: bool) -> Answer:
        worker, count = request.query.get("workerid", ""), int(request.query.get("count", "1"))
        self.log.add(Kind.POLL, worker=worker, answered=answered)
        tasks = [self._give(attempt, worker, answered=answered) for attempt in self._take(task_type, count)]
        return json_answer(tasks)

    def _take(self, task_type: str, count: int) -> list[Attempt]:
        queue = self._queues[task_type]
        taken: list[Attempt] = []
        while queue and len(taken) < count:
            attempt = queue.popleft()
            if attempt.status == "SCHEDULED":  # it may have been canceled while it waited
                taken.append(attempt)
        return taken

    def _give(self, attempt: Attempt, worker: str, *, answered: bool) -> dict[str, Any]:
        attempt.status, attempt.worker = "IN_PROGRESS", worker
        attempt.poll_count += 1
        attempt.last_sign = time.monotonic()
        kind = Kind.GIVEN if answered else Kind.GIVEN_IN_VAIN
        self.log.add(
            kind, attempt.task_id, at=attempt.last_sign, worker=worker, response_timeout=self._response_timeout
        )  # fmt: skip
        return self._json(attempt)

    def _json(self, attempt: Attempt) -> dict[str, Any]:
        return {
            "taskId": attempt.task_id,
            "workflowInstanceId": f"flow-{attempt.origin}",
            "taskType": attempt.task_type,
            "taskDefName": attempt.task_type,
            "referenceTaskName": "t",
            "status": attempt.status,
            "inputData": attempt.inputs,
            "outputData": attempt.output,
            "retryCount": attempt.retry_count,
            "pollCount": attempt.poll_count,
            "responseTimeoutSeconds": self._response_timeout,
            "workerId": attempt.worker,
        }

    def _update(self, request: Request, *, answered: bool, v2: bool) -> Answer:
        try:
            body = json.loads(request.body)
            attempt = self.attempts.get(body["taskId"])
        except (ValueError, KeyError):
            return error_answer(500, "unreadable body")
        if attempt is None:
            return error_answer(404, f"No such task found by id: {body['taskId']}")
        if body.get("extendLease"):
            is_open = attempt.status == "IN_PROGRESS"
            self.log.add(Kind.HEARTBEAT, attempt.task_id, accepted=is_open, answered=answered)
            attempt.last_sign = time.monotonic()
            return Answer(status=204)
        self._report(attempt, body, answered=answered)
        if v2 and (following := self._take(attempt.task_type, 1)):
            # As on a real server, a worker that did not get this answer does not know of the task in it.
            return json_answer(self._give(following[0], body.get("workerId", ""), answered=answered))
        return Answer(status=204) if v2 else text_answer(attempt.task_id)

    def _report(self, attempt: Attempt, body: dict[str, Any], *, answered: bool) -> None:
        status, worker = body["status"], body.get("workerId") or ""
        accepted = attempt.status == "IN_PROGRESS"
        back = status == "IN_PROGRESS" and not body.get("callbackAfterSeconds")
        kind = Kind.GIVEN_BACK if back else Kind.RESULT
        self.log.add(kind, attempt.task_id, worker=worker, status=status, accepted=accepted, answered=answered)
        if not accepted:
            ended_here = attempt.status in {"TIMED_OUT", "CANCELED"}
            self.superseded += ended_here
            self.duplicates += not ended_here
            return
        attempt.output, attempt.reason = body.get("outputData") or {}, body.get("reasonForIncompletion") or ""
        if status == "IN_PROGRESS":
            attempt.status = "SCHEDULED"
            self._queues[attempt.task_type].append(attempt)
        else:
            self._end(attempt, status)

    def _time_out(self) -> None:
        if not self._response_timeout:
            return
        limit = time.monotonic() - self._response_timeout
        for attempt in list(self.attempts.values()):
            if attempt.status == "IN_PROGRESS" and attempt.last_sign < limit:
                self._end(attempt, "TIMED_OUT")
                self.log.add(Kind.TIMED_OUT, attempt.task_id)
