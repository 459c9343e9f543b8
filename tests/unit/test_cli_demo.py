"""The demo's parts: counting, watching, showing."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from fake_server import Answer, FakeServer, Request, error_answer, json_answer, text_answer
from podium import AsyncClient, Configuration, TaskExecutionCompleted, TaskExecutionFailure
from podium.demo import drive as drive_module
from podium.demo.drive import Drive, terminate
from podium.demo.orders import KINDS, order_input, task_definitions, workflow_definition
from podium.demo.report import Report
from podium.demo.screen import Screen
from podium.demo.tally import Counts, EventTally, Numbers, differences, percentile, recorded_numbers
from podium.models import Task, Workflow

SHIP = "podium_demo_ship"


def completed(workflow_id: str, task_id: str, duration_ms: float = 1.0) -> TaskExecutionCompleted:
    return TaskExecutionCompleted(
        task_type=SHIP,
        task_id=task_id,
        worker_id="w",
        workflow_instance_id=workflow_id,
        duration_ms=duration_ms,
        output_size_bytes=2,
    )


def failed(workflow_id: str, task_id: str) -> TaskExecutionFailure:
    return TaskExecutionFailure(
        task_type=SHIP,
        task_id=task_id,
        worker_id="w",
        workflow_instance_id=workflow_id,
        cause=ValueError(),
        duration_ms=1.0,
    )


# --- definitions ---------------------------------------------------------------------------------------------------


def test_every_task_of_the_workflow_is_defined_and_every_name_has_the_prefix() -> None:
    workflow = workflow_definition()
    nodes = [*workflow.tasks, *(task for node in workflow.tasks for branch in node.fork_tasks for task in branch)]
    used = {node.name for node in nodes if node.type == "SIMPLE"}
    assert used == set(KINDS) == {definition.name for definition in task_definitions()}
    assert all(name.startswith("podium_demo_") for name in (*used, workflow.name))


def test_an_order_has_items() -> None:
    order = order_input(7)["order"]
    assert order["number"] == 7
    assert len(order["items"]) == 2


# --- counting ------------------------------------------------------------------------------------------------------


def test_listener_counts_calls_failures_and_retries() -> None:
    tally = EventTally()
    tally.on_task_execution_completed(completed("wf-1", "a"))
    tally.on_task_execution_completed(completed("wf-1", "a"))  # a long-running task, called twice
    tally.on_task_execution_failure(failed("wf-2", "b"))
    tally.on_task_execution_completed(completed("wf-2", "c"))
    tally.on_task_execution_completed(completed("of an earlier run", "d"))
    assert tally.heard == 5
    numbers = tally.numbers({"wf-1", "wf-2"})
    assert numbers.counts[SHIP] == Counts(calls=4, failures=1, retries=1)
    assert len(numbers.times[SHIP]) == 4


def test_records_count_the_same_and_leave_the_retry_delay_out_of_the_queue_time() -> None:
    first = Task(task_type=SHIP, status="FAILED", poll_count=1, scheduled_time=1000, start_time=1030)
    second = Task(
        task_type=SHIP,
        status="COMPLETED",
        poll_count=2,
        retry_count=1,
        scheduled_time=1100,
        start_time=2150,
        start_delay_in_seconds=1,
    )
    system = Task(task_type="JOIN", status="COMPLETED", poll_count=9)
    numbers = recorded_numbers([Workflow(tasks=[first, second, system])], KINDS)
    assert dict(numbers.counts) == {SHIP: Counts(calls=3, failures=1, retries=1)}
    assert numbers.times[SHIP] == [30, 50]


def test_a_task_that_never_started_has_no_queue_time() -> None:
    numbers = recorded_numbers([Workflow(tasks=[Task(task_type=SHIP, scheduled_time=1000)])], KINDS)
    assert numbers.counts[SHIP] == Counts()
    assert numbers.times[SHIP] == []


def test_differences_name_the_task() -> None:
    heard, recorded = Numbers(), Numbers()
    heard.counts[SHIP] = Counts(calls=1)
    assert differences(heard, heard) == []
    assert differences(heard, recorded) == [
        f"{SHIP}: heard 1 calls, 0 failures, 0 retries, recorded 0 calls, 0 failures, 0 retries"
    ]


@pytest.mark.parametrize(("percent", "expected"), [(0, 1.0), (50, 2.0), (75, 3.0), (95, 4.0), (100, 4.0)])
def test_percentile(percent: float, expected: float) -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], percent) == expected


# --- watching ------------------------------------------------------------------------------------------------------


def states(*statuses: str) -> list[Answer]:
    return [json_answer({"workflowId": "wf", "status": status}) for status in statuses]


def drive_on(server: FakeServer, orders: int, patience: float = 30.0) -> Drive:
    async def run() -> Drive:
        async with AsyncClient(Configuration(server_api_url=server.url)) as client:
            drive = Drive(client, orders, "test")
            await drive.run(patience, lambda: 0, lambda _: None)
            return drive

    return asyncio.run(run())


def test_workflows_are_watched_to_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drive_module, "_PAUSE", 0)
    with FakeServer() as server:
        server.on("POST", "/api/workflow", *(text_answer(f"wf-{number}") for number in (1, 2)))
        unavailable = error_answer(503, "later")
        server.on("GET", "/api/workflow/wf-1/status", *states("RUNNING"), unavailable, *states("COMPLETED"))
        server.on("GET", "/api/workflow/wf-2/status", *states("RUNNING", "FAILED"))
        drive = drive_on(server, 2)
        assert {request.json["input"]["order"]["number"] for request in server.to("/api/workflow")} == {1, 2}
    assert drive.ended == {"wf-1": "COMPLETED", "wf-2": "FAILED"}
    assert drive.completed == 1
    assert drive.open_ids == []


def test_a_workflow_that_does_not_start_is_remembered_with_its_reason() -> None:
    with FakeServer() as server:
        server.on("POST", "/api/workflow", error_answer(404, "No such workflow defined"))
        drive = drive_on(server, 3)
    assert sorted(drive.not_started) == [1, 2, 3]
    assert "No such workflow defined" in drive.not_started[1]


def test_patience_ends_when_nothing_happens() -> None:
    with FakeServer() as server:
        server.on("POST", "/api/workflow", text_answer("wf-1"))
        server.on("GET", "/api/workflow/wf-1/status", *states("RUNNING"))
        drive = drive_on(server, 1, patience=0.0)
    assert drive.open_ids == ["wf-1"]
    assert drive.ended == {}


def test_terminate_goes_on_after_a_refusal() -> None:
    def answer(request: Request) -> Answer:
        return error_answer(409, "it has ended") if request.path.endswith("wf-1") else text_answer("")

    with FakeServer() as server:
        server.otherwise(answer)

        async def run() -> None:
            async with AsyncClient(Configuration(server_api_url=server.url)) as client:
                await terminate(client, ["wf-1", "wf-2"])

        asyncio.run(run())
        assert {request.path for request in server.requests} == {"/api/workflow/wf-1", "/api/workflow/wf-2"}


# --- showing -------------------------------------------------------------------------------------------------------


def report(problems: list[str], unlike: list[str]) -> Report:
    drive = Drive(None, 20, "test")  # type: ignore[arg-type] # nothing is asked of the client
    drive.ended = {f"wf-{number}": "COMPLETED" for number in range(20 - len(problems))}
    drive.elapsed = 2.0
    heard, recorded = Numbers(), Numbers()
    heard.counts[SHIP] = Counts(calls=40, failures=2, retries=1)
    heard.times[SHIP] = [1.25, 250.0]
    recorded.times[SHIP] = [3.0]
    return Report(drive=drive, heard=heard, recorded=recorded, differences=unlike, problems=problems)


def shown(capsys: pytest.CaptureFixture[str], **arguments: Any) -> str:
    Screen().report(report(**arguments))
    output = capsys.readouterr().out
    assert "\x1b" not in output
    return output


def test_report_of_a_good_run(capsys: pytest.CaptureFixture[str]) -> None:
    output = shown(capsys, problems=[], unlike=[])
    assert "workflows: 20 of 20 completed, 0 not, in 2.0 s: 10.0 workflows/s, 20 tasks/s" in output
    assert re.search(r"ship +def +40 +2 +1 +1 / 250 +3\.0 / 3\.0", output)
    assert re.search(r"validate +def +0 +0 +0 +- +-", output)
    assert "agree" in output
    assert max(map(len, output.splitlines())) <= 100


def test_report_names_problems_but_not_hundreds(capsys: pytest.CaptureFixture[str]) -> None:
    output = shown(capsys, problems=[f"wf-{number} is FAILED: why" for number in range(13)], unlike=["ship: differs"])
    assert "7 of 20 completed, 13 not" in output
    assert "wf-9 is FAILED: why" in output
    assert "wf-10" not in output
    assert "and 3 more" in output
    assert "do not agree" in output
    assert "ship: differs" in output


def test_plain_progress_is_four_lines(capsys: pytest.CaptureFixture[str]) -> None:
    drive = Drive(None, 20, "test")  # type: ignore[arg-type] # nothing is asked of the client
    with Screen().progress(20) as progress:
        for number in range(20):
            drive.ended[f"wf-{number}"] = "COMPLETED"
            progress(drive)
    output = capsys.readouterr().out
    assert [int(line.split()[0]) for line in output.splitlines()] == [5, 10, 15, 20]


def test_force_color_does_not_bring_control_codes_into_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert shown(capsys, problems=["wf is FAILED: why"], unlike=[])
