"""What only child processes can do, as both servers see it; and the demo on both."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import pytest

import crash_samples
import samples
from conformance.stage import Server
from rig import Rig, until


@pytest.fixture
def rig(server: Server) -> Rig:
    return Rig(server.url)


def test_killed_child_fails_its_task_within_two_seconds_and_the_retry_completes(rig: Rig) -> None:
    rig.define(samples.dies_once, retry_count=1)
    with rig.running(rig.worker(samples.dies_once)):
        workflow_id = rig.start(samples.dies_once, by="SIGKILL")
        until(lambda: rig.task(workflow_id, 0).status == "FAILED", "the failure", deadline=5)
        first, second = rig.finish(workflow_id).tasks
    assert "worker process killed by SIGKILL" in str(first.reason_for_incompletion)
    assert first.end_time - first.start_time < 2000  # by the server's clock: handed out, killed, reported
    assert second.output_data == {"survived": True}


def test_lease_outlives_a_function_that_holds_the_gil(rig: Rig) -> None:
    rig.define(samples.holds_the_gil, response_timeout_seconds=5)
    with rig.running(rig.worker(samples.holds_the_gil, lease_extend_enabled=True)):
        workflow = rig.finish(rig.start(samples.holds_the_gil, seconds=10))
    assert [(task.status, task.retry_count) for task in workflow.tasks] == [("COMPLETED", 0)]


def test_task_given_back_is_taken_at_once_without_a_retry_and_with_its_output(rig: Rig, tmp_path: Any) -> None:
    go, mark = tmp_path / "go", tmp_path / "mark"
    rig.define(samples.waits_for_file)
    with rig.running(rig.worker(samples.waits_for_file), grace_seconds=0.0):
        workflow_id = rig.start(samples.waits_for_file, path=str(go), mark=str(mark))
        until(mark.exists, "the task running")
    assert rig.task(workflow_id).status == "SCHEDULED"
    go.touch()
    begun = time.monotonic()
    with rig.running(rig.worker(samples.waits_for_file)):
        task = rig.last_task(workflow_id)
    assert (task.status, task.retry_count) == ("COMPLETED", 0)
    assert task.poll_count >= 2
    assert time.monotonic() - begun < 10  # and not after its response timeout of a minute


@pytest.mark.timeout(120, func_only=True)
@pytest.mark.parametrize(
    "mode",
    ["--isolation=process", "--isolation=thread", "--processes=2", "--group=all", "--start-method=spawn"],
)
def test_order_program_has_the_same_outcome_however_it_runs(server: Server, mode: str) -> None:
    command = [sys.executable, "-m", "podium", "demo", "--server", server.url, "--workflows", "10", mode]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, env=os.environ | {"COLUMNS": "120"}
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "workflows: 10 of 10 completed, 0 not" in result.stdout
    assert "the event listener and the server's records agree" in result.stdout


def test_task_that_kills_its_process_runs_alone_and_ends_after_three_deaths(rig: Rig) -> None:
    rig.define(crash_samples.runs_or_crashes, retry_count=5)
    with rig.running(rig.worker(crash_samples.runs_or_crashes)) as handler:
        workflow = rig.finish(rig.start(crash_samples.runs_or_crashes, poison=True))
        assert handler.get_worker_status()[0]["restart_count"] == 1
        assert rig.run(crash_samples.runs_or_crashes).status == "COMPLETED"
    assert [task.status for task in workflow.tasks] == ["FAILED", "FAILED", "FAILED_WITH_TERMINAL_ERROR"]
    assert str(workflow.tasks[-1].reason_for_incompletion).endswith("so it is not retried (max_crashes=3)")
    assert workflow.status == "FAILED"
