"""A client, a crew and listeners for tests of the engine's parts, without a server and without user code."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from podium import TaskDef, TaskResultStatus
from podium.client import AsyncClient
from podium.errors import NotFoundError, PodiumError, ServerError
from podium.events import EventDispatcher, TaskRunnerEvent
from podium.frames import Cause, Outcome
from podium.models import SchemaDef, TaskState
from podium.polled import Abandoned, Interrupted, PolledTask


def task_json(task_id: str, **fields: Any) -> bytes:
    return json.dumps({"taskId": task_id, "workflowInstanceId": f"flow-{task_id}", **fields}).encode()


def outcome_for(
    task: PolledTask, status: TaskResultStatus = TaskResultStatus.COMPLETED, cause: Cause | None = None, **fields: Any
) -> Outcome:
    body = {"taskId": task.task_id, "workflowInstanceId": task.workflow_id, "status": status, **fields}
    return Outcome(0, status, json.dumps(body).encode(), [], 0.0, 0.25, 2, cause)


class Poll(NamedTuple):
    at: float
    task_type: str
    worker_id: str
    domain: str | None
    wanted: int
    timeout_ms: int


class Update(NamedTuple):
    at: float
    way: str  # "v1" or "v2"
    body: dict[str, Any]


PollAnswer = list[bytes] | PodiumError | asyncio.Future[list[bytes]]


class FakeClient(AsyncClient):
    """Answers polls and updates from scripts; notes everything with its time."""

    def __init__(self, *poll_answers: PollAnswer) -> None:
        self.poll_answers = deque(poll_answers)
        #: What every poll gets when the script is over.
        self.last_answer: PollAnswer = []
        #: Raised by the next updates, one each; None lets one through.
        self.update_errors: deque[PodiumError | None] = deque()
        #: What update-v2 hands out.
        self.next_tasks: deque[bytes] = deque()
        self.has_v2 = True
        #: Awaited by every update, heartbeat and log line before it is answered.
        self.gate: asyncio.Event | None = None
        self.beat_errors: deque[PodiumError | None] = deque()
        self.log_errors: deque[PodiumError | None] = deque()
        #: What the next looks at tasks fail with, and all that follow.
        self.look_errors: deque[PodiumError | None] = deque()
        self.away: PodiumError | None = None
        #: What the server says of tasks, if it is not that they are IN_PROGRESS; and who looked at which.
        self.states: dict[str, TaskState] = {}
        self.looks: list[tuple[float, str]] = []
        #: What the server has: the JSON of definitions by name, and the registered schemas.
        self.definitions: dict[str, dict[str, Any]] = {}
        self.schemas: dict[str, SchemaDef] = {}
        #: Whether the server has a schema registry, and the failures of the next requests to it.
        self.has_schemas = True
        self.schema_errors: deque[PodiumError | None] = deque()
        self.schema_calls: list[list[str]] = []
        self.polls: list[Poll] = []
        self.updates: list[Update] = []
        self.beats: list[tuple[float, str]] = []
        self.logs: list[tuple[float, str, str]] = []
        self.definition_calls: list[tuple[str, dict[str, Any]]] = []

    def updates_of(self, task_id: str) -> list[Update]:
        return [update for update in self.updates if update.body["taskId"] == task_id]

    @property
    def reported(self) -> list[tuple[str, str]]:
        """Task id and status of every update, in order."""
        return [(update.body["taskId"], update.body["status"]) for update in self.updates]

    async def poll_tasks(
        self, task_type: str, *, worker_id: str, domain: str | None = None, count: int = 1, timeout_ms: int = 100
    ) -> list[bytes]:
        self.polls.append(Poll(_now(), task_type, worker_id, domain, count, timeout_ms))
        answer = self.poll_answers.popleft() if self.poll_answers else self.last_answer
        if isinstance(answer, PodiumError):
            raise answer
        return answer if isinstance(answer, list) else await answer

    async def post_result(self, body: bytes) -> None:
        await self._update("v1", body)

    async def post_result_v2(self, body: bytes) -> bytes | None:
        await self._update("v2", body)
        return self.next_tasks.popleft() if self.next_tasks else None

    async def _update(self, way: str, body: bytes) -> None:
        self.updates.append(Update(_now(), way, json.loads(body)))
        await self._pass_gate()
        if way == "v2" and not self.has_v2:
            raise NotFoundError(404, "No static resource api/tasks/update-v2.")
        _raise_next(self.update_errors)

    async def extend_lease(self, task_id: str, workflow_id: str) -> None:
        assert workflow_id == f"flow-{task_id}"
        self.beats.append((_now(), task_id))
        await self._pass_gate()
        _raise_next(self.beat_errors)

    async def get_task_state(self, task_id: str) -> TaskState:
        self.looks.append((_now(), task_id))
        _raise_next(self.look_errors)
        if self.away is not None:
            raise self.away
        return self.states.get(task_id, TaskState(status="IN_PROGRESS"))

    async def append_task_log(self, task_id: str, message: str) -> None:
        self.logs.append((_now(), task_id, message))
        await self._pass_gate()
        _raise_next(self.log_errors)

    async def get_task_def_json(self, name: str) -> dict[str, Any]:
        if name not in self.definitions:
            raise NotFoundError(404, f"No such taskType found by name: {name}")
        return self.definitions[name]

    async def register_task_def(self, definition: TaskDef) -> None:
        self.definition_calls.append(("create", definition.to_dict()))
        self.definitions[definition.name] = definition.to_dict()

    async def update_task_def(self, definition: TaskDef | Mapping[str, Any]) -> None:
        assert not isinstance(definition, TaskDef)
        self.definition_calls.append(("update", dict(definition)))
        self.definitions[definition["name"]] = dict(definition)

    async def register_schemas(self, schemas: Sequence[SchemaDef]) -> None:
        self.schema_calls.append([schema.name for schema in schemas])
        _raise_next(self.schema_errors)
        if not self.has_schemas:
            raise NotFoundError(404, "No static resource api/schema.")
        self.schemas |= {schema.name: schema for schema in schemas}

    async def _pass_gate(self) -> None:
        if self.gate is not None:
            await self.gate.wait()


class FakeCrew:
    """Runs nothing: the test says when and how a task ends; or ``instantly`` makes it succeed at once."""

    def __init__(self, slots: int, *, instantly: bool = False) -> None:
        self.slots = slots
        self.instantly = instantly
        self.started: list[str] = []
        self.most_at_once = 0
        #: Ids of the tasks whose code was asked to end, and of those that were evicted, with the reason.
        self.cancelled: list[str] = []
        self.evicted: list[tuple[str, str]] = []
        #: Whether code can be ended by force; where it is then; what goes on where it cannot.
        self.can_kill = True
        self.stack = ""
        self.left_behind: list[str] = []
        self._running: dict[str, tuple[PolledTask, asyncio.Future[Outcome]]] = {}

    @property
    def running(self) -> list[str]:
        return list(self._running)

    def free(self, worker: int) -> int:
        return self.slots - len(self._running) - len(self.left_behind)

    def run(self, worker: int, task: PolledTask) -> asyncio.Future[Outcome]:
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.started.append(task.task_id)
        if self.instantly:
            future.set_result(outcome_for(task))
            return future
        assert task.task_id not in self._running, "a task runs twice"
        self._running[task.task_id] = (task, future)
        self.most_at_once = max(self.most_at_once, len(self._running))
        return future

    def stuck(self, worker: int) -> int:
        return len(self.left_behind)

    def cancel(self, future: asyncio.Future[Outcome]) -> None:
        self.cancelled.append(self._id_of(future))

    async def evict(self, future: asyncio.Future[Outcome], why: str) -> str:
        """Kill the task's process, or leave its thread behind."""
        task_id = self._id_of(future)
        self.evicted.append((task_id, why))
        if self.can_kill:
            for held in self.running:
                self.interrupt(held)
        else:
            self._running.pop(task_id)
            self.left_behind.append(task_id)
            future.set_exception(Abandoned())
        return self.stack

    def _id_of(self, future: asyncio.Future[Outcome]) -> str:
        return next(task_id for task_id, (_, known) in self._running.items() if known is future)

    def finish(self, task_id: str, make: Callable[[PolledTask], Outcome] = outcome_for) -> None:
        task, future = self._running.pop(task_id)
        future.set_result(make(task))

    def interrupt(self, task_id: str) -> None:
        self._running.pop(task_id)[1].set_exception(Interrupted())


class Heard(EventDispatcher):
    """Notes events at once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[TaskRunnerEvent] = []

    def has_listeners(self, event_type: type[TaskRunnerEvent]) -> bool:
        return True

    def publish(self, event: TaskRunnerEvent) -> None:
        self.events.append(event)

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]


def unavailable(**fields: Any) -> ServerError:
    return ServerError(503, "unavailable", **fields)


def _raise_next(errors: deque[PodiumError | None]) -> None:
    error = errors.popleft() if errors else None
    if error is not None:
        raise error


def _now() -> float:
    return asyncio.get_running_loop().time()
