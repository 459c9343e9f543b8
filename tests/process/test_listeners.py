"""Event listeners in a running program: ordinary objects that see everything and delay nothing."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

import samples
from podium import (
    PollCompleted,
    PollStarted,
    TaskExecutionCompleted,
    TaskExecutionFailure,
    TaskExecutionStarted,
    TaskFailedError,
    TaskHandler,
    TaskRunnerEvent,
    TaskRunnerEventsListener,
    TaskUpdateCompleted,
)
from rig import Rig, until

MODES: list[dict[str, Any]] = [{"isolation": "process"}, {"isolation": "thread"}]


class Recorder(TaskRunnerEventsListener):
    """Keeps what it hears, and cannot be pickled."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.events: list[TaskRunnerEvent] = []

    def on_poll_started(self, event: PollStarted) -> None:
        self.events.append(event)

    def on_poll_completed(self, event: PollCompleted) -> None:
        self.events.append(event)

    def on_task_execution_started(self, event: TaskExecutionStarted) -> None:
        self.events.append(event)

    def on_task_execution_completed(self, event: TaskExecutionCompleted) -> None:
        self.events.append(event)

    async def on_task_execution_failure(self, event: TaskExecutionFailure) -> None:
        self.events.append(event)

    async def on_task_update_completed(self, event: TaskUpdateCompleted) -> None:
        self.events.append(event)

    def of(self, kind: type[TaskRunnerEvent]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("function", [samples.raises_value_error, samples.raises_value_error_async])
def test_defect_13_failure_is_published_as_a_failure(rig: Rig, function: Any, mode: dict[str, Any]) -> None:
    recorder = Recorder()
    rig.define(function)
    with rig.running(rig.worker(function), event_listeners=[recorder], **mode):
        task = rig.run(function)
        (failure,) = until(lambda: recorder.of(TaskExecutionFailure), "the failure")
    assert failure.task_id == task.task_id
    assert failure.workflow_instance_id == task.workflow_instance_id
    assert isinstance(failure.cause, TaskFailedError)
    assert (failure.cause.type_name, failure.cause.message) == ("ValueError", "no luck")
    assert "raise ValueError" in failure.cause.traceback
    assert recorder.of(TaskExecutionCompleted) == []


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_defect_20_output_size_is_that_of_the_output(rig: Rig, mode: dict[str, Any]) -> None:
    recorder = Recorder()
    rig.define(samples.returns_dict)
    with rig.running(rig.worker(samples.returns_dict), event_listeners=[recorder], **mode):
        rig.run(samples.returns_dict, a=1, b="ä")
        (completed,) = until(lambda: recorder.of(TaskExecutionCompleted), "the completion")
    assert completed.output_size_bytes == len('{"a":1,"b":"ä"}'.encode())


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_defect_31_listener_lives_in_this_process_and_its_coroutines_are_awaited(
    rig: Rig, mode: dict[str, Any]
) -> None:
    recorder = Recorder()
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), event_listeners=[recorder], **mode):
        rig.run(samples.returns_none)
        until(lambda: recorder.of(TaskUpdateCompleted), "the acknowledgement")
    of_task = [type(event) for event in recorder.events if hasattr(event, "task_id")]
    assert of_task == [TaskExecutionStarted, TaskExecutionCompleted, TaskUpdateCompleted]


def test_defect_43_D12_failing_listener_costs_no_task_and_is_logged_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing:
        def on_task_execution_completed(self, event: TaskExecutionCompleted) -> None:
            raise RuntimeError("listener trouble")

    recorder = Recorder()
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), event_listeners=[Failing(), recorder], isolation="thread"):
        for _ in range(3):
            assert rig.run(samples.returns_none).status == "COMPLETED"
        until(lambda: len(recorder.of(TaskUpdateCompleted)) == 3, "three completions")
    assert len([record for record in caplog.records if "event listener" in record.getMessage()]) == 1


def test_D12_slow_listener_delays_no_task(rig: Rig) -> None:
    release = threading.Event()

    class Stuck:
        def on_poll_started(self, event: PollStarted) -> None:
            release.wait(30)

    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), event_listeners=[Stuck()], isolation="thread"):
        assert rig.run(samples.returns_none).status == "COMPLETED"
        release.set()


def test_defect_40_payloads_are_in_no_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.define(samples.returns_dict)
    with caplog.at_level(logging.DEBUG), rig.running(rig.worker(samples.returns_dict)):
        rig.run(samples.returns_dict, a=1, b="planted-secret-value")
    assert "planted-secret-value" not in caplog.text


def test_listener_may_stop_the_handler(rig: Rig) -> None:
    class Stopping:
        handler: TaskHandler | None = None

        def on_task_update_completed(self, event: TaskUpdateCompleted) -> None:
            assert self.handler is not None
            self.handler.stop_processes()

    listener = Stopping()
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), event_listeners=[listener], isolation="thread") as handler:
        listener.handler = handler
        rig.start(samples.returns_none)
        handler.join_processes()
        assert handler.get_worker_status() == []
