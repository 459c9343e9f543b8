"""Routes that search executions and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.routing import Route

from podium.server.search import TASKS, WORKFLOWS, Search, SearchTable, task_summary, workflow_summary
from podium.server.shown import show_run, show_task
from podium.server.web import integer, json_answer

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podium.server.service import Service

#: Hits of one page at most.
PAGE_LIMIT = 5000


class SearchRoutes:
    """Searches: summaries, or the whole objects with ``-v2``."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/workflow/search", self.workflows, methods=["GET"]),
            Route("/workflow/search-v2", self.workflows_v2, methods=["GET"]),
            Route("/tasks/search", self.tasks, methods=["GET"]),
            Route("/tasks/search-v2", self.tasks_v2, methods=["GET"]),
        ]

    async def workflows(self, request: Request) -> Response:
        """Answer summaries of executions."""
        total, ids = self._find(request, WORKFLOWS)
        return json_answer(
            {"totalHits": total, "results": [workflow_summary(self._service.run(found)) for found in ids]}
        )

    async def workflows_v2(self, request: Request) -> Response:
        """Answer executions."""
        total, ids = self._find(request, WORKFLOWS)
        shown = [show_run(self._service.run(found)) for found in ids]
        return json_answer({"totalHits": total, "results": shown})

    async def tasks(self, request: Request) -> Response:
        """Answer summaries of tasks."""
        total, ids = self._find(request, TASKS)
        found = [pair for pair in map(self._service.task, ids) if pair is not None]
        return json_answer({"totalHits": total, "results": [task_summary(*pair) for pair in found]})

    async def tasks_v2(self, request: Request) -> Response:
        """Answer tasks."""
        total, ids = self._find(request, TASKS)
        found = [pair for pair in map(self._service.task, ids) if pair is not None]
        return json_answer({"totalHits": total, "results": [show_task(*pair) for pair in found]})

    def _find(self, request: Request, table: SearchTable) -> tuple[int, list[str]]:
        query = request.query_params
        search = Search(table, query.get("query", ""), query.get("freeText", "*"), query.get("sort", ""))
        start = max(0, integer(request, "start", 0))
        size = min(max(0, integer(request, "size", 100)), PAGE_LIMIT)
        return search.run(self._service.repository.store, start, size)
