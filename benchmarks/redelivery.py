"""Results that an earlier process has left on disk: how soon they are all delivered."""

from __future__ import annotations

import http.client
import json
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import msgspec

from benchmarks.figures import Record, Run, markdown, number
from benchmarks.processes import StubServer
from podium import Configuration, TaskHandler, Worker
from podium.spool import Spool
from podium.spoolfile import Record as Result

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME: Final = "redelivery"
_TYPE: Final = "left"
_PATIENCE: Final = 300.0


def _tasks(stub: StubServer, count: int) -> list[dict[str, Any]]:
    """Poll for the tasks, as the process did that left their results."""
    with closing(http.client.HTTPConnection(stub.address, timeout=60)) as connection:
        connection.request("GET", f"/api/tasks/poll/batch/{_TYPE}?count={count}")
        tasks: list[dict[str, Any]] = json.loads(connection.getresponse().read())
        return tasks


def _leave(folder: Path, server: str, tasks: list[dict[str, Any]]) -> None:
    """Write a result for each task, and be gone."""
    spool = Spool(folder, server)
    spool.open()
    for task in tasks:
        ids = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"]}
        update = msgspec.Raw(json.dumps(ids | {"status": "COMPLETED", "outputData": {"n": 1}}).encode())
        result = Result(
            task_id=ids["taskId"], workflow_id=ids["workflowInstanceId"], task_type=_TYPE, worker_id="bench",
            status="COMPLETED", response_timeout=600, server=server, host=spool.host, created=time.time(), attempts=1,
            problem="the server was down", body=update,
        )  # fmt: skip
        spool.save(result)
    spool.close()


def run(results: int) -> Run:
    """Let a handler deliver so many results; return the figures."""
    with StubServer([_TYPE], tasks=results) as stub, tempfile.TemporaryDirectory() as folder:
        stub.tell("start")
        _leave(Path(folder), stub.url("/api"), _tasks(stub, results))
        handler = TaskHandler(
            Worker(_TYPE, _never_called),
            Configuration(server_api_url=stub.url("/api"), spool_dir=folder),
            scan_for_annotated_workers=False,
        )
        begun = time.monotonic()
        with handler:
            handler.start_processes()
            if not stub.wait_for("finished", _PATIENCE):
                raise SystemExit(f"{stub.progress()} of {results} results were delivered in {_PATIENCE:.0f} s")
            seconds = time.monotonic() - begun
        counted = stub.figures()
        return {"driver": "podium", "scenario": NAME, "results": results, "seconds": seconds, **counted}


def _never_called() -> None: ...


def runs(rounds: int, results: int) -> Iterator[Run]:
    """Run several times."""
    for _ in range(rounds):
        yield run(results)


def one_line(run: Run) -> str:
    """Return a run in a line, for whoever watches."""
    return f"{run['results']:,} results delivered in {run['seconds']:.1f} s"


def page(record: Record) -> str:
    """Return the table of medians."""
    results = record.runs[0]["results"]
    seconds = median(run["seconds"] for run in record.runs)
    requests = median(run["requests"]["total"] - run["requests"].get("poll", 0) for run in record.runs) / results
    lost = max(run["lost"] + run["duplicates"] for run in record.runs)
    head = ["results left on disk", "all delivered after, s", "results/s", "requests per result", "lost or sent twice"]
    row = [f"{results:,}", number(seconds, 1), number(results / seconds, 0), number(requests, 2), number(lost, 0)]
    return markdown([head, row])
