"""Routes under /workflow: start, read and control executions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, UnsetType, field
from starlette.routing import Route

from podium.server import control
from podium.server.definitions import Document, Int32, WorkflowDefinition, read_document
from podium.server.engine import Turn
from podium.server.problems import InvalidError, Problem
from podium.server.shown import plain, show_run, show_task
from podium.server.validation import check_workflow_definition
from podium.server.web import (
    as_integer,
    empty_answer,
    flag,
    integer,
    json_answer,
    optional_integer,
    read_json,
    read_map,
    text_answer,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podium.server.service import Service
    from podium.server.state import Run


class StartRequest(Document):
    """The body of a start."""

    name: str = ""
    version: Int32 | None = None
    input: dict[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None
    priority: Int32 = 0
    task_to_domain: dict[str, str] = field(default_factory=dict)
    workflow_def: WorkflowDefinition | UnsetType = UNSET


class SkipRequest(Document):
    """The body of a skip."""

    task_input: dict[str, Any] = field(default_factory=dict)
    task_output: dict[str, Any] = field(default_factory=dict)


class WorkflowRoutes:
    """Executions."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes, the busy ones first."""
        return [
            Route("/workflow", self.start, methods=["POST"]),
            Route("/workflow/decide/{workflow_id}", self.decide, methods=["PUT"]),
            Route("/workflow/running/{name}", self.running, methods=["GET"]),
            Route("/workflow/execute/{name}/{version}", self.execute, methods=["POST"]),
            Route("/workflow/{workflow_id}", self.workflow, methods=["GET"]),
            Route("/workflow/{name}", self.start_by_name, methods=["POST"]),
            Route("/workflow/{workflow_id}", self.terminate, methods=["DELETE"]),
            Route("/workflow/{workflow_id}/status", self.status, methods=["GET"]),
            Route("/workflow/{workflow_id}/tasks", self.tasks, methods=["GET"]),
            Route("/workflow/{workflow_id}/pause", self.pause, methods=["PUT"]),
            Route("/workflow/{workflow_id}/resume", self.resume, methods=["PUT"]),
            Route("/workflow/{workflow_id}/retry", self.retry, methods=["POST"]),
            Route("/workflow/{workflow_id}/restart", self.restart, methods=["POST"]),
            Route("/workflow/{workflow_id}/rerun", self.rerun, methods=["POST"]),
            Route("/workflow/{workflow_id}/skiptask/{reference}", self.skip, methods=["PUT"]),
            Route("/workflow/{workflow_id}/remove", self.remove, methods=["DELETE"]),
            Route("/workflow/{workflow_id}/terminate-remove", self.terminate_remove, methods=["DELETE"]),
            Route("/workflow/{name}/correlated/{correlation_id}", self.correlated, methods=["GET"]),
        ]

    # -- starting --------------------------------------------------------------------------------------------------

    async def start(self, request: Request) -> Response:
        """Start an execution; answer its id."""
        run = self._start(_start_request(await read_map(request)))
        await self._service.committed()
        return text_answer(run.id)

    async def start_by_name(self, request: Request) -> Response:
        """Start an execution with the body as its input."""
        asked = StartRequest(
            name=request.path_params["name"],
            version=optional_integer(request, "version"),
            input=await read_map(request),
            correlation_id=request.query_params.get("correlationId"),
            priority=integer(request, "priority", 0),
        )
        _check_priority(asked.priority, "startWorkflow.arg3", "0 is the minimum priority value")
        run = self._start(asked, missing="No such workflow found by name: {name}, version: {version}")
        await self._service.committed()
        return text_answer(run.id)

    async def execute(self, request: Request) -> Response:
        """Start an execution and wait until it ends, stands at an open WAIT, or has ended the tasks asked for."""
        asked = _start_request(await read_map(request) | {"name": request.path_params["name"]})
        asked.version = as_integer(request.path_params["version"], "version") or None
        awaited = [ref for ref in request.query_params.get("waitUntilTaskRef", "").split(",") if ref]
        run = self._start(asked)
        await self._service.committed()
        seconds = integer(request, "waitForSeconds", 10)
        in_time = await self._service.watch(run, seconds, lambda seen: _is_at_rest(seen, awaited))
        await self._service.committed()
        return json_answer(self._execution_answer(request, run, in_time=in_time))

    def _start(
        self, asked: StartRequest, *, missing: str = "No such workflow defined. name={name}, version={version}"
    ) -> Run:
        if isinstance(asked.workflow_def, WorkflowDefinition):
            check_workflow_definition(asked.workflow_def, "startWorkflow.arg0.workflowDef")
            blueprint = self._service.freeze(asked.workflow_def)
        else:
            found = self._service.blueprint(asked.name, asked.version)
            if found is None:
                version = "null" if asked.version is None else asked.version
                raise Problem(404, missing.format(name=asked.name, version=version))
            blueprint = found
        return self._service.start(
            blueprint,
            asked.input,
            correlation_id=asked.correlation_id,
            priority=asked.priority,
            task_to_domain=asked.task_to_domain,
        )

    def _execution_answer(self, request: Request, run: Run, *, in_time: bool) -> dict[str, Any]:
        strategy = request.query_params.get("returnStrategy", "TARGET_WORKFLOW")
        workflow = run.workflow
        answer: dict[str, Any] = {
            "responseType": strategy,
            "targetWorkflowId": run.id,
            "targetWorkflowStatus": workflow.status,
            "requestId": request.query_params.get("requestId") or self._service.new_id(),
            "workflowId": run.id,
            "correlationId": workflow.correlation_id,
            "signalTimeout": not in_time,
            "priority": workflow.priority,
            "variables": workflow.variables,
        }
        if strategy in {"BLOCKING_TASK", "BLOCKING_TASK_INPUT"}:
            blocking = next(iter(run.open_attempts()), run.attempts[-1] if run.attempts else None)
            if blocking is None or not in_time:
                raise Problem(500, "value")  # the real server's whole text when no task blocks
            shown = plain(show_task(run, blocking))
            answer |= shown | {"input": blocking.input_data, "output": blocking.output_data}
        else:
            answer |= {
                "input": workflow.input,
                "output": workflow.output,
                "status": workflow.status,
                "tasks": [show_task(run, attempt) for attempt in run.attempts],
                "createTime": workflow.create_time,
                "updateTime": workflow.update_time,
            }
        return {key: value for key, value in answer.items() if value is not UNSET}

    # -- reading ---------------------------------------------------------------------------------------------------

    async def workflow(self, request: Request) -> Response:
        """Answer an execution."""
        run = self._run(request)
        return json_answer(show_run(run, with_tasks=flag(request, "includeTasks", default=True)))

    async def status(self, request: Request) -> Response:
        """Answer the status of an execution, with output and variables on request."""
        workflow = self._run(request).workflow
        answer: dict[str, Any] = {"workflowId": workflow.workflow_id, "status": workflow.status}
        if workflow.correlation_id is not UNSET:
            answer["correlationId"] = workflow.correlation_id
        if flag(request, "includeOutput"):
            answer["output"] = workflow.output
        if flag(request, "includeVariables"):
            answer["variables"] = workflow.variables
        return json_answer(answer)

    async def tasks(self, request: Request) -> Response:
        """Answer a page of an execution's tasks."""
        run = self._run(request)
        start, count = max(0, integer(request, "start", 0)), max(0, integer(request, "count", 15))
        statuses = {status for text in request.query_params.getlist("status") for status in text.split(",") if status}
        found = [attempt for attempt in run.attempts if not statuses or attempt.status in statuses]
        page = [show_task(run, attempt) for attempt in found[start : start + count]]
        return json_answer({"totalHits": len(found), "results": page})

    async def running(self, request: Request) -> Response:
        """Answer the ids of the running executions of a definition."""
        found = self._service.repository.find_ids(
            request.path_params["name"], version=integer(request, "version", 1), only_open=True
        )
        return json_answer(found)

    async def correlated(self, request: Request) -> Response:
        """Answer the executions of a definition with a correlation id."""
        ids = self._service.repository.find_ids(
            request.path_params["name"],
            correlation_id=request.path_params["correlation_id"],
            only_open=not flag(request, "includeClosed"),
        )
        with_tasks = flag(request, "includeTasks")
        return json_answer([show_run(self._service.run(found), with_tasks=with_tasks) for found in ids])

    def _run(self, request: Request) -> Run:
        return self._service.run(request.path_params["workflow_id"])

    # -- control ---------------------------------------------------------------------------------------------------

    async def _control(self, request: Request, action: Callable[[Turn], None], status: int = 200) -> Response:
        self._service.control(self._run(request), action)
        await self._service.committed()
        return empty_answer(status)

    async def decide(self, request: Request) -> Response:
        """Evaluate an execution now."""
        return await self._control(request, Turn.evaluate)

    async def terminate(self, request: Request) -> Response:
        """End an execution as TERMINATED."""
        reason = request.query_params.get("reason")
        return await self._control(request, lambda turn: control.terminate(turn, reason))

    async def pause(self, request: Request) -> Response:
        """Stop scheduling tasks of an execution."""
        return await self._control(request, control.pause)

    async def resume(self, request: Request) -> Response:
        """Go on with a paused execution."""
        return await self._control(request, control.resume)

    async def retry(self, request: Request) -> Response:
        """Run an unsuccessful execution on from where it failed."""
        return await self._control(request, control.retry, 204)

    async def restart(self, request: Request) -> Response:
        """Start an ended execution over."""
        self._service.restart(self._run(request), use_latest=flag(request, "useLatestDefinitions"))
        await self._service.committed()
        return empty_answer(204)

    async def rerun(self, request: Request) -> Response:
        """Run an ended execution again from a task, or from the start."""
        asked = read_document(await read_map(request), control.RerunRequest)
        run = self._run(request)
        self._service.control(run, lambda turn: control.rerun(turn, asked))
        await self._service.committed()
        return text_answer(run.id)

    async def skip(self, request: Request) -> Response:
        """Mark a task that has not started as SKIPPED; the body may give it an input and an output."""
        body = await read_json(request, required=False)
        asked = read_document(body or {}, SkipRequest)
        return await self._control(
            request,
            lambda turn: control.skip(turn, request.path_params["reference"], asked.task_input, asked.task_output),
        )

    async def remove(self, request: Request) -> Response:
        """Delete an execution, an ended one only unless ``archiveWorkflow`` is false."""
        self._service.remove(self._run(request), only_ended=flag(request, "archiveWorkflow", default=True))
        await self._service.committed()
        return empty_answer()

    async def terminate_remove(self, request: Request) -> Response:
        """End an execution if it is still running, and delete it."""
        self._service.remove(self._run(request))
        await self._service.committed()
        return empty_answer()


def _start_request(body: dict[str, Any]) -> StartRequest:
    asked = read_document(body, StartRequest)
    if not asked.name:
        raise InvalidError([("startWorkflow.arg0.name", "Workflow name cannot be null or empty", None)])
    _check_priority(asked.priority, "startWorkflow.arg0.priority", "priority: {value} should be minimum 0")
    if "input" in body and body["input"] is None:
        raise Problem(400, "NULL input passed when starting workflow")
    return asked


def _check_priority(value: int, path: str, too_low: str) -> None:
    if value < 0:
        raise InvalidError([(path, too_low.format(value=value), str(value))])
    if value > 99:
        raise InvalidError([(path, f"priority: {value} should be maximum 99", str(value))])


def _is_at_rest(run: Run, awaited: list[str]) -> bool:
    if run.has_ended():
        return True
    if any(attempt.task_type == "WAIT" and not attempt.due for attempt in run.open_attempts()):
        return True
    found = [run.latest.get(reference) for reference in awaited]
    return any(attempt is not None and attempt.ended for attempt in found)
