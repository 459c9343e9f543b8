from __future__ import annotations

import asyncio
import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from podium import (
    PollCompleted,
    PollFailure,
    PollStarted,
    TaskCancelled,
    TaskExecutionCompleted,
    TaskExecutionFailure,
    TaskExecutionStarted,
    TaskGivenBack,
    TaskPaused,
    TaskResult,
    TaskRunnerEventsListener,
    TaskUpdateCompleted,
    TaskUpdateFailure,
)
from podium.events import HANDLERS, EventDispatcher, TaskRunnerEvent

OF_TASK: dict[str, Any] = {"task_type": "t", "task_id": "i", "worker_id": "w", "workflow_instance_id": "f"}
EVENTS: list[TaskRunnerEvent] = [
    PollStarted(task_type="t", worker_id="w", poll_count=1),
    PollCompleted(task_type="t", duration_ms=1.0, tasks_received=0),
    PollFailure(task_type="t", duration_ms=1.0, cause=ValueError()),
    TaskExecutionStarted(**OF_TASK),
    TaskExecutionCompleted(**OF_TASK, duration_ms=1.0, output_size_bytes=2),
    TaskExecutionFailure(**OF_TASK, duration_ms=1.0, cause=ValueError()),
    TaskCancelled(**OF_TASK, status="CANCELED", duration_ms=1.0),
    TaskGivenBack(**OF_TASK),
    TaskUpdateCompleted(**OF_TASK, duration_ms=1.0),
    TaskUpdateFailure(**OF_TASK, cause=ValueError(), retry_count=4, task_result=TaskResult()),
    TaskPaused(task_type="t"),
]


def started(count: int) -> PollStarted:
    return PollStarted(task_type="t", worker_id="w", poll_count=count)


def delivered(listeners: list[object], *events: TaskRunnerEvent) -> None:
    """Publish events and wait until the listeners have heard them."""
    dispatcher = EventDispatcher(listeners)
    for event in events:
        dispatcher.publish(event)
    dispatcher.close()


class Hears:
    """Hears one kind of event."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def on_poll_started(self, event: PollStarted) -> None:
        self.counts.append(event.poll_count)


class Fails:
    """Fails as it is told to."""

    def __init__(self, fail: Callable[[], Any]) -> None:
        self.fail = fail
        self.calls = 0

    def on_poll_started(self, event: PollStarted) -> Any:
        self.calls += 1
        return self.fail()


# the records


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_event_is_frozen_and_stamped_in_utc(event: TaskRunnerEvent) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.task_type = "other"  # type: ignore[misc]
    assert event.timestamp.tzinfo is UTC
    assert abs(datetime.now(UTC) - event.timestamp) < timedelta(minutes=10)


#: The fields of each event, as users of the other SDKs know them; ``timestamp`` is in all.
TASK_FIELDS = "task_type task_id worker_id workflow_instance_id"
FIELDS = {
    PollStarted: "task_type worker_id poll_count",
    PollCompleted: "task_type duration_ms tasks_received",
    PollFailure: "task_type duration_ms cause",
    TaskExecutionStarted: TASK_FIELDS,
    TaskExecutionCompleted: f"{TASK_FIELDS} duration_ms output_size_bytes",
    TaskExecutionFailure: f"{TASK_FIELDS} cause duration_ms",
    TaskCancelled: f"{TASK_FIELDS} status duration_ms",
    TaskGivenBack: TASK_FIELDS,
    TaskUpdateCompleted: f"{TASK_FIELDS} duration_ms",
    TaskUpdateFailure: f"{TASK_FIELDS} cause retry_count task_result",
    TaskPaused: "task_type",
}


def test_fields_of_each_event() -> None:
    for kind, names in FIELDS.items():
        assert {field.name for field in dataclasses.fields(kind)} == {*names.split(), "timestamp"}
    assert FIELDS.keys() == set(HANDLERS.values())


def test_each_event_has_a_method_named_after_it() -> None:
    assert set(HANDLERS.values()) == {type(event) for event in EVENTS}
    for name, kind in HANDLERS.items():
        assert name == "on" + "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind.__name__)
        assert callable(getattr(TaskRunnerEventsListener, name))


# who hears what


def test_every_event_reaches_its_method() -> None:
    heard: list[tuple[str, TaskRunnerEvent]] = []

    class All:
        def __getattr__(self, name: str) -> Callable[[TaskRunnerEvent], None]:
            return lambda event: heard.append((name, event))

    delivered([All()], *EVENTS)
    assert heard == list(zip(HANDLERS, EVENTS, strict=True))


def test_methods_are_optional() -> None:
    listener = Hears()
    delivered([listener], *EVENTS)
    assert listener.counts == [1]


def test_order_is_kept_and_every_listener_hears_all() -> None:
    first, second = Hears(), Hears()
    delivered([first, second], *map(started, range(500)))
    assert first.counts == second.counts == list(range(500))


def test_inherited_empty_methods_of_the_protocol_are_not_called() -> None:
    class Inherits(TaskRunnerEventsListener):
        def on_poll_started(self, event: PollStarted) -> None: ...

    class InheritsAgain(Inherits): ...

    for listener in (Inherits(), InheritsAgain()):
        dispatcher = EventDispatcher([listener])
        assert dispatcher.has_listeners(PollStarted)
        assert not any(dispatcher.has_listeners(type(event)) for event in EVENTS[1:])


def test_isinstance_asks_for_all_methods_and_nobody_else_does() -> None:
    class All:
        def __getattr__(self, name: str) -> Any:
            return print

    assert isinstance(All(), TaskRunnerEventsListener)
    assert not isinstance(Hears(), TaskRunnerEventsListener)
    assert EventDispatcher([Hears()]).has_listeners(PollStarted)


def test_without_listeners_nothing_is_queued_and_no_thread_starts() -> None:
    dispatcher = EventDispatcher([Hears()])
    assert not dispatcher.has_listeners(PollCompleted)
    before = threading.active_count()
    dispatcher.publish(EVENTS[1])
    EventDispatcher().publish(EVENTS[0])
    assert threading.active_count() == before
    dispatcher.close()  # which may be called all the same


# how listeners may be written


def test_defect_31_async_methods_are_awaited() -> None:
    class Async:
        def __init__(self) -> None:
            self.counts: list[int] = []

        async def on_poll_started(self, event: PollStarted) -> None:
            await asyncio.sleep(0)
            self.counts.append(event.poll_count)

    listener = Async()
    delivered([listener], started(1), started(2))
    assert listener.counts == [1, 2]


def test_defect_31_listener_may_hold_what_cannot_be_copied() -> None:
    listener = Hears()
    listener.lock = threading.Lock()  # type: ignore[attr-defined]
    delivered([listener], started(1))
    assert listener.counts == [1]


def test_D12_slow_listener_does_not_hold_up_the_publisher() -> None:
    go = threading.Event()

    class Slow(Hears):
        def on_poll_started(self, event: PollStarted) -> None:
            assert go.wait(10)
            super().on_poll_started(event)

    listener = Slow()
    dispatcher = EventDispatcher([listener])
    begun = time.monotonic()
    for count in range(100):
        dispatcher.publish(started(count))
    assert time.monotonic() - begun < 5
    assert listener.counts == []
    go.set()
    dispatcher.close()
    assert listener.counts == list(range(100))


def test_close_gives_up_on_a_listener_that_hangs() -> None:
    go = threading.Event()
    dispatcher = EventDispatcher([Fails(lambda: go.wait(10))])
    dispatcher.publish(started(1))
    begun = time.monotonic()
    dispatcher.close(timeout=0.05)
    assert time.monotonic() - begun < 5
    go.set()


# failures


def raises() -> NoReturn:
    raise ValueError("no luck")


async def raises_async() -> NoReturn:
    raise ValueError("no luck")


async def is_cancelled() -> NoReturn:
    raise asyncio.CancelledError


@pytest.mark.parametrize("fail", [raises, raises_async, is_cancelled, lambda: sys.exit(3)])
def test_D12_failing_listener_is_logged_once_and_hurts_nobody(
    fail: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    failing, good = Fails(fail), Hears()
    with caplog.at_level(logging.INFO, "podium"):
        delivered([failing, good], *map(started, range(10)))
    assert failing.calls == 10
    assert good.counts == list(range(10))
    (record,) = caplog.records
    assert "further failures of it are not logged" in record.getMessage()
    assert record.exc_info is not None


def test_each_failing_listener_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    delivered([Fails(raises), Fails(raises)], started(1), started(2))
    assert len(caplog.records) == 2


def test_handler_need_not_be_hashable(caplog: pytest.LogCaptureFixture) -> None:
    @dataclasses.dataclass
    class Handler:
        calls: int = 0

        def __call__(self, event: PollStarted) -> None:
            self.calls += 1
            raise ValueError("no luck")

    class Holds:
        on_poll_started = Handler()

    delivered([Holds()], started(1), started(2))
    assert Holds.on_poll_started.calls == 2
    assert len(caplog.records) == 1


# one listener and another


def test_D12_slow_listener_does_not_hold_up_another() -> None:
    go, heard = threading.Event(), threading.Event()

    class Quick:
        def on_poll_started(self, event: PollStarted) -> None:
            heard.set()

    dispatcher = EventDispatcher([Fails(lambda: go.wait(10)), Quick()])
    dispatcher.publish(started(1))
    assert heard.wait(10)
    go.set()
    dispatcher.close()


def test_inline_listener_is_called_by_the_publisher_and_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    class Inline(Fails):
        handles_events_inline = True

    seen: list[threading.Thread] = []

    def note() -> NoReturn:
        seen.append(threading.current_thread())
        raise ValueError("no luck")

    dispatcher = EventDispatcher([Inline(note)])
    dispatcher.publish(started(1))
    dispatcher.publish(started(2))
    assert seen == [threading.current_thread()] * 2
    assert len(caplog.records) == 1
    dispatcher.close()


def test_listener_far_behind_misses_events_and_it_is_told_but_no_lost_result(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("podium.events.MAX_BEHIND", 3)
    busy, go = threading.Event(), threading.Event()
    heard: list[TaskRunnerEvent] = []

    class Slow:
        def on_poll_started(self, event: PollStarted) -> None:
            busy.set()
            go.wait(10)
            heard.append(event)

        def on_task_update_failure(self, event: TaskUpdateFailure) -> None:
            heard.append(event)
            go.set()

    polls = [started(count) for count in range(10)]
    lost = next(event for event in EVENTS if isinstance(event, TaskUpdateFailure))
    dispatcher = EventDispatcher([Slow()])
    dispatcher.publish(polls[0])
    assert busy.wait(10)
    for event in polls[1:]:
        dispatcher.publish(event)
    dispatcher.publish(lost)
    go.set()
    dispatcher.close()
    assert heard == [*polls[:4], lost]
    assert "is 3 events behind" in caplog.messages[0]
    assert "missed 6 events" in caplog.messages[1]


def test_listener_that_is_always_too_slow_is_told_seldom(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("podium.events.MAX_BEHIND", 100)
    turns, heard = threading.Semaphore(0), threading.Semaphore(0)

    class Slow:
        def on_poll_started(self, event: PollStarted) -> None:
            turns.acquire()
            heard.release()

    dispatcher = EventDispatcher([Slow()])
    for count in range(1000):  # one is heard for two that come
        dispatcher.publish(started(count))
        if count % 2:
            turns.release()
            assert heard.acquire(timeout=10)
    turns.release(1000)
    dispatcher.close()
    gaps = [message for message in caplog.messages if "missed" in message]
    assert len(caplog.messages) == 2 * len(gaps)
    assert 2 <= len(gaps) <= 10
