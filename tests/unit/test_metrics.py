"""What the collector counts, and the text it becomes."""

from __future__ import annotations

import gc
import math
import threading
from collections import Counter
from typing import Any, get_args

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from podium import (
    MetricsCollector,
    MetricsSettings,
    PollCompleted,
    PollFailure,
    PollStarted,
    TaskCancelled,
    TaskExecutionCompleted,
    TaskExecutionFailure,
    TaskExecutionStarted,
    TaskFailedError,
    TaskGivenBack,
    TaskPaused,
    TaskResult,
    TaskUpdateCompleted,
    TaskUpdateFailure,
)
from podium.errors import ServerError
from podium.events import HANDLERS, EventDispatcher, TaskRunnerEvent
from podium.metrics.families import QUANTILES, quantiles_of
from podium.metrics.settings import Style

STYLES = get_args(Style)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def collector(style: Style = "legacy", **settings: Any) -> MetricsCollector:
    return MetricsCollector(MetricsSettings(style=style, **settings))


def tell(listener: MetricsCollector, *events: TaskRunnerEvent) -> None:
    """Call the handlers, as the dispatcher does."""
    handler_of = {event_type: name for name, event_type in HANDLERS.items()}
    for event in events:
        getattr(listener, handler_of[type(event)])(event)


def of_task(kind: type[Any], task_type: str = "greet", **fields: Any) -> Any:
    return kind(task_type=task_type, task_id="i", worker_id="w", workflow_instance_id="f", **fields)


def started(task_type: str = "greet") -> TaskRunnerEvent:
    event: TaskRunnerEvent = of_task(TaskExecutionStarted, task_type)
    return event


def completed(task_type: str = "greet", milliseconds: float = 500.0, size: int = 1000) -> TaskRunnerEvent:
    event: TaskRunnerEvent = of_task(
        TaskExecutionCompleted, task_type, duration_ms=milliseconds, output_size_bytes=size
    )
    return event


def failed(task_type: str = "greet", name: str = "KeyError", milliseconds: float = 2000.0) -> TaskRunnerEvent:
    cause = TaskFailedError(name, f"a text that differs each time: {milliseconds}")
    event: TaskRunnerEvent = of_task(TaskExecutionFailure, task_type, duration_ms=milliseconds, cause=cause)
    return event


def not_taken(task_type: str = "greet") -> TaskRunnerEvent:
    cause = ServerError(503, "no")
    event: TaskRunnerEvent = of_task(TaskUpdateFailure, task_type, cause=cause, retry_count=4, task_result=TaskResult())
    return event


ONE_OF_EACH = [
    PollStarted(task_type="greet", worker_id="w", poll_count=1),
    PollCompleted(task_type="greet", duration_ms=250.0, tasks_received=1),
    PollFailure(task_type="greet", duration_ms=1.0, cause=ConnectionError()),
    started(),
    completed(),
    started(),
    failed(),
    started(),
    of_task(TaskCancelled, status="CANCELED", duration_ms=1.0),
    started(),
    of_task(TaskGivenBack),
    of_task(TaskUpdateCompleted, duration_ms=125.0),
    not_taken(),
    TaskPaused(task_type="greet"),
]


def samples_of(listener: MetricsCollector, accept: str = "") -> Samples:
    """Render, parse back, and return every sample; the parsers refuse what Prometheus would."""
    body, content_type = listener.render(accept)
    parse = parse_openmetrics if "openmetrics" in content_type else parse_plain
    found: Samples = {}
    for family in parse(body.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"twice: {key}"
            found[key] = sample.value
    return found


def value(listener: MetricsCollector, name: str, **labels: str) -> float | None:
    return samples_of(listener).get((name, frozenset(labels.items())))


# the text

LEGACY_TEXT = """\
# HELP task_poll_total Polls sent.
# TYPE task_poll_total counter
task_poll_total{taskType="greet"} 1.0
# HELP task_execution_started_total Tasks handed to a worker's function.
# TYPE task_execution_started_total counter
task_execution_started_total{taskType="greet"} 1.0
# HELP active_workers Tasks in a worker's function right now.
# TYPE active_workers gauge
active_workers{taskType="greet"} 0.0
# HELP task_execute_time_seconds Time that executions took.
# TYPE task_execute_time_seconds summary
task_execute_time_seconds{quantile="0.5",status="SUCCESS",taskType="greet"} 0.5
task_execute_time_seconds{quantile="0.75",status="SUCCESS",taskType="greet"} 0.5
task_execute_time_seconds{quantile="0.9",status="SUCCESS",taskType="greet"} 0.5
task_execute_time_seconds{quantile="0.95",status="SUCCESS",taskType="greet"} 0.5
task_execute_time_seconds{quantile="0.99",status="SUCCESS",taskType="greet"} 0.5
task_execute_time_seconds_count{status="SUCCESS",taskType="greet"} 1.0
task_execute_time_seconds_sum{status="SUCCESS",taskType="greet"} 0.5
# HELP task_result_size_bytes Size of the output's JSON.
# TYPE task_result_size_bytes summary
task_result_size_bytes{quantile="0.5",taskType="greet"} 1000.0
task_result_size_bytes{quantile="0.75",taskType="greet"} 1000.0
task_result_size_bytes{quantile="0.9",taskType="greet"} 1000.0
task_result_size_bytes{quantile="0.95",taskType="greet"} 1000.0
task_result_size_bytes{quantile="0.99",taskType="greet"} 1000.0
task_result_size_bytes_count{taskType="greet"} 1.0
task_result_size_bytes_sum{taskType="greet"} 1000.0
# HELP task_execute_time Seconds that the last execution took.
# TYPE task_execute_time gauge
task_execute_time{taskType="greet"} 0.5
# HELP task_result_size Bytes of the last output's JSON.
# TYPE task_result_size gauge
task_result_size{taskType="greet"} 1000.0
"""

CANONICAL_TEXT = """\
# HELP http_api_client_request_seconds Time of requests to the Conductor server; status 0 is no answer.
# TYPE http_api_client_request_seconds histogram
http_api_client_request_seconds_bucket{le="0.001",method="GET",status="200",uri="/tasks/{taskId}"} 0.0
http_api_client_request_seconds_bucket{le="0.005",method="GET",status="200",uri="/tasks/{taskId}"} 0.0
http_api_client_request_seconds_bucket{le="0.01",method="GET",status="200",uri="/tasks/{taskId}"} 0.0
http_api_client_request_seconds_bucket{le="0.025",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="0.05",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="0.1",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="0.25",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="0.5",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="1.0",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="2.5",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="5.0",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="10.0",method="GET",status="200",uri="/tasks/{taskId}"} 1.0
http_api_client_request_seconds_bucket{le="+Inf",method="GET",status="200",uri="/tasks/{taskId}"} 2.0
http_api_client_request_seconds_count{method="GET",status="200",uri="/tasks/{taskId}"} 2.0
http_api_client_request_seconds_sum{method="GET",status="200",uri="/tasks/{taskId}"} 20.025
"""


def test_text_of_the_legacy_style() -> None:
    listener = collector()
    tell(listener, ONE_OF_EACH[0], started(), completed())
    assert listener.render() == (LEGACY_TEXT.encode(), "text/plain; version=0.0.4; charset=utf-8")


def test_text_of_the_canonical_style() -> None:
    listener = collector("canonical")
    for seconds in (0.025, 20.0):  # a bound is part of its bucket
        listener.record_api_request_time("GET", "/tasks/{taskId}", 200, seconds)
    assert listener.render()[0].decode() == CANONICAL_TEXT


@pytest.mark.parametrize("style", STYLES)
def test_names_and_labels_are_those_of_the_catalogue(style: Style) -> None:
    listener = collector(style)
    tell(listener, *ONE_OF_EACH)
    listener.record_api_request_time("POST", "/tasks", 0, 0.5)
    listener.increment_worker_restart("greet")
    times = {"taskType", "status"}
    labels = {
        "task_poll_total": {"taskType"}, "task_poll_error_total": {"taskType", "exception"},
        "task_execution_started_total": {"taskType"}, "task_execute_error_total": {"taskType", "exception"},
        "task_update_error_total": {"taskType", "exception"}, "task_paused_total": {"taskType"},
        "task_cancelled_total": {"taskType", "status"}, "task_given_back_total": {"taskType"},
        "worker_restart_total": {"taskType"}, "active_workers": {"taskType"},
        "task_poll_time_seconds": times, "task_execute_time_seconds": times, "task_update_time_seconds": times,
        "task_result_size_bytes": {"taskType"},
    }  # fmt: skip
    request = {"method", "uri", "status"}
    if style == "legacy":
        labels |= {"task_poll_time": {"taskType"}, "task_execute_time": {"taskType"}, "task_result_size": {"taskType"}}
        labels |= {"http_api_client_request": request}
    else:
        labels |= {"http_api_client_request_seconds": request}
    distributions = {name for name in labels if name.endswith(("_seconds", "_bytes", "_request"))}
    expected = {(name, frozenset(of)) for name, of in labels.items() if name not in distributions}
    for name in distributions:
        expected |= {(f"{name}_count", frozenset(labels[name])), (f"{name}_sum", frozenset(labels[name]))}
        series, label = (name, "quantile") if style == "legacy" else (f"{name}_bucket", "le")
        expected.add((series, frozenset(labels[name] | {label})))
    found = {(name, frozenset(key for key, _ in of)) for name, of in samples_of(listener)}
    assert found == expected


@pytest.mark.parametrize("style", STYLES)
def test_openmetrics_is_given_to_whoever_wants_it_with_the_same_numbers(style: Style) -> None:
    listener = collector(style)
    tell(listener, *ONE_OF_EACH)
    accept = "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    body, content_type = listener.render(accept)
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert samples_of(listener, accept) == samples_of(listener)


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text;version=x", "text/plain;version=x", ";;=,\0", "image/png", "*/*"]
)
def test_accept_header_that_means_nothing_gets_the_plain_format(accept: str) -> None:
    assert collector().render(accept)[1] == "text/plain; version=0.0.4; charset=utf-8"


# what is counted


def test_defect_13_failures_are_failures_in_the_metrics() -> None:
    listener = collector()
    tell(listener, started(), failed(name="KeyError"), started(), failed(name="KeyError", milliseconds=1.0))
    assert value(listener, "task_execute_error_total", taskType="greet", exception="KeyError") == 2
    assert value(listener, "task_execute_time_seconds_count", taskType="greet", status="FAILURE") == 2
    assert value(listener, "task_execute_time_seconds_count", taskType="greet", status="SUCCESS") is None


@pytest.mark.parametrize("style", STYLES)
def test_defect_20_result_size_is_that_of_the_event_in_bytes(style: Style) -> None:
    listener = collector(style)
    tell(listener, completed(size=17), completed(size=123_456))
    assert value(listener, "task_result_size_bytes_sum", taskType="greet") == 123_473
    assert value(listener, "task_result_size_bytes_count", taskType="greet") == 2
    if style == "legacy":
        assert value(listener, "task_result_size", taskType="greet") == 123_456
        assert value(listener, "task_result_size_bytes", taskType="greet", quantile="0.5") == 17
        assert value(listener, "task_result_size_bytes", taskType="greet", quantile="0.99") == 123_456
    else:
        assert value(listener, "task_result_size_bytes_bucket", taskType="greet", le="100.0") == 1
        assert value(listener, "task_result_size_bytes_bucket", taskType="greet", le="1e+06") == 2


def test_defect_23_exception_label_is_the_class_and_its_values_are_bounded() -> None:
    listener = collector()
    for number in range(200):
        tell(listener, failed(name=f"Error{number}"), failed(name=f"Error{number}"))
    tell(listener, failed(task_type="other_type", name="Error199"))
    errors = listener.get_metrics()["task_execute_error_total"]
    assert sum(errors.values()) == 401
    assert errors["greet", "Error0"] == 2
    assert errors["greet", "other"] == 300
    assert len(errors) == 52
    assert errors["other_type", "Error199"] == 1  # each task type has room of its own


def test_defect_23_active_workers_go_down_when_a_child_dies() -> None:
    listener = collector("canonical")
    tell(listener, started(), started(), started("other"))
    assert value(listener, "active_workers", taskType="greet") == 2
    tell(listener, failed(name="WorkerProcessDied"), completed())
    assert value(listener, "active_workers", taskType="greet") == 0
    assert value(listener, "active_workers", taskType="other") == 1
    tell(listener, completed())  # an end whose beginning was not heard
    assert value(listener, "active_workers", taskType="greet") == 0
    listener.set_active_workers("other", 0)
    assert value(listener, "active_workers", taskType="other") == 0


def test_defect_23_update_failures_and_restarts_are_counted_beside_the_rest() -> None:
    listener = collector()
    tell(listener, not_taken(), not_taken())
    listener.increment_worker_restart("greet")
    assert value(listener, "task_update_error_total", taskType="greet", exception="ServerError") == 2
    assert value(listener, "worker_restart_total", taskType="greet") == 1


def test_waiting_results_and_failures_of_the_spool_are_shown_without_labels() -> None:
    listener = collector()
    listener.set_waiting_results(3, 4096)
    listener.increment_superseded_result("greet")
    listener.increment_spool_error()
    assert value(listener, "task_results_waiting") == 3
    assert value(listener, "task_results_waiting_bytes") == 4096
    assert value(listener, "task_result_superseded_total", taskType="greet") == 1
    assert value(listener, "result_spool_error_total") == 1


def test_defect_50_label_values_are_escaped() -> None:
    listener = collector()
    wild = 'a"b\\c\nd{e="f"} 1\n../../x \udc80'
    listener.increment_task_poll(wild)
    listener.increment_task_poll(wild)
    for accept in ("", "application/openmetrics-text;version=1.0.0"):
        (found,) = samples_of(listener, accept).items()
        assert found == (("task_poll_total", frozenset({("taskType", wild[:-1] + "\\udc80")})), 2)


def test_request_templates_are_bounded_and_a_metric_uri_stands_for_the_uri() -> None:
    listener = collector()
    for number in range(200):
        listener.record_api_request_time("GET", f"/tasks/{number}", 200, 0.1)
    listener.record_api_request_time("POST", "/tasks/7", "0", 0.1, metric_uri="/tasks/{taskId}")
    requests = listener.get_metrics()["http_api_client_request"]
    assert requests["GET", "other", "200"]["count"] == 150
    assert requests["POST", "/tasks/{taskId}", "0"]["count"] == 1
    assert len(requests) == 52


def test_quantiles_are_of_the_latest_observations_and_counts_of_all() -> None:
    listener = collector(window=10)
    for number in range(100):
        listener.record_task_execute_time("t", float(number))
        newest = listener.get_metrics()["task_execute_time_seconds"]["t", "SUCCESS"]["quantiles"][0.99]
        assert newest == number  # also of a series that was read before
    reading = listener.get_metrics()["task_execute_time_seconds"]["t", "SUCCESS"]
    assert (reading["count"], reading["sum"]) == (100, 4950.0)
    assert reading["quantiles"] == {0.5: 94.0, 0.75: 97.0, 0.9: 98.0, 0.95: 99.0, 0.99: 99.0}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_quantile_is_the_smallest_value_with_so_many_not_above_it(values: list[float]) -> None:
    for quantile, found in quantiles_of(values.copy()).items():
        not_above = [value for value in values if value <= found]
        below = [value for value in values if value < found]
        assert found in values
        assert len(not_above) >= quantile * len(values)
        assert len(below) < quantile * len(values)


EVENTS = st.one_of(
    st.builds(PollStarted, task_type=st.sampled_from("ab"), worker_id=st.just("w"), poll_count=st.integers(1, 9)),
    st.builds(
        PollCompleted, task_type=st.sampled_from("ab"), duration_ms=st.floats(0, 1e5), tasks_received=st.just(1)
    ),
    st.builds(
        PollFailure, task_type=st.sampled_from("ab"), duration_ms=st.floats(0, 1e5),
        cause=st.sampled_from([ValueError(), OSError()]),
    ),
    st.builds(started, st.sampled_from("ab")),
    st.builds(completed, st.sampled_from("ab"), st.floats(0, 1e5), st.integers(0, 10**8)),
    st.builds(failed, st.sampled_from("ab"), st.sampled_from(["KeyError", "E"]), st.floats(0, 1e5)),
    st.builds(lambda t: of_task(TaskCancelled, t, status="TIMED_OUT", duration_ms=1.0), st.sampled_from("ab")),
    st.builds(lambda t: of_task(TaskGivenBack, t), st.sampled_from("ab")),
    st.builds(lambda t: of_task(TaskUpdateCompleted, t, duration_ms=1.0), st.sampled_from("ab")),
    st.builds(not_taken, st.sampled_from("ab")),
    st.builds(TaskPaused, task_type=st.sampled_from("ab")),
)  # fmt: skip


def tally(events: list[Any]) -> Counter[tuple[str, frozenset[tuple[str, str]]]]:
    """Count as a reader of the names would expect it."""
    counts: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()
    for event in events:
        kind = type(event)
        of_type = {"taskType": event.task_type}
        name, labels = {
            PollStarted: ("task_poll_total", {}),
            PollCompleted: ("task_poll_time_seconds_count", {"status": "SUCCESS"}),
            PollFailure: ("task_poll_time_seconds_count", {"status": "FAILURE"}),
            TaskExecutionStarted: ("task_execution_started_total", {}),
            TaskExecutionCompleted: ("task_execute_time_seconds_count", {"status": "SUCCESS"}),
            TaskExecutionFailure: ("task_execute_time_seconds_count", {"status": "FAILURE"}),
            TaskCancelled: ("task_cancelled_total", {"status": "TIMED_OUT"}),
            TaskGivenBack: ("task_given_back_total", {}),
            TaskUpdateCompleted: ("task_update_time_seconds_count", {"status": "SUCCESS"}),
            TaskUpdateFailure: ("task_update_error_total", {"exception": "ServerError"}),
            TaskPaused: ("task_paused_total", {}),
        }[kind]
        counts[name, frozenset({**of_type, **labels}.items())] += 1
        if kind is PollFailure:
            labels = {"exception": type(event.cause).__name__}
            counts["task_poll_error_total", frozenset({**of_type, **labels}.items())] += 1
        if kind is TaskExecutionFailure:
            labels = {"exception": event.cause.type_name}
            counts["task_execute_error_total", frozenset({**of_type, **labels}.items())] += 1
        if kind is TaskExecutionCompleted:
            counts["task_result_size_bytes_count", frozenset(of_type.items())] += 1
    return counts


@pytest.mark.parametrize("style", STYLES)
@given(events=st.lists(EVENTS, max_size=60))
def test_rendered_counts_equal_a_naive_tally(style: Style, events: list[Any]) -> None:
    listener = collector(style)
    tell(listener, *events)
    counted = {
        key: count for key, count in samples_of(listener).items() if key[0].endswith(("_total", "_count"))
    }  # fmt: skip
    assert counted == tally(events)
    if style == "canonical":
        for (name, labels), count in counted.items():
            if name.endswith("_count"):
                every = frozenset(labels | {("le", "+Inf")})
                assert samples_of(listener)[name.removesuffix("_count") + "_bucket", every] == count


# how it is used


def test_it_is_an_ordinary_listener_of_every_event() -> None:
    listener = collector()
    dispatcher = EventDispatcher([listener])
    for event in ONE_OF_EACH:
        assert dispatcher.has_listeners(type(event))
        dispatcher.publish(event)
    dispatcher.close()
    assert value(listener, "task_execution_started_total", taskType="greet") == 4
    assert MetricsCollector.handles_events_inline is True


def test_snapshot_is_a_copy_of_plain_values() -> None:
    for style in STYLES:
        listener = collector(style)
        tell(listener, *ONE_OF_EACH)
        before = listener.get_metrics()
        assert before["task_poll_total"] == {("greet",): 1}
        assert set(before["task_execute_time_seconds"]) == {("greet", "SUCCESS"), ("greet", "FAILURE")}
        wrecked = listener.get_metrics()
        for readings in wrecked.values():
            for reading in readings.values():
                if isinstance(reading, dict):
                    (reading.get("quantiles") or reading["buckets"]).clear()
            readings.clear()
        assert listener.get_metrics() == before
        tell(listener, *ONE_OF_EACH)
        assert before["task_poll_total"] == {("greet",): 1}
        assert listener.get_metrics()["task_poll_total"] == {("greet",): 2}


def test_nothing_is_shown_before_something_happens() -> None:
    listener = collector()
    assert listener.render()[0] == b""
    assert listener.get_metrics() == {}


def test_registry_is_its_own_and_takes_metrics_of_the_user() -> None:
    listener = collector()
    assert listener.registry is not prometheus_client.REGISTRY
    orders = prometheus_client.Counter("orders", "Orders.", registry=listener.registry)
    orders.inc(3)
    assert value(listener, "orders_total") == 3
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        prometheus_client.Counter("task_poll_total", "Mine.", registry=listener.registry)
    tell(listener, *ONE_OF_EACH)
    assert b"task_poll_total" not in prometheus_client.generate_latest(prometheus_client.REGISTRY)


@pytest.mark.parametrize("style", STYLES)
def test_threads_may_observe_while_others_render(style: Style) -> None:
    """Four threads observe, one series after another comes up, two render all the while: nothing is lost or torn."""
    listener = collector(style, window=50)
    rounds, observers, going = 3000, 4, threading.Event()
    problems: list[BaseException] = []
    observing = [threading.Thread(target=lambda: _observe(listener, rounds, problems)) for _ in range(observers)]
    rendering = [threading.Thread(target=lambda: _render(listener, going, problems)) for _ in range(2)]
    for thread in (*observing, *rendering):
        thread.start()
    for thread in observing:
        thread.join()
    going.set()
    for thread in rendering:
        thread.join()
    assert problems == []
    metrics = listener.get_metrics()
    assert sum(metrics["task_poll_total"].values()) == rounds * observers
    assert sum(reading["count"] for reading in metrics["task_execute_time_seconds"].values()) == rounds * observers
    assert sum(metrics["task_execute_error_total"].values()) == rounds * observers


def _observe(listener: MetricsCollector, rounds: int, problems: list[BaseException]) -> None:
    try:
        for number in range(rounds):
            listener.increment_task_poll(f"type{number % 40}")
            listener.record_task_execute_time(f"type{number % 40}", 1.0)
            listener.increment_task_execution_error("t", TaskFailedError(f"E{number % 90}", ""))
    except BaseException as problem:
        problems.append(problem)


def _render(listener: MetricsCollector, ended: threading.Event, problems: list[BaseException]) -> None:
    try:
        while not ended.is_set():
            samples_of(listener)
            for reading in listener.get_metrics().get("task_execute_time_seconds", {}).values():
                assert reading["sum"] == reading["count"]  # each observation is 1.0: not torn
    except BaseException as problem:
        problems.append(problem)


def test_observing_keeps_no_event_alive() -> None:
    listener = collector()
    tell(listener, *ONE_OF_EACH)
    assert not any(isinstance(held, (TaskRunnerEvent, BaseException)) for held in _reachable(listener))


def _reachable(root: object) -> list[object]:
    seen: dict[int, object] = {}
    todo: list[object] = [vars(root)["_catalogue"]]
    while todo:
        thing = todo.pop()
        if id(thing) not in seen and not isinstance(thing, type):
            seen[id(thing)] = thing
            todo.extend(gc.get_referents(thing))
    return list(seen.values())


def test_quantiles_have_the_names_that_dashboards_use() -> None:
    assert QUANTILES == (0.5, 0.75, 0.9, 0.95, 0.99)
    assert not math.isnan(quantiles_of([1.0])[0.99])
