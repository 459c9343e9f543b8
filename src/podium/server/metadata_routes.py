"""Routes under /metadata: task and workflow definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.routing import Route

from podium.server.definitions import TaskDefinition, WorkflowDefinition, read_document
from podium.server.problems import InvalidError, Problem
from podium.server.validation import check_task_definitions, check_workflow_definition
from podium.server.web import (
    as_integer,
    empty_answer,
    flag,
    json_answer,
    optional_integer,
    read_as,
    read_list,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from podium.server.service import Service


class MetadataRoutes:
    """Definitions: register, read, delete."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._repository = service.repository

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/metadata/taskdefs", self.register_tasks, methods=["POST"]),
            Route("/metadata/taskdefs", self.update_task, methods=["PUT"]),
            Route("/metadata/taskdefs", self.tasks, methods=["GET"]),
            Route("/metadata/taskdefs/{name}", self.task, methods=["GET"]),
            Route("/metadata/taskdefs/{name}", self.delete_task, methods=["DELETE"]),
            Route("/metadata/workflow", self.register_workflow, methods=["POST"]),
            Route("/metadata/workflow", self.update_workflows, methods=["PUT"]),
            Route("/metadata/workflow", self.workflows, methods=["GET"]),
            Route("/metadata/workflow/validate", self.validate, methods=["POST"]),
            Route("/metadata/workflow/names", self.names, methods=["GET"]),
            Route("/metadata/workflow/names-and-versions", self.names_and_versions, methods=["GET"]),
            Route("/metadata/workflow/latest-versions", self.latest_versions, methods=["GET"]),
            Route("/metadata/workflow/{name}", self.workflow, methods=["GET"]),
            Route("/metadata/workflow/{name}/versions", self.versions, methods=["GET"]),
            Route("/metadata/workflow/{name}/{version}", self.delete_workflow, methods=["DELETE"]),
        ]

    async def _stored(self) -> Response:
        self._service.forget_definitions()
        await self._service.committed()
        return empty_answer()

    # -- task definitions ------------------------------------------------------------------------------------------

    async def register_tasks(self, request: Request) -> Response:
        """Register task definitions over existing ones; all of them or none."""
        definitions = [read_document(item, TaskDefinition) for item in await read_list(request)]
        if not definitions:
            raise InvalidError([("registerTaskDef.arg0", "TaskDefList is empty", None)])
        where = [f"registerTaskDef.arg0[{index}]" for index in range(len(definitions))]
        check_task_definitions(definitions, where)
        for definition in definitions:
            definition.create_time, definition.update_time, definition.created_by = self._service.now(), 0, ""
            self._repository.save_task_definition(definition)
        return await self._stored()

    async def update_task(self, request: Request) -> Response:
        """Replace an existing task definition."""
        definition = await read_as(request, TaskDefinition)
        check_task_definitions([definition], ["updateTaskDef.arg0"])
        existing = self._repository.task_definition(definition.name)
        if existing is None:
            raise Problem(404, f"No such task by name {definition.name}")
        definition.create_time, definition.update_time = existing.create_time, self._service.now()
        definition.created_by, definition.updated_by = existing.created_by, ""
        self._repository.save_task_definition(definition)
        return await self._stored()

    async def tasks(self, _request: Request) -> Response:
        """Answer all task definitions."""
        return json_answer(self._repository.task_definitions())

    async def task(self, request: Request) -> Response:
        """Answer one task definition."""
        name = request.path_params["name"]
        definition = self._repository.task_definition(name)
        if definition is None:
            raise Problem(404, f"No such taskType found by name: {name}")
        return json_answer(definition)

    async def delete_task(self, request: Request) -> Response:
        """Delete a task definition."""
        if not self._repository.delete_task_definition(request.path_params["name"]):
            raise Problem(500, "No such task definition")
        return await self._stored()

    # -- workflow definitions --------------------------------------------------------------------------------------

    async def register_workflow(self, request: Request) -> Response:
        """Register a workflow definition that does not exist yet, or any with ``overwrite``."""
        definition = await read_as(request, WorkflowDefinition)
        check_workflow_definition(definition, "registerWorkflowDef.arg0")
        exists = self._repository.workflow_definition(definition.name, definition.version) is not None
        if exists and not flag(request, "overwrite"):
            raise Problem(409, f"Workflow with {definition.name}.{definition.version} already exists!")
        definition.create_time = self._service.now()
        self._repository.save_workflow_definition(definition)
        return await self._stored()

    async def update_workflows(self, request: Request) -> Response:
        """Register workflow definitions over existing ones; all of them or none."""
        definitions = [read_document(item, WorkflowDefinition) for item in await read_list(request)]
        if not definitions:
            raise InvalidError([("updateWorkflowDef.arg0", "WorkflowDefList is empty", None)])
        for index, definition in enumerate(definitions):
            check_workflow_definition(definition, f"updateWorkflowDef.arg0[{index}]")
        for definition in definitions:
            existing = self._repository.workflow_definition(definition.name, definition.version)
            definition.create_time = existing.create_time if existing else self._service.now()
            definition.update_time = self._service.now() if existing else 0
            self._repository.save_workflow_definition(definition)
        await self._stored()
        return json_answer({"bulkErrorResults": {}, "bulkSuccessfulResults": [item.name for item in definitions]})

    async def validate(self, request: Request) -> Response:
        """Check a workflow definition without storing it."""
        check_workflow_definition(await read_as(request, WorkflowDefinition), "validateWorkflowDef.arg0")
        return empty_answer()

    async def workflows(self, _request: Request) -> Response:
        """Answer all workflow definitions."""
        return json_answer(self._repository.workflow_definitions())

    async def names(self, _request: Request) -> Response:
        """Answer the names of all workflow definitions."""
        return json_answer(sorted({definition.name for definition in self._repository.workflow_definitions()}))

    async def names_and_versions(self, _request: Request) -> Response:
        """Answer the versions of all workflow definitions, by name."""
        found: dict[str, list[dict[str, Any]]] = {}
        for definition in self._repository.workflow_definitions():
            found.setdefault(definition.name, []).append(_headline(definition) | {"updateTime": definition.update_time})
        return json_answer(found)

    async def latest_versions(self, _request: Request) -> Response:
        """Answer the latest version of every workflow definition."""
        latest = {definition.name: definition for definition in self._repository.workflow_definitions()}
        return json_answer(list(latest.values()))

    async def versions(self, request: Request) -> Response:
        """Answer the versions of one workflow definition."""
        found = self._repository.workflow_definitions(request.path_params["name"])
        return json_answer([_headline(definition) for definition in found])

    async def workflow(self, request: Request) -> Response:
        """Answer a workflow definition, the latest version without ``version``."""
        name, version = request.path_params["name"], optional_integer(request, "version")
        definition = self._repository.workflow_definition(name, version)
        if definition is None:
            shown = "null" if version is None else version
            raise Problem(404, f"No such workflow found by name: {name}, version: {shown}")
        return json_answer(definition)

    async def delete_workflow(self, request: Request) -> Response:
        """Delete one version of a workflow definition."""
        name, version = request.path_params["name"], as_integer(request.path_params["version"], "version")
        if not self._repository.delete_workflow_definition(name, version):
            raise Problem(500, f"No such workflow definition: {name} version: {version}")
        return await self._stored()


def _headline(definition: WorkflowDefinition) -> dict[str, Any]:
    return {"name": definition.name, "version": definition.version, "createTime": definition.create_time}
