"""A collector counts the same whether it is told of tasks by meters, as it is as a rule, or by events."""

from __future__ import annotations

import threading
from typing import Any, get_args

import pytest

import virtual_time
from engine_fakes import FakeClient, FakeCrew, outcome_for, unavailable
from podium import MetricsCollector, MetricsSettings, TaskExecutionStarted, TaskResultStatus, Worker
from podium.delivery import Delivery
from podium.events import METERED, EventDispatcher
from podium.frames import Cause
from podium.instruments import Instruments
from podium.metrics.settings import Style
from podium.oversight import Oversight
from podium.runner import Runner
from runner_stage import passing, tasks

STYLES = get_args(Style)


class Mine(MetricsCollector):
    """A user's own: its handlers are called, whatever they do."""

    started = 0

    def on_task_execution_started(self, event: TaskExecutionStarted) -> None:
        self.started += 1
        super().on_task_execution_started(event)


def worked_off(collector: MetricsCollector, *others: object) -> dict[str, Any]:
    """Let a worker do some tasks, of which one fails and one is given back; return all numbers but those of polls."""

    async def main() -> None:
        client = FakeClient(tasks("a", "b", "c", "d", "e"))
        client.update_errors.extend([None, unavailable()])
        instruments = Instruments(None, [collector, *others])
        events = EventDispatcher(instruments.listeners)
        oversight = Oversight(client)
        delivery = Delivery(client, events, watch=instruments)
        crew = FakeCrew(5)
        runner = Runner(
            Worker("type", lambda: None), "me", 5, crew, 0,
            client=client, delivery=delivery, oversight=oversight, events=events, watch=instruments,
        )  # fmt: skip

        async def play() -> None:
            await passing()
            crew.finish("a")
            crew.finish("b", lambda task: outcome_for(task, TaskResultStatus.FAILED, Cause("KeyError", "x")))
            crew.finish("c", lambda task: outcome_for(task, TaskResultStatus.IN_PROGRESS))
            crew.interrupt("d")
            await passing(100)
            runner.stop()
            await passing()
            events.close()

        await virtual_time.beside(delivery.run(), virtual_time.beside(runner.run(), play()))

    virtual_time.run(main(), virtual_time.Clock())
    return {name: value for name, value in collector.get_metrics().items() if not name.startswith("task_poll")}


@pytest.mark.parametrize("style", STYLES)
def test_meters_count_what_handlers_of_events_would(style: Style) -> None:
    metered, by_events = MetricsCollector(MetricsSettings(style=style)), Mine(MetricsSettings(style=style))
    assert (metered.may_be_metered, by_events.may_be_metered) == (True, False)
    numbers, expected = worked_off(metered), worked_off(by_events)
    assert numbers == expected
    assert numbers["task_execution_started_total"] == {("type",): 5}
    assert numbers["active_workers"] == {("type",): 1}
    assert numbers["task_update_time_seconds"]["type", "SUCCESS"]["count"] == 3
    assert by_events.started == 5


def test_collector_in_a_listener_s_list_makes_no_events_that_nobody_else_hears() -> None:
    collector = MetricsCollector()
    dispatcher = EventDispatcher(Instruments(None, [collector]).listeners)
    assert not dispatcher.has_listeners(TaskExecutionStarted)
    assert len(METERED) == 3


def test_other_listeners_hear_every_event_beside_a_collector_that_is_metered() -> None:
    heard: list[threading.Thread] = []

    class Other:
        def on_task_execution_started(self, _event: TaskExecutionStarted) -> None:
            heard.append(threading.current_thread())

    numbers = worked_off(MetricsCollector(), Other())
    assert numbers["task_execution_started_total"] == {("type",): 5}
    assert len(heard) == 5
    assert threading.current_thread() not in heard


def test_one_of_several_collectors_is_metered_and_all_count_the_same() -> None:
    first, second = MetricsCollector(), MetricsCollector()
    worked_off(first, second)
    for name in ("task_execution_started_total", "task_execute_time_seconds", "task_update_time_seconds"):
        assert first.get_metrics()[name] == second.get_metrics()[name]
