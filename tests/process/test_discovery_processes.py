"""Workers that were found in a folder run in worker processes, which import them by their names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from podium import StartWorkflowRequest, TaskDef, TaskHandler, WorkerLoader, WorkflowDef, WorkflowTask
from podium.crew.launch import StartMethod
from rig import Rig, unique

WORKER = """
import os
from podium import worker_task

@worker_task({task!r}, poll_interval=20)
def where() -> dict:
    return {{"module": __name__, "pid": os.getpid()}}
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_workers_of_a_folder_run_in_child_processes(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: StartMethod
) -> None:
    folder, task = unique("folder"), unique("task")
    file = tmp_path / folder / "deep" / "orders.py"
    file.parent.mkdir(parents=True)
    file.write_text(WORKER.format(task=task))
    monkeypatch.setattr(sys, "path", sys.path[:])
    loader = WorkerLoader()
    loader.scan_path(tmp_path / folder)
    (worker,) = [worker for worker in loader.get_workers() if worker.task_definition_name == task]
    rig.client.register_task_defs([TaskDef(name=task, retry_count=0)])
    flow = WorkflowDef(name=task, tasks=[WorkflowTask(name=task, task_reference_name="t")])
    with TaskHandler(worker, rig.configuration, scan_for_annotated_workers=False, start_method=method) as handler:
        handler.start_processes()
        run = rig.finish(rig.client.start_workflow(StartWorkflowRequest(name=task, workflow_def=flow)))
        pids = handler.get_worker_status()[0]["pids"]
    assert run.status == "COMPLETED"
    output = run.tasks[0].output_data
    assert output["module"] == f"{folder}.deep.orders"
    assert [output["pid"]] == pids
