"""Routes under /tasks: what workers call."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from starlette.routing import Route

from podium.server.actions import TaskReport
from podium.server.definitions import read_document
from podium.server.problems import InvalidError, Problem
from podium.server.shown import show_run, show_task
from podium.server.web import (
    decode_json,
    empty_answer,
    integer,
    json_answer,
    missing_body,
    read_body,
    read_json_bytes,
    read_map,
    required_query,
    text_answer,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podium.server.service import Service
    from podium.server.state import Run, TaskState

#: Milliseconds that a poll may wait at most.
LONGEST_POLL = 5000
#: Milliseconds that a poll waits when the request names no time.
DEFAULT_POLL = 100


class TaskRoutes:
    """Polls, updates, logs and queues."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes, the busy ones first."""
        return [
            Route("/tasks/poll/batch/{task_type}", self.poll_batch, methods=["GET"]),
            Route("/tasks/update-v2", self.update_v2, methods=["POST"]),
            Route("/tasks", self.update, methods=["POST"]),
            Route("/tasks/poll/{task_type}", self.poll, methods=["GET"]),
            Route("/tasks/queue/size", self.queue_size, methods=["GET"]),
            Route("/tasks/queue/sizes", self.queue_sizes, methods=["GET"]),
            Route("/tasks/queue/all", self.queue_all, methods=["GET"]),
            Route("/tasks/queue/all/verbose", self.queue_verbose, methods=["GET"]),
            Route("/tasks/queue/polldata", self.poll_data, methods=["GET"]),
            Route("/tasks/queue/polldata/all", self.poll_data_all, methods=["GET"]),
            Route("/tasks/queue/requeue/{task_type}", self.requeue, methods=["POST"]),
            Route("/tasks/{task_id}/log", self.add_log, methods=["POST"]),
            Route("/tasks/{task_id}/log", self.logs, methods=["GET"]),
            Route("/tasks/{workflow_id}/{status}/signal", self.signal, methods=["POST"]),
            Route("/tasks/{workflow_id}/{reference}/{status}", self.update_by_reference, methods=["POST"]),
            Route("/tasks/{workflow_id}/{reference}/{status}/sync", self.update_and_show, methods=["POST"]),
            Route("/tasks/{task_id}", self.task, methods=["GET"]),
        ]

    # -- polling ---------------------------------------------------------------------------------------------------

    async def poll(self, request: Request) -> Response:
        """Hand out one task: 200, or 204 at once if there is none."""
        taken = await self._service.poll(
            request.path_params["task_type"], request.query_params.get("domain"), request.query_params.get("workerid")
        )
        await self._service.committed()
        return self._one(taken)

    async def poll_batch(self, request: Request) -> Response:
        """Hand out up to ``count`` tasks; wait up to ``timeout`` ms for the first."""
        timeout, count = integer(request, "timeout", DEFAULT_POLL), integer(request, "count", 1)
        if timeout > LONGEST_POLL:
            raise Problem(400, "Long Poll Timeout value cannot be more than 5 seconds")
        taken = await self._service.poll(
            request.path_params["task_type"],
            request.query_params.get("domain"),
            request.query_params.get("workerid"),
            count=count,
            seconds=timeout / 1000 if count > 0 else 0,
            is_gone=request.is_disconnected,
        )
        await self._service.committed()
        return json_answer([show_task(run, attempt) for run, attempt in taken])

    def _one(self, taken: list[tuple[Run, TaskState]]) -> Response:
        return json_answer(show_task(*taken[0])) if taken else empty_answer(204)

    # -- updates ---------------------------------------------------------------------------------------------------

    async def update(self, request: Request) -> Response:
        """Apply a worker's report."""
        said = await _report(request)
        _require_ids(said)
        self._service.update(said)
        await self._service.committed()
        return text_answer(said.task_id or "")

    async def update_v2(self, request: Request) -> Response:
        """Apply a worker's report and, if the task has ended, hand out the next one of its queue."""
        said = await _report(request)
        if not said.workflow_instance_id or not said.task_id:
            raise Problem(500, "Validation failed for argument [0]: workflowInstanceId and taskId cannot be empty")
        attempt = self._service.update(said)
        taken: list[tuple[Run, TaskState]] = []
        if attempt.ended and not said.extend_lease:
            domain = attempt.domain if isinstance(attempt.domain, str) else None
            taken = await self._service.poll(attempt.task_type, domain, said.worker_id)
        await self._service.committed()
        return self._one(taken)

    async def update_by_reference(self, request: Request) -> Response:
        """Apply a status and output to the open task of a reference name."""
        attempt = await self._update_by_reference(request)
        return text_answer(attempt.task_id) if attempt else empty_answer()

    async def update_and_show(self, request: Request) -> Response:
        """Do the same and answer the workflow."""
        attempt = await self._update_by_reference(request)
        if attempt is None:
            reference, workflow_id = request.path_params["reference"], request.path_params["workflow_id"]
            raise Problem(404, f"Found no running task {reference} of workflow {workflow_id} to update")
        run = self._service.run(attempt.workflow_instance_id)
        return json_answer(show_run(run))

    async def _update_by_reference(self, request: Request) -> TaskState | None:
        output = await read_map(request)
        said = _decode(msgspec.json.encode({"status": request.path_params["status"], "outputData": output}))
        said.worker_id = request.query_params.get("workerid")
        try:
            run = self._service.run(request.path_params["workflow_id"])
        except Problem:
            return None  # the real server answers 200 without a body
        attempt = run.latest.get(request.path_params["reference"])
        if attempt is None:
            return None
        said.output_data = attempt.output_data | output
        applied = self._service.report(run, attempt, said)
        await self._service.committed()
        return attempt if applied else None

    async def signal(self, request: Request) -> Response:
        """End the first open WAIT of a workflow."""
        output = await read_map(request)
        said = _decode(msgspec.json.encode({"status": request.path_params["status"], "outputData": output}))
        run = self._service.run(request.path_params["workflow_id"])
        waiting = next((attempt for attempt in run.open_attempts() if attempt.task_type == "WAIT"), None)
        if waiting is not None:
            self._service.report(run, waiting, said)
        await self._service.committed()
        return empty_answer()

    # -- reading ---------------------------------------------------------------------------------------------------

    async def task(self, request: Request) -> Response:
        """Answer one task."""
        task_id = request.path_params["task_id"]
        found = self._service.task(task_id)
        if found is None:
            raise Problem(404, f"Task not found for taskId: {task_id}")
        return json_answer(show_task(*found))

    async def add_log(self, request: Request) -> Response:
        """Append the raw body to a task's log; tasks that do not exist have logs too."""
        line = (await read_body(request)).decode("utf-8", "replace")
        if not line:
            raise missing_body(request)
        self._service.repository.add_log(request.path_params["task_id"], self._service.now(), line)
        await self._service.committed()
        return empty_answer()

    async def logs(self, request: Request) -> Response:
        """Answer a task's log, or 204."""
        lines = self._service.repository.logs(request.path_params["task_id"])
        return json_answer(lines) if lines else empty_answer(204)

    # -- queues ----------------------------------------------------------------------------------------------------

    async def queue_size(self, request: Request) -> Response:
        """Answer how many tasks wait in a queue."""
        task_type, domain = required_query(request, "taskType"), request.query_params.get("domain")
        return json_answer(self._service.queues.size((task_type, domain)))

    async def queue_sizes(self, request: Request) -> Response:
        """Answer the sizes of the queues named by ``taskType``, ``type`` or ``domain:type``."""
        required_query(request, "taskType")
        sizes = {}
        for name in request.query_params.getlist("taskType"):
            domain, colon, task_type = name.rpartition(":")
            sizes[name] = self._service.queues.size((task_type, domain if colon else None))
        return json_answer(sizes)

    async def queue_all(self, _request: Request) -> Response:
        """Answer the sizes of all queues that hold tasks."""
        return json_answer(self._all_sizes())

    async def queue_verbose(self, _request: Request) -> Response:
        """Answer the same with the shard structure of the real server's queues; there is one shard here."""
        return json_answer({name: {"a": {"size": size, "uacked": 0}} for name, size in self._all_sizes().items()})

    def _all_sizes(self) -> dict[str, int]:
        sizes = self._service.queues.sizes()
        return {
            task_type if domain is None else f"{domain}:{task_type}": size
            for (task_type, domain), size in sizes.items()
        }

    async def poll_data(self, request: Request) -> Response:
        """Answer who polled a task type last, per domain."""
        return json_answer(self._service.polls.records(required_query(request, "taskType")))

    async def poll_data_all(self, _request: Request) -> Response:
        """Answer who polled last, for all queues."""
        return json_answer(self._service.polls.records())

    async def requeue(self, request: Request) -> Response:
        """Queue every open task of a type, also those that are being worked on."""
        count = self._service.requeue(request.path_params["task_type"])
        await self._service.committed()
        return text_answer(str(count))


_decoder = msgspec.json.Decoder(TaskReport, strict=False)


def _decode(body: bytes) -> TaskReport:
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return read_document(decode_json(body), TaskReport)  # slower, and more lenient with scalars


async def _report(request: Request) -> TaskReport:
    return _decode(await read_json_bytes(request))


def _require_ids(said: TaskReport) -> None:
    complaints: list[tuple[str, str, str | None]] = []
    if not said.workflow_instance_id:
        complaints.append(("updateTask.arg0.workflowInstanceId", "Workflow Id cannot be null or empty", None))
    if not said.task_id:
        complaints.append(("updateTask.arg0.taskId", "Task ID cannot be null or empty", None))
    if complaints:
        raise InvalidError(complaints)
