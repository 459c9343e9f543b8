"""``podium demo``: register, start workers, run workflows, count, report."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from podium.client import AsyncClient
from podium.config import Configuration, masked_url
from podium.demo.drive import Drive, read_records, terminate
from podium.demo.embedded import embedded_server
from podium.demo.orders import KINDS, task_definitions, workflow_definition
from podium.demo.report import Report
from podium.demo.screen import Screen
from podium.demo.tally import EventTally, differences, recorded_numbers
from podium.errors import NotFoundError, PodiumError, StartError
from podium.handler import TaskHandler

if TYPE_CHECKING:
    from podium.crew.launch import StartMethod
    from podium.models import Workflow
    from podium.options import Isolation

#: Seconds that tasks, and the last requests, may still take after Ctrl-C.
_GRACE: Final = 5.0
#: What a shell reports for a program that Ctrl-C ended.
_INTERRUPTED: Final = 130


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of ``podium demo``; ``patience`` is in seconds."""

    server: str | None = None
    workflows: int = 200
    isolation: Isolation = "process"
    processes: int = 1
    group: str | None = None
    start_method: StartMethod = "forkserver"
    patience: float = 60.0
    verbose: bool = False


def run_demo(settings: Settings) -> int:
    """Run the demo and return its exit code: 0 if every workflow completed, 1 if not, 130 if it was interrupted.

    Raises ConfigError for a wrong URL, StartError if the server or the workers cannot be used.
    """
    screen = Screen()
    screen.show_logs(verbose=settings.verbose)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with _server(settings, screen) as configuration:
            report = asyncio.run(_run(settings, configuration, screen))
    except KeyboardInterrupt:
        screen.say("stopped: no worker and no server of this demo is left running")
        return _INTERRUPTED
    screen.report(report)
    if report.problems:
        return 1
    screen.next_steps()
    return 0


@contextlib.contextmanager
def _server(settings: Settings, screen: Screen) -> Iterator[Configuration]:
    if settings.server is not None:
        configuration = Configuration(server_api_url=settings.server)
        screen.say(f"server: {masked_url(configuration.host)}")
        yield configuration
        return
    # A proxy of the environment is for the world outside, and could not find the way to this machine.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    with embedded_server() as url:
        screen.say(f"server: embedded, at {url}")
        yield Configuration(server_api_url=url)


async def _run(settings: Settings, configuration: Configuration, screen: Screen) -> Report:
    tally = EventTally()
    handler = TaskHandler(
        configuration=configuration,
        import_modules=["podium.demo.workers"],
        event_listeners=[tally],
        isolation=settings.isolation,
        group=settings.group,
        processes=settings.processes,
        start_method=settings.start_method,
        grace_seconds=_GRACE,
        handle_signals=False,  # Ctrl-C cancels this coroutine, which stops the handler
    )
    async with AsyncClient(configuration) as client:
        await _register(client, configuration)
        drive = Drive(client, settings.workflows, f"podium-demo-{uuid4().hex[:8]}")
        try:
            with handler:
                await _start_workers(handler, settings, screen)
                with screen.progress(settings.workflows) as progress:
                    await drive.run(settings.patience, lambda: tally.heard, progress)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_GRACE):
                    await terminate(client, drive.open_ids)
            raise
        workflows = await read_records(client, [*drive.ended, *drive.open_ids])
    heard = tally.numbers({*drive.ended, *drive.open_ids})
    recorded = recorded_numbers(workflows, KINDS)
    return Report(
        drive=drive,
        heard=heard,
        recorded=recorded,
        differences=differences(heard, recorded),
        problems=_problems(drive, workflows),
    )


async def _register(client: AsyncClient, configuration: Configuration) -> None:
    where = masked_url(configuration.host)
    try:
        await client.register_task_defs(task_definitions())
        await client.update_workflow_defs([workflow_definition()])
    except NotFoundError as error:
        raise StartError(f"{where} is not the API of a Conductor server (its URL ends in /api): {error}") from error
    except PodiumError as error:
        raise StartError(f"the server at {where} cannot be used: {error}") from error


async def _start_workers(handler: TaskHandler, settings: Settings, screen: Screen) -> None:
    begun = time.monotonic()
    try:
        handler.start_processes()
    except StartError:
        # Ctrl-C reaches processes that cannot handle it yet; then it is what ends this coroutine, here.
        await asyncio.sleep(0)
        raise
    seconds = time.monotonic() - begun
    status = handler.get_worker_status()
    processes = len({pid for worker in status for pid in worker["pids"]})
    where = "this process" if settings.isolation == "thread" else f"{processes} processes ({settings.start_method})"
    screen.say(f"workers: {len(status)} in {where}, started in {seconds:.1f} s")


def _problems(drive: Drive, workflows: list[Workflow]) -> list[str]:
    lines = [f"order {number} was not started: {error}" for number, error in sorted(drive.not_started.items())]
    for workflow in workflows:
        if workflow.status == "COMPLETED":
            continue
        unfinished = [
            f"{task.reference_task_name} {task.status}" for task in workflow.tasks if task.status != "COMPLETED"
        ]
        reason = workflow.reason_for_incompletion or f"given up; tasks: {', '.join(unfinished) or 'none'}"
        lines.append(f"{workflow.workflow_id} is {workflow.status}: {reason}")
    return lines
