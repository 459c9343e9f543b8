"""The server's endpoints as typed methods. No policy: each method is one request, except where it says otherwise."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import msgspec

from podium.answers import ANSWER_GRACE, decoded, elements_of, text_of
from podium.backoff import Backoff
from podium.config import Configuration
from podium.errors import ApiError, ConfigError, TransportError
from podium.models import (
    TERMINAL_WORKFLOW_STATUSES,
    BulkResponse,
    PollData,
    RerunWorkflowRequest,
    SchemaDef,
    StartWorkflowRequest,
    Task,
    TaskDef,
    TaskExecLog,
    TaskResult,
    TaskResultStatus,
    TaskState,
    Workflow,
    WorkflowDef,
    WorkflowRun,
    WorkflowSearchResult,
    WorkflowStatus,
)
from podium.transport import Transport, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from podium.answers import Response

T = TypeVar("T")

_PLACEHOLDER: Final = re.compile(r"\{\w+\}")
_START_FIELDS: Final = ("input", "version", "correlation_id", "priority", "task_to_domain")
#: Pauses between two looks at a workflow's status.
_WAIT_PAUSE: Final = Backoff(first=0.05, cap=1.0)


class AsyncClient:
    """A client of one Conductor server.

    ``configuration`` defaults to the environment's; ``transport`` lets several clients share one, which its maker
    closes. Use it as an async context manager, or call ``aclose``.

    Every method raises ApiError subclasses (NotFoundError, ConflictError, ...) if the server refuses, TransportError
    subclasses if no usable answer came, and ConfigError for a name or id that cannot be part of a URL.
    """

    def __init__(self, configuration: Configuration | None = None, *, transport: Transport | None = None) -> None:
        self._owned = transport is None
        self._transport = transport or Transport(Configuration() if configuration is None else configuration)

    async def aclose(self) -> None:
        """Close the connections, unless they belong to a shared transport."""
        if self._owned:
            await self._transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # --- for workers: raw JSON in and out --------------------------------------------------------------------------

    async def poll_tasks(
        self, task_type: str, *, worker_id: str, domain: str | None = None, count: int = 1, timeout_ms: int = 100
    ) -> list[bytes]:
        """Take up to ``count`` tasks of a type; wait ``timeout_ms`` (at most 5000) for that many.

        Returns the JSON of each task unread, so that one unreadable task does not hide the others.
        """
        query: dict[str, str | int] = {"workerid": worker_id, "count": count, "timeout": timeout_ms}
        if domain:  # an empty domain would be a queue of its own
            query["domain"] = domain
        response = await self._call(
            "GET", "/tasks/poll/batch/{taskType}", task_type, query=query, timeout=timeout_ms / 1000 + ANSWER_GRACE
        )
        return [] if response.status == 204 else elements_of(response.body)

    async def post_result(self, body: bytes) -> None:
        """Report a result (the JSON of a TaskResult). The server says yes also when it ignores it."""
        await self._transport.request("POST", "/tasks", body=body)

    async def post_result_v2(self, body: bytes) -> bytes | None:
        """Report a result and take the next task of the same type and domain; None if there is none.

        NotFoundError means an unknown task or workflow, or a server without this endpoint: its message tells.
        """
        response = await self._transport.request("POST", "/tasks/update-v2", body=body)
        return response.body or None

    async def extend_lease(self, task_id: str, workflow_id: str) -> None:
        """Restart the response timeout of a task. The answer does not tell whether the task is still wanted."""
        await self._call(
            "POST",
            "/tasks",
            body={"taskId": task_id, "workflowInstanceId": workflow_id, "extendLease": True},
            template="/tasks (extendLease)",
        )

    async def get_task_state(self, task_id: str) -> TaskState:
        """Return what tells whether a task's result is still wanted; the rest of the answer is not read."""
        return await self._read(TaskState, "/tasks/{taskId}", task_id)

    async def append_task_log(self, task_id: str, message: str) -> None:
        """Add a line to a task's execution log, with the server's time."""
        await self._call("POST", "/tasks/{taskId}/log", task_id, body=message.encode(), content_type="text/plain")

    # --- tasks -----------------------------------------------------------------------------------------------------

    async def get_task(self, task_id: str) -> Task:
        """Return a task with its input and output."""
        return await self._read(Task, "/tasks/{taskId}", task_id)

    async def update_task(self, result: TaskResult) -> None:
        """Report a result; workflow and task id must be filled in."""
        await self.post_result(msgspec.json.encode(result))

    async def update_task_by_ref(
        self,
        workflow_id: str,
        reference_name: str,
        status: TaskResultStatus = TaskResultStatus.COMPLETED,
        output: Mapping[str, Any] | None = None,
        *,
        worker_id: str | None = None,
    ) -> str | None:
        """Finish the open task with that reference name, add ``output`` to its output; return its id.

        None: the server found no open task of that name, or no such workflow.
        """
        where = "/tasks/{workflowId}/{reference}/{status}"
        query, body = _present(workerid=worker_id), dict(output or {})
        response = await self._call("POST", where, workflow_id, reference_name, status, query=query, body=body)
        return text_of(response) or None

    async def get_task_logs(self, task_id: str) -> list[TaskExecLog]:
        """Return the lines of a task's execution log, oldest first."""
        response = await self._call("GET", "/tasks/{taskId}/log", task_id)
        return decoded(response, list[TaskExecLog]) if response.body else []

    #: The name that the other SDKs have for it.
    add_task_log = append_task_log

    async def get_queue_sizes(self, task_types: Sequence[str]) -> dict[str, int]:
        """Return how many tasks wait for each type; write ``domain:type`` for a domain's queue."""
        response = await self._call("GET", "/tasks/queue/sizes", query=[("taskType", name) for name in task_types])
        return decoded(response, dict[str, int])

    async def get_poll_data(self, task_type: str) -> list[PollData]:
        """Return who polled for a type last, one entry per domain."""
        return await self._read(list[PollData], "/tasks/queue/polldata", query={"taskType": task_type})

    # --- definitions -----------------------------------------------------------------------------------------------

    async def register_task_defs(self, definitions: Sequence[TaskDef]) -> None:
        """Store task definitions, all or none; existing ones are replaced."""
        await self._call("POST", "/metadata/taskdefs", body=list(definitions))

    async def register_task_def(self, definition: TaskDef) -> None:
        """Store one task definition; an existing one is replaced."""
        await self.register_task_defs([definition])

    async def update_task_def(self, definition: TaskDef | Mapping[str, Any]) -> None:
        """Replace an existing task definition (or its JSON) as a whole: what is unset becomes the server's default."""
        await self._call("PUT", "/metadata/taskdefs", body=definition)

    async def get_task_def(self, name: str) -> TaskDef:
        """Return a task definition."""
        return await self._read(TaskDef, "/metadata/taskdefs/{name}", name)

    async def get_task_def_json(self, name: str) -> dict[str, Any]:
        """Return a task definition as the server has it, with fields that TaskDef does not know."""
        return await self._read(dict[str, Any], "/metadata/taskdefs/{name}", name)

    async def get_task_defs(self) -> list[TaskDef]:
        """Return all task definitions."""
        return await self._read(list[TaskDef], "/metadata/taskdefs")

    async def unregister_task_def(self, name: str) -> None:
        """Delete a task definition; the server answers 500 (ServerError) if there is none."""
        await self._call("DELETE", "/metadata/taskdefs/{name}", name)

    async def register_schemas(self, schemas: Sequence[SchemaDef]) -> None:
        """Store schemas, each over the one of its name and version; NotFoundError without a schema registry."""
        await self._call("POST", "/schema", query=_present(newVersion=False), body=list(schemas))

    async def get_schema(self, name: str, version: int = 1) -> SchemaDef:
        """Return a schema."""
        return await self._read(SchemaDef, "/schema/{name}/{version}", name, str(version))

    async def register_workflow_def(self, definition: WorkflowDef, *, overwrite: bool = False) -> None:
        """Store a workflow definition; ConflictError if that version exists and ``overwrite`` is False."""
        await self._call("POST", "/metadata/workflow", query=_present(overwrite=overwrite), body=definition)

    async def update_workflow_defs(self, definitions: Sequence[WorkflowDef]) -> BulkResponse:
        """Store workflow definitions, new or existing."""
        response = await self._call("PUT", "/metadata/workflow", body=list(definitions))
        return decoded(response, BulkResponse)

    async def get_workflow_def(self, name: str, version: int | None = None) -> WorkflowDef:
        """Return a workflow definition, by default its latest version."""
        return await self._read(WorkflowDef, "/metadata/workflow/{name}", name, query=_present(version=version))

    async def unregister_workflow_def(self, name: str, version: int) -> None:
        """Delete one version of a workflow definition."""
        await self._call("DELETE", "/metadata/workflow/{name}/{version}", name, str(version))

    # --- workflows -------------------------------------------------------------------------------------------------

    async def start_workflow(
        self,
        workflow: str | StartWorkflowRequest,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the word of Conductor
        *,
        version: int | None = None,
        correlation_id: str | None = None,
        priority: int = 0,
        task_to_domain: Mapping[str, str] | None = None,
    ) -> str:
        """Start a workflow, given by name and the arguments or as a whole request; return its id.

        Repeating it after a CutError may start a second one.
        """
        request = _start_request(workflow, input, version, correlation_id, priority, task_to_domain)
        return text_of(await self._call("POST", "/workflow", body=request))

    async def execute_workflow(
        self,
        workflow: str | StartWorkflowRequest,
        input: Mapping[str, Any] | None = None,  # noqa: A002 - the word of Conductor
        *,
        version: int | None = None,
        correlation_id: str | None = None,
        priority: int = 0,
        task_to_domain: Mapping[str, str] | None = None,
        wait_for_seconds: int = 10,
        wait_until_task_ref: str | Sequence[str] = (),
    ) -> WorkflowRun:
        """Start a workflow and wait for its end, or for one of the tasks named by reference, and return its state.

        After ``wait_for_seconds`` the state as it is comes back with ``signal_timeout``; the workflow runs on.
        """
        request = _start_request(workflow, input, version, correlation_id, priority, task_to_domain)
        refs = wait_until_task_ref if isinstance(wait_until_task_ref, str) else ",".join(wait_until_task_ref)
        response = await self._call(
            "POST",
            "/workflow/execute/{name}/{version}",
            request.name,
            str(request.version or 0),  # 0 stands for the latest
            query=_present(waitForSeconds=wait_for_seconds, waitUntilTaskRef=refs or None),
            body=request,
            timeout=wait_for_seconds + ANSWER_GRACE,
        )
        return decoded(response, WorkflowRun)

    async def wait_for_workflow(
        self,
        workflow_id: str,
        timeout: float = 30.0,  # noqa: ASYNC109 - the wait goes over many requests, each with its own limit
    ) -> Workflow:
        """Look at the status until the workflow has ended; return it with its tasks.

        Raises TimeoutError after ``timeout`` seconds. A failed look is repeated if it may succeed later.
        """
        deadline = time.monotonic() + timeout
        looks, status = 0, "unknown"
        while True:
            looks += 1
            try:
                status = (await self.get_workflow_status(workflow_id)).status
                if status in TERMINAL_WORKFLOW_STATUSES:
                    return await self.get_workflow(workflow_id)
            except (ApiError, TransportError) as error:
                if not error.retryable:
                    raise
            pause = _WAIT_PAUSE.delay(looks)
            if time.monotonic() + pause > deadline:
                raise TimeoutError(f"workflow {workflow_id} has not ended within {timeout:g} s; its status is {status}")
            await asyncio.sleep(pause)

    async def get_workflow(self, workflow_id: str, *, include_tasks: bool = True) -> Workflow:
        """Return a workflow execution."""
        return await self._read(
            Workflow, "/workflow/{workflowId}", workflow_id, query=_present(includeTasks=include_tasks)
        )

    async def get_workflow_status(
        self, workflow_id: str, *, include_output: bool = False, include_variables: bool = False
    ) -> WorkflowStatus:
        """Return the status of a workflow execution, without its tasks."""
        query = _present(includeOutput=include_output, includeVariables=include_variables)
        return await self._read(WorkflowStatus, "/workflow/{workflowId}/status", workflow_id, query=query)

    async def search_workflows(
        self, query: str = "", *, start: int = 0, size: int = 100, sort: str | None = None, free_text: str = "*"
    ) -> WorkflowSearchResult:
        """Search executions, such as ``workflowType=order AND status IN (FAILED)``, ``sort="startTime:DESC"``."""
        parameters = _present(query=query or None, start=start, size=size, sort=sort, freeText=free_text)
        return await self._read(WorkflowSearchResult, "/workflow/search", query=parameters)

    async def terminate_workflow(self, workflow_id: str, reason: str | None = None) -> None:
        """End a running workflow; its open tasks become CANCELED."""
        await self._call("DELETE", "/workflow/{workflowId}", workflow_id, query=_present(reason=reason))

    async def pause_workflow(self, workflow_id: str) -> None:
        """Schedule no further tasks until ``resume_workflow``."""
        await self._call("PUT", "/workflow/{workflowId}/pause", workflow_id)

    async def resume_workflow(self, workflow_id: str) -> None:
        """Go on with a paused workflow."""
        await self._call("PUT", "/workflow/{workflowId}/resume", workflow_id)

    async def retry_workflow(self, workflow_id: str, *, resume_subworkflow_tasks: bool = False) -> None:
        """Go on with a failed workflow: its last failed tasks get a new attempt."""
        query = _present(resumeSubworkflowTasks=resume_subworkflow_tasks)
        await self._call("POST", "/workflow/{workflowId}/retry", workflow_id, query=query)

    async def restart_workflow(self, workflow_id: str, *, use_latest_definitions: bool = False) -> None:
        """Run an ended workflow again from the start, under the same id; its old tasks are deleted."""
        query = _present(useLatestDefinitions=use_latest_definitions)
        await self._call("POST", "/workflow/{workflowId}/restart", workflow_id, query=query)

    async def rerun_workflow(self, workflow_id: str, request: RerunWorkflowRequest | None = None) -> str:
        """Run an ended workflow again from a task, or from the start; return its id."""
        body = request or RerunWorkflowRequest()
        return text_of(await self._call("POST", "/workflow/{workflowId}/rerun", workflow_id, body=body))

    async def remove_workflow(self, workflow_id: str, *, archive: bool = True) -> None:
        """Delete an execution, running or not."""
        query = _present(archiveWorkflow=archive)
        await self._call("DELETE", "/workflow/{workflowId}/remove", workflow_id, query=query)

    async def decide_workflow(self, workflow_id: str) -> None:
        """Make the server evaluate a workflow now, timeouts included."""
        await self._call("PUT", "/workflow/decide/{workflowId}", workflow_id)

    # --- requests --------------------------------------------------------------------------------------------------

    async def _read(
        self, kind: type[T], endpoint: str, *segments: str, query: Mapping[str, str | int] | None = None
    ) -> T:
        return decoded(await self._call("GET", endpoint, *segments, query=query), kind)

    async def _call(
        self,
        method: str,
        endpoint: str,
        *segments: str,
        query: Mapping[str, str | int] | Sequence[tuple[str, str | int]] | None = None,
        body: object = None,
        content_type: str = "application/json",
        timeout: float | None = None,  # noqa: ASYNC109 - the transport ends the request itself
        template: str | None = None,
    ) -> Response:
        """Fill the segments into the braces of the endpoint and send the request; bytes are sent as they are."""
        rest = iter(segments)
        path = _PLACEHOLDER.sub(lambda _: quoted(next(rest)), endpoint)
        return await self._transport.request(
            method,
            path,
            query=query,
            body=body if body is None or isinstance(body, bytes) else msgspec.json.encode(body),
            content_type=content_type,
            timeout=timeout,
            template=template or endpoint,
        )


def _present(**parameters: str | int | None) -> dict[str, str | int]:
    """Return the query parameters that have a value, in the server's spelling."""
    return {
        name: str(value).lower() if isinstance(value, bool) else value
        for name, value in parameters.items()
        if value is not None
    }


def _start_request(workflow: str | StartWorkflowRequest, *arguments: Any) -> StartWorkflowRequest:
    if isinstance(workflow, str):
        fields = zip(_START_FIELDS, arguments, strict=True)
        return StartWorkflowRequest(name=workflow, **{name: value for name, value in fields if value})
    if any(arguments):
        raise ConfigError("give a workflow's name and arguments, or a StartWorkflowRequest, not both")
    return workflow
