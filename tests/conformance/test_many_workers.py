"""Fifty workers in one TaskHandler, in every isolation and with every start method, on both servers."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

import samples
from conformance.stage import Server
from podium import StartWorkflowRequest, TaskDef, TaskHandler, Worker, WorkflowDef, WorkflowTask
from rig import Rig, unique, until

WORKERS = 50
FUNCTIONS: list[Callable[..., Any]] = [samples.returns_dict, samples.sees_context_async]

MODES: list[dict[str, Any]] = [
    {"isolation": "thread"},
    {"start_method": "forkserver"},
    {"start_method": "spawn"},
    {"start_method": "fork"},
    {"group": "all"},
]


@pytest.fixture
def rig(server: Server) -> Rig:
    return Rig(server.url)


@pytest.mark.timeout(240, func_only=True)
@pytest.mark.parametrize("mode", MODES, ids=str)
def test_fifty_workers_each_run_their_tasks(rig: Rig, mode: dict[str, Any]) -> None:
    prefix = unique("many")
    names = [f"{prefix}_{number}" for number in range(WORKERS)]
    # The long poll keeps fifty idle workers from wearing out a small server.
    options: dict[str, Any] = {"thread_count": 2, "poll_interval": 500, "poll_timeout": 1000}
    workers = [Worker(name, FUNCTIONS[number % 2], **options) for number, name in enumerate(names)]
    rig.client.register_task_defs([TaskDef(name=name, retry_count=0, response_timeout_seconds=120) for name in names])
    before = threading.active_count()
    handlers = signal.getsignal(signal.SIGTERM)
    with TaskHandler(workers, rig.configuration, scan_for_annotated_workers=False, **mode) as handler:
        handler.start_processes()
        status = handler.get_worker_status()
        assert len(status) == WORKERS
        own = 1 if mode.get("isolation") == "thread" or "group" in mode else WORKERS
        assert len({pid for entry in status for pid in entry["pids"]}) == own
        flows: list[str] = []
        for name in names:
            step = WorkflowTask(name=name, task_reference_name="t", input_parameters={"a": len(flows)})
            flow = WorkflowDef(name=f"{name}_flow", tasks=[step])
            flows.append(rig.client.start_workflow(StartWorkflowRequest(name=flow.name, workflow_def=flow)))
        tasks = [rig.last_task(flow, deadline=120) for flow in flows]
        assert [task.status for task in tasks] == ["COMPLETED"] * WORKERS
        assert [task.input_data["a"] for task in tasks] == list(range(WORKERS))
        assert handler.is_healthy()
        assert all(entry["restart_count"] == 0 for entry in handler.get_worker_status())
    until(lambda: threading.active_count() <= before, "the end of all threads")
    assert signal.getsignal(signal.SIGTERM) is handlers
