"""The embedded server as an ASGI application."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.routing import Route, Router

from podium.server.bulk_routes import BulkRoutes
from podium.server.metadata_routes import MetadataRoutes
from podium.server.search_routes import SearchRoutes
from podium.server.task_routes import TaskRoutes
from podium.server.web import Guard, json_answer, text_answer
from podium.server.workflow_routes import WorkflowRoutes

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from podium.server.service import Service
    from podium.server.store import Store

#: Version of the Conductor server whose API this one speaks.
API_VERSION = "3.32.3"

_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})


def create_app(service: Service, store: Store, *, only_local: bool) -> ASGIApp:
    """Return the application. ``only_local``: it answers only to the names of this machine's loopback interface."""

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncIterator[None]:
        service.reload()
        try:
            yield
        finally:
            service.close()
            store.close()

    api = [
        *SearchRoutes(service).routes(),
        *TaskRoutes(service).routes(),
        *BulkRoutes(service).routes(),
        *WorkflowRoutes(service).routes(),
        *MetadataRoutes(service).routes(),
        Route("/version", _version, methods=["GET"]),
        Route("/secrets", _nothing, methods=["GET"]),
        Route("/environment", _nothing, methods=["GET"]),
        Route("/event", _nothing, methods=["GET"]),
    ]
    # Not a Mount: its pattern loses paths with line breaks in a name.
    routes = [Route(f"/api{route.path}", route.endpoint, methods=list(route.methods or ())) for route in api]
    routes.append(Route("/health", _health, methods=["GET"]))
    router = Router(routes=routes, redirect_slashes=False, lifespan=lifespan)
    return Guard(router, _LOCAL_NAMES if only_local else None)


async def _version(_request: Request) -> Response:
    return text_answer(API_VERSION)


async def _health(_request: Request) -> Response:
    return json_answer({"healthResults": [], "suppressedHealthResults": [], "healthy": True})


async def _nothing(_request: Request) -> Response:
    return json_answer([])
