"""The numbers of real workers against the server's own records, with children that die on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import samples
from podium import MetricsCollector, MetricsSettings
from rig import Rig, until


def run_some(rig: Rig, collector: MetricsCollector) -> Counter[tuple[str, str]]:
    """Run tasks that end in every way; return how often each type ended in each state, by the server's records."""
    functions: list[Callable[..., Any]] = [
        samples.returns_dict, samples.raises_value_error, samples.dies_once, samples.returns_dataclass_async,
    ]  # fmt: skip
    rig.define(*functions, retry_count=1)
    workers = [rig.worker(function) for function in functions]
    with rig.running(*workers, event_listeners=[collector], restart_backoff_seconds=0.0):
        flows = [rig.start(samples.returns_dict, a=number) for number in range(20)]
        flows += [rig.start(samples.raises_value_error) for _ in range(5)]
        flows += [rig.start(samples.dies_once, by="SIGKILL") for _ in range(3)]
        order = {"order_id": "o", "items": []}
        flows += [rig.start(samples.returns_dataclass_async, order=order) for _ in range(3)]
        tasks = [task for flow in flows for task in rig.finish(flow).tasks]
    return Counter((task.task_def_name, str(task.status)) for task in tasks)


@pytest.mark.parametrize("style", ["legacy", "canonical"])
def test_defect_23_counters_are_the_server_s_own_counts_though_children_die(
    rig: Rig, tmp_path: Path, style: Any
) -> None:
    collector = MetricsCollector(MetricsSettings(directory=tmp_path, style=style))
    ends = run_some(rig, collector)
    metrics = collector.get_metrics()
    completed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for (name, status), count in ends.items():
        (completed if status == "COMPLETED" else failed)[name] += count
    assert sum(failed.values()) > 10  # the failing ones failed twice, the dying ones died once
    executions = metrics["task_execute_time_seconds"]
    counted = {labels: reading["count"] for labels, reading in executions.items()}
    assert counted == {
        **{(name, "SUCCESS"): count for name, count in completed.items()},
        **{(name, "FAILURE"): count for name, count in failed.items()},
    }
    started = {name: count for (name,), count in metrics["task_execution_started_total"].items()}
    assert started == completed + failed
    updates = {name: reading["count"] for (name, _), reading in metrics["task_update_time_seconds"].items()}
    assert updates == completed + failed
    died, raised = rig.name_of(samples.dies_once), rig.name_of(samples.raises_value_error)
    errors = metrics["task_execute_error_total"]
    assert errors == {(died, "WorkerProcessDied"): failed[died], (raised, "ValueError"): failed[raised]}
    assert set(metrics["active_workers"].values()) == {0}


def test_defect_13_and_20_of_a_real_worker_in_the_metrics(rig: Rig) -> None:
    collector = MetricsCollector()
    rig.define(samples.returns_dict, samples.raises_value_error)
    workers = [rig.worker(samples.returns_dict), rig.worker(samples.raises_value_error)]
    with rig.running(*workers, isolation="thread", event_listeners=[collector]):
        task = rig.run(samples.returns_dict, a=1)
        rig.run(samples.raises_value_error)
        name = rig.name_of(samples.returns_dict)
        until(lambda: (name,) in collector.get_metrics().get("task_result_size", {}), "the size was recorded")
    sizes = collector.get_metrics()["task_result_size"]
    assert task.output_data == {"a": 1, "b": "x"}
    assert sizes[name,] == len('{"a":1,"b":"x"}')
    assert collector.get_metrics()["task_execute_error_total"] == {
        (rig.name_of(samples.raises_value_error), "ValueError"): 1
    }
