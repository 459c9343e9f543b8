"""The numbers of real workers against the server's own records, with children that die on the way."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

import samples
from podium import MetricsCollector, MetricsSettings, PollStarted, TaskExecutionCompleted
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


@pytest.mark.parametrize("style", ["legacy", "canonical"])
def test_requests_to_the_server_are_counted_by_endpoint(rig: Rig, style: Any) -> None:
    collector = MetricsCollector(MetricsSettings(http_port=0, style=style))
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), event_listeners=[collector]):
        rig.run(samples.returns_none)
    name = "http_api_client_request" if style == "legacy" else "http_api_client_request_seconds"
    requests = collector.get_metrics()[name]
    assert ("GET", "/tasks/poll/batch/{taskType}", "200") in requests
    assert any(method == "POST" and uri.startswith("/tasks") for method, uri, _ in requests)
    assert all(reading["count"] > 0 and reading["sum"] > 0 for reading in requests.values())
    assert not any(rig.name_of(samples.returns_none) in uri for _, uri, _ in requests)


def fetched(port: int | None, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_settings_and_listeners_of_one_s_own_go_together(rig: Rig) -> None:
    class Monitor:
        def __init__(self) -> None:
            self.polls = 0

        def on_poll_started(self, event: PollStarted) -> None:
            self.polls += 1

    monitor = Monitor()
    settings = MetricsSettings(http_port=0)
    with rig.running(rig.worker(samples.returns_none), metrics_settings=settings, event_listeners=[monitor]) as handler:
        until(lambda: monitor.polls, "a poll that the listener heard")
        until(lambda: "task_poll_total{" in fetched(handler.metrics_port, "/metrics")[1], "a poll that was counted")


def test_metrics_of_one_s_own_are_fed_by_events_and_shown_with_the_rest(rig: Rig) -> None:
    collector = MetricsCollector(MetricsSettings(http_port=0))

    class Orders:
        def __init__(self) -> None:
            self.done = prometheus_client.Counter("orders_done", "Orders.", registry=collector.registry)

        def on_task_execution_completed(self, event: TaskExecutionCompleted) -> None:
            self.done.inc()

    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), event_listeners=[collector, Orders()]) as handler:
        rig.run(samples.returns_none)
        until(lambda: "orders_done_total 1.0\n" in fetched(handler.metrics_port, "/metrics")[1], "the order")
        assert "task_execution_started_total{" in fetched(handler.metrics_port, "/metrics")[1]


def test_defect_38_health_of_a_handler_whose_child_is_dead(rig: Rig) -> None:
    settings = MetricsSettings(http_port=0)
    workers = [rig.worker(samples.returns_none), rig.worker(samples.returns_list)]
    with rig.running(*workers, metrics_settings=settings, restart_on_failure=False) as handler:
        status, body = fetched(handler.metrics_port, "/health")
        assert (status, json.loads(body)["status"]) == (200, "UP")
        os.kill(handler.get_worker_status()[1]["pid"], signal.SIGKILL)
        until(lambda: fetched(handler.metrics_port, "/health")[0] == 503, "the bad news")
        health = json.loads(fetched(handler.metrics_port, "/health")[1])
        assert health["status"] == "DOWN"
        assert [entry["problem"] for entry in health["workers"]] == [None, "a worker process is down"]
