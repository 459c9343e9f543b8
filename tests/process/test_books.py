"""The books balance: what ``/metrics`` says is what the server has on record, whatever happened on the way."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import samples
from podium import MetricsSettings, StartWorkflowRequest, TaskDef, Worker, WorkflowDef, WorkflowTask
from rig import Rig, unique, until

TYPES = 12
WORKFLOWS = 834
FUNCTIONS: list[Callable[..., Any]] = [samples.returns_dict, samples.sees_context_async, samples.fails_first]


def fetched(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


def counted(text: str, name: str, label: str = "taskType", **wanted: str) -> Counter[str]:
    """Return the samples of one name by one label, quantiles left out; ``wanted`` are values of other labels."""
    found: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name != name or "quantile" in sample.labels:
                continue
            if all(sample.labels[key] == value for key, value in wanted.items()):
                found[sample.labels[label]] += int(sample.value)
    return found


@pytest.mark.timeout(300)
@pytest.mark.parametrize("style", ["legacy", "canonical"])
def test_defect_23_counters_equal_the_server_s_records_of_10000_tasks(rig: Rig, style: Any) -> None:
    workflows = WORKFLOWS if style == "legacy" else WORKFLOWS // 10
    prefix = unique("book")
    names = [f"{prefix}_{number}" for number in range(TYPES)]
    workers = [
        Worker(name, FUNCTIONS[number % len(FUNCTIONS)], thread_count=10, poll_interval=20)
        for number, name in enumerate(names)
    ]
    rig.client.register_task_defs(
        [TaskDef(name=name, retry_count=9, retry_delay_seconds=0, response_timeout_seconds=600) for name in names]
    )
    inputs = {"a": 1, "times": "${workflow.input.times}"}
    steps = [WorkflowTask(name=name, task_reference_name=name, input_parameters=inputs) for name in names]
    definition = WorkflowDef(name=prefix, tasks=steps)

    def start(number: int) -> str:
        times = 1 if number % 20 == 0 else 0
        request = StartWorkflowRequest(name=prefix, workflow_def=definition, input={"times": times})
        return rig.client.start_workflow(request)

    settings = MetricsSettings(http_port=0, style=style)
    with rig.running(*workers, metrics_settings=settings, restart_backoff_seconds=0.0) as handler:
        assert handler.metrics_port is not None
        flows = [start(number) for number in range(workflows // 2)]
        for victim in (0, 4, 8):  # one of each kind of function
            os.kill(handler.get_worker_status()[victim]["pid"], signal.SIGKILL)
        handler.set_paused(names[5], True)
        flows += [start(number) for number in range(workflows // 2, workflows)]
        until(lambda: rig.client.get_queue_sizes([names[5]])[names[5]] > 0, "tasks that wait for the paused worker")
        handler.set_paused(names[5], False)
        records = [task for flow in flows for task in rig.finish(flow, deadline=120).tasks]
        until(lambda: all(entry["running"] == 0 for entry in handler.get_worker_status()), "all acknowledged")
        text = fetched(handler.metrics_port, "/metrics")
        health = json.loads(fetched(handler.metrics_port, "/health"))

    ends = Counter((task.task_def_name, str(task.status)) for task in records)
    completed = Counter({name: ends[name, "COMPLETED"] for name in names})
    failed = Counter({name: ends[name, "FAILED"] for name in names if ends[name, "FAILED"]})
    died = Counter(task.task_def_name for task in records if "killed by SIGKILL" in (task.reason_for_incompletion or "")
                   and task.status == "FAILED")  # fmt: skip
    assert len(records) == (completed + failed).total() == sum(task.poll_count for task in records)
    assert completed == dict.fromkeys(names, workflows)
    assert len(records) > workflows * TYPES

    assert counted(text, "task_execute_time_seconds_count", status="SUCCESS") == completed
    assert counted(text, "task_execute_time_seconds_count", status="FAILURE") == failed
    assert counted(text, "task_execution_started_total") == completed + failed
    assert counted(text, "task_execute_error_total", exception="WorkerProcessDied") == died
    assert counted(text, "task_execute_error_total", exception="RuntimeError") == failed - died
    assert counted(text, "task_update_time_seconds_count") == completed + failed
    assert counted(text, "task_update_error_total") == {}
    assert counted(text, "worker_restart_total") == {names[victim]: 1 for victim in (0, 4, 8)}
    assert counted(text, "task_paused_total") == {names[5]: 1}
    assert set(counted(text, "active_workers").values()) == {0}
    processes = counted(text, "worker_process_resident_memory_bytes", "process")
    assert processes.keys() == {"podium", *names}
    assert all(size > 1_000_000 for size in processes.values())
    assert health["status"] == "UP"
    assert [entry["worker"] for entry in health["workers"]] == names
