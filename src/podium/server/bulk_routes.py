"""Routes under /workflow/bulk: the same action on many executions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from podium.server import control
from podium.server.problems import InvalidError, Problem, parse_problem
from podium.server.shown import show_run
from podium.server.web import flag, json_answer, read_list

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podium.server.service import Service
    from podium.server.state import Run

#: Ids that one call may name.
BULK_LIMIT = 1000


class BulkRoutes:
    """Each call answers which ids it served and why it did not serve the others."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/workflow/bulk/pause", self.pause, methods=["PUT"]),
            Route("/workflow/bulk/resume", self.resume, methods=["PUT"]),
            Route("/workflow/bulk/retry", self.retry, methods=["POST"]),
            Route("/workflow/bulk/restart", self.restart, methods=["POST"]),
            Route("/workflow/bulk/terminate", self.terminate, methods=["POST"]),
            Route("/workflow/bulk/search", self.search, methods=["POST"]),
            Route("/workflow/bulk/remove", self.remove, methods=["DELETE"]),
            Route("/workflow/bulk/terminate-remove", self.terminate_remove, methods=["DELETE"]),
        ]

    async def pause(self, request: Request) -> Response:
        """Pause executions."""
        return await self._each(request, "pauseWorkflow", lambda run: self._service.control(run, control.pause))

    async def resume(self, request: Request) -> Response:
        """Resume paused executions."""
        return await self._each(request, "resumeWorkflow", lambda run: self._service.control(run, control.resume))

    async def retry(self, request: Request) -> Response:
        """Retry unsuccessful executions."""
        return await self._each(request, "retry", lambda run: self._service.control(run, control.retry))

    async def restart(self, request: Request) -> Response:
        """Start ended executions over."""
        latest = flag(request, "useLatestDefinitions")
        return await self._each(request, "restart", lambda run: self._service.restart(run, use_latest=latest))

    async def terminate(self, request: Request) -> Response:
        """End executions as TERMINATED."""
        reason = request.query_params.get("reason")
        return await self._each(
            request,
            "terminate",
            lambda run: self._service.control(run, lambda turn: control.terminate(turn, reason)),
        )

    async def remove(self, request: Request) -> Response:
        """Delete executions, ended ones only unless ``archiveWorkflow`` is false."""
        ended = flag(request, "archiveWorkflow", default=True)
        return await self._each(request, "deleteWorkflow", lambda run: self._service.remove(run, only_ended=ended))

    async def terminate_remove(self, request: Request) -> Response:
        """Delete executions, running ones too."""
        return await self._each(request, "terminateRemove", self._service.remove)

    async def search(self, request: Request) -> Response:
        """Answer executions by id."""
        with_tasks = flag(request, "includeTasks", default=True)
        return await self._each(request, "searchWorkflow", lambda run: show_run(run, with_tasks=with_tasks))

    async def _each(self, request: Request, name: str, action: Callable[[Run], Any]) -> Response:
        ids = await read_list(request)
        if not all(isinstance(item, str) for item in ids):
            raise parse_problem("Cannot deserialize a list of workflow ids")
        if not ids:
            raise InvalidError([(f"{name}.arg0", "WorkflowIds list cannot be null.", None)])
        if len(ids) > BULK_LIMIT:
            text = f"Cannot process more than {BULK_LIMIT} workflows. Please use multiple requests."
            raise InvalidError([(f"{name}.arg0", text, None)])
        served: list[Any] = []
        refused: dict[str, str] = {}
        for workflow_id in ids:
            try:
                outcome = action(self._service.run(workflow_id))
            except Problem as problem:
                refused[workflow_id] = problem.message
            else:
                served.append(workflow_id if outcome is None else outcome)
        await self._service.committed()
        return json_answer({"bulkErrorResults": refused, "bulkSuccessfulResults": served})
