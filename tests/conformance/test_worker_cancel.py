"""Tasks that are cancelled, removed or timed out while their function runs, on both servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import cancel_samples
from conformance.stage import Server
from podium import TaskCancelled, TaskGivenBack, TaskUpdateCompleted
from rig import Rig, until


@pytest.fixture
def rig(server: Server) -> Rig:
    return Rig(server.url)


class Listener:
    """Hears what became of tasks."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.on_task_cancelled = self.on_task_given_back = self.on_task_update_completed = self.events.append

    def only(self, status: str) -> TaskCancelled:
        """Wait for the news of a dropped result; nothing else must have happened."""
        event = until(lambda: self.events, "the dropped result", deadline=10)[0]
        assert len(self.events) == 1
        assert isinstance(event, TaskCancelled)
        assert event.status == status
        return event


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize("function", [cancel_samples.looks_whether_cancelled, cancel_samples.awaits_cancelled])
def test_D06_function_of_a_terminated_workflow_is_told_and_nothing_is_sent(
    rig: Rig, function: Any, isolation: Any, tmp_path: Path
) -> None:
    mark, listener = tmp_path / "mark", Listener()
    rig.define(function, response_timeout_seconds=2)
    with rig.running(
        rig.worker(function, lease_extend_enabled=True), event_listeners=[listener], isolation=isolation
    ) as handler:
        workflow_id = rig.start(function, mark=str(mark))
        until(mark.exists, "the function")
        rig.client.terminate_workflow(workflow_id)
        # An interval is 0.8 s; a real server that has only just started may take seconds for an answer.
        until(lambda: mark.read_text().startswith("told"), "the news", deadline=8)
        listener.only("CANCELED")
        until(lambda: handler.get_worker_status()[0]["running"] == 0, "the free slot", deadline=2)
    (task,) = rig.client.get_workflow(workflow_id).tasks
    assert (task.status, task.output_data) == ("CANCELED", {})


def test_D06_function_of_a_removed_workflow_is_told(rig: Rig, tmp_path: Path) -> None:
    mark, listener = tmp_path / "mark", Listener()
    function = cancel_samples.waits_whether_cancelled
    rig.define(function, response_timeout_seconds=2)
    with rig.running(rig.worker(function), event_listeners=[listener]):
        workflow_id = rig.start(function, mark=str(mark))
        until(mark.exists, "the function")
        rig.client.remove_workflow(workflow_id, archive=False)  # one that runs cannot be archived
        listener.only("REMOVED")
    assert mark.read_text() == "told: True"


def test_D06_function_of_a_task_that_timed_out_is_told(rig: Rig, tmp_path: Path) -> None:
    mark, listener = tmp_path / "mark", Listener()
    function = cancel_samples.waits_whether_cancelled
    rig.define(function, response_timeout_seconds=2)
    with rig.running(rig.worker(function), event_listeners=[listener]):  # no heartbeats
        workflow_id = rig.start(function, mark=str(mark))
        until(mark.exists, "the function")

        def timed_out() -> bool:
            rig.client.decide_workflow(workflow_id)  # the server's own timers may be late
            return rig.task(workflow_id).status == "TIMED_OUT"

        until(timed_out, "the end of the response timeout", deadline=10)
        listener.only("TIMED_OUT")
    assert mark.read_text() == "told: True"


def test_on_cancel_kill_gives_neighbours_back(rig: Rig, tmp_path: Path) -> None:
    marks, go, listener = [tmp_path / "one", tmp_path / "two"], tmp_path / "go", Listener()
    function = cancel_samples.hangs
    rig.define(function, response_timeout_seconds=2)
    worker = rig.worker(function, on_cancel="kill", lease_extend_enabled=True)
    with rig.running(worker, event_listeners=[listener]):
        first, second = (rig.start(function, mark=str(mark), go=str(go)) for mark in marks)
        until(lambda: all(mark.exists() for mark in marks), "both functions")
        rig.client.terminate_workflow(first)
        until(lambda: len(listener.events) >= 2, "the end of both", deadline=10)
        go.touch()
        task = rig.last_task(second)
    assert (task.status, task.retry_count, task.output_data) == ("COMPLETED", 0, {"went": True})
    assert rig.client.get_workflow(first).tasks[0].status == "CANCELED"
    assert {type(event) for event in listener.events} == {TaskCancelled, TaskGivenBack, TaskUpdateCompleted}


def test_D07_time_limit_of_the_task_definition_ends_the_function(rig: Rig, tmp_path: Path) -> None:
    function = cancel_samples.hangs_once
    rig.define(function, retry_count=1, timeout_seconds=2, response_timeout_seconds=2, timeout_policy="RETRY")
    with rig.running(rig.worker(function, thread_count=1, lease_extend_enabled=True)):
        (go := tmp_path / "go").touch()
        workflow = rig.finish(rig.start(function, mark=str(tmp_path / "mark"), go=str(go)))
    first, second = workflow.tasks
    # The server has the same limit: it may act on it within the second that the function is given to end by itself.
    assert first.status in {"FAILED", "TIMED_OUT"}
    if first.status == "FAILED":
        assert first.reason_for_incompletion is not None
        assert first.reason_for_incompletion.startswith(
            "took longer than 2 s (timeoutSeconds of the task definition); it was in hangs ("
        )
        assert first.end_time - first.start_time < 4_000
    assert (second.status, second.retry_count) == ("COMPLETED", 1)


def test_D07_limit_of_the_worker_fails_the_task_with_its_stack_in_the_log(rig: Rig, tmp_path: Path) -> None:
    function = cancel_samples.hangs
    rig.define(function)
    with rig.running(rig.worker(function, timeout_seconds=1)):
        task = rig.last_task(rig.start(function, mark=str(tmp_path / "mark")))
    assert task.status == "FAILED"
    assert task.end_time - task.start_time < 1_000 + 2_000
    reason, stack = (line.log for line in until(lambda: rig.client.get_task_logs(task.task_id), "the log"))
    assert reason == task.reason_for_incompletion
    assert "it was in hangs (" in reason
    title, *frames = stack.splitlines()
    assert title.endswith("(most recent call first):")
    assert len(frames) == 1
    assert frames[0].endswith(" in hangs")
