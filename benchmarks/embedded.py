"""The embedded server: how soon it is ready, and how many workflows of one task it runs in a second."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.figures import markdown, number
from benchmarks.machine import in_words
from podium import AsyncClient, Configuration, TaskHandler, WorkflowDef, worker_task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Record, Run

NAME: Final = "embedded"
_IN_MEMORY: Final = "in memory"
_ON_FILE: Final = "on a file, with durable commits"
#: Workflows that are running at the same time.
_AT_ONCE: Final = 100
_READY: Final = "ready at "


@worker_task("bench_step", thread_count=_AT_ONCE, isolation="thread")
async def step(number: int) -> dict[str, int]:
    """The one task of a workflow."""
    return {"number": number}


def _measured(database: str, workflows: int) -> Run:
    """Start a server, run workflows of one task on it, stop it."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "podium", "server", "--port=0", f"--db={database}", "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        with closing(server.stdin):
            url = server.stdout.readline().partition(_READY)[2].split()[0]
            ready = time.monotonic() - begun
            configuration = Configuration(server_api_url=url)
            with TaskHandler(configuration=configuration) as handler:
                handler.start_processes()
                return {"startup_s": ready, "workflows_per_s": asyncio.run(_rate(configuration, workflows))}


async def _rate(configuration: Configuration, workflows: int) -> float:
    async with AsyncClient(configuration) as client:
        definition = WorkflowDef(
            name="bench_one_task",
            tasks=[step(task_ref_name="step", number="${workflow.input.number}").to_workflow_task()],
        )
        await client.update_workflow_defs([definition])
        await _run(client, iter(range(_AT_ONCE)))  # everything is warm, and every connection open
        begun = time.monotonic()
        numbers = iter(range(workflows))
        await asyncio.gather(*(_run(client, numbers) for _ in range(_AT_ONCE)))
        return workflows / (time.monotonic() - begun)


async def _run(client: AsyncClient, numbers: Iterator[int]) -> None:
    for index in numbers:
        run = await client.execute_workflow("bench_one_task", {"number": index})
        if run.output != {"number": index}:
            raise RuntimeError(f"workflow {index} ended as {run.status} with {run.output}")


def runs(rounds: int, workflows: int) -> Iterator[Run]:
    """Run in memory and on a file, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            yield {"driver": _IN_MEMORY, **_measured(":memory:", workflows)}
            yield {"driver": _ON_FILE, **_measured(str(Path(folder) / f"{number}.db"), workflows)}


def one_line(run: Run) -> str:
    """Return a run in a line, for whoever watches."""
    return f"{run['driver']}: ready after {run['startup_s']:.2f} s, {run['workflows_per_s']:.0f} workflows/s"


def page(record: Record) -> str:
    """Return the table of medians."""
    rows = [["embedded server", "ready after, s", "one-task workflows/s"]]
    for driver in (_IN_MEMORY, _ON_FILE):
        of_driver = [run for run in record.runs if run["driver"] == driver]
        ready, rate = (median(run[key] for run in of_driver) for key in ("startup_s", "workflows_per_s"))
        rows.append([driver, number(ready, 2), number(rate, 0)])
    return f"{markdown(rows)}\n{in_words(record.machine)}\n"
