"""A crew of real children without a server: tests hand tasks in and look at what comes out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from podium.crew.launch import StartMethod, make_launcher
from podium.crew.link import ChildLink
from podium.crew.logs import ChildLogs
from podium.crew.place import RestartPolicy
from podium.crew.process import ProcessCrew
from podium.frames import Boot, Outcome, WorkerRef
from podium.polled import read_task
from podium.preparation import main_preparation
from podium.registry import is_async_callable

DEADLINE = 20.0


class CrewStage:
    """A crew, and how often it has told that slots have changed, or that it restarts a child."""

    def __init__(
        self,
        functions: list[Callable[..., Any]],
        *,
        method: StartMethod = "forkserver",
        processes: int = 1,
        thread_count: int = 4,
        **options: Any,
    ) -> None:
        preparation = main_preparation(with_main=False)
        refs = [
            WorkerRef(
                name=function.__name__, module=function.__module__, qualname=function.__qualname__,
                is_async=is_async_callable(function), thread_count=thread_count, strict_schema=False, worker_id="id",
            )
            for function in functions
        ]  # fmt: skip
        self._places = {function: place for place, function in enumerate(functions)}
        imports = sorted({ref.module for ref in refs})
        boot = Boot("stage", refs, imports, preparation, {}, 0.2)
        self.launcher = make_launcher(method, imports, preparation)
        self.logs = ChildLogs()
        self.changes = 0
        self.restarts = 0
        policy = options.pop("policy", RestartPolicy())
        self.crew = ProcessCrew(
            boot,
            functions,
            processes,
            self.launcher,
            policy,
            self._note_change,
            self._note_restart,
            self.logs,
            **options,
        )

    def _note_change(self) -> None:
        self.changes += 1

    def _note_restart(self, names: list[str]) -> None:
        self.restarts += 1

    def run(
        self, function: Callable[..., Any], task_id: str = "t", head: dict[str, Any] | None = None, **inputs: Any
    ) -> asyncio.Future[Outcome]:
        """Hand in a task of that function; ``head`` are further fields of the task."""
        fields = {"taskId": task_id, "workflowInstanceId": "w", "inputData": inputs} | (head or {})
        return self.crew.run(self._places[function], read_task(json.dumps(fields).encode()))

    @property
    def link(self) -> ChildLink:
        """The first child."""
        link = self.crew.members[0].link
        assert link is not None
        return link


@asynccontextmanager
async def crew_of(*functions: Callable[..., Any], **options: Any) -> AsyncIterator[CrewStage]:
    """Run a crew of these functions; the options are CrewStage's."""
    stage = CrewStage(list(functions), **options)
    await stage.launcher.open()
    try:
        await stage.crew.start()
        yield stage
    finally:
        await stage.crew.stop()
        await stage.launcher.close()
        stage.logs.close()


async def seen(look: Callable[[], Any], what: str) -> Any:
    """Look again and again until something true is seen, and return it."""
    async with asyncio.timeout(DEADLINE):
        while not (found := look()):
            await asyncio.sleep(0.01)
    assert found, what
    return found


def result_of(outcome: Outcome) -> dict[str, Any]:
    """Return the TaskResult of an outcome as JSON."""
    body: dict[str, Any] = json.loads(outcome.body)
    return body


async def appears(path: Path) -> str:
    """Wait for a file with content."""
    await seen(lambda: path.exists() and path.stat().st_size, str(path))
    return path.read_text()
