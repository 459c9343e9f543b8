"""Leases, cancellation and limits with real processes and a real clock, against the scripted server."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import cancel_samples
import samples
from checker import check
from event_log import Kind
from fake_server import Answer, Request, error_answer
from podium import Configuration, MetricsCollector, TaskCancelled, TaskHandler, Worker
from rig import until
from task_server import TaskServer

#: What a machine that tests share may be late, in seconds.
PATIENCE = 0.3


class Listener:
    """Hears what was dropped."""

    def __init__(self) -> None:
        self.cancelled: list[TaskCancelled] = []
        self.on_task_cancelled = self.cancelled.append


@contextmanager
def running(
    server: TaskServer, function: Callable[..., Any], *listeners: object, isolation: Any = "process", **options: Any
) -> Iterator[TaskHandler]:
    worker = Worker("t", function, **({"poll_interval": 20, "lease_extend_enabled": True} | options))
    handler = TaskHandler(
        worker, Configuration(server_api_url=server.url), scan_for_annotated_workers=False,
        event_listeners=list(listeners), grace_seconds=0.1, isolation=isolation,
    )  # fmt: skip
    with handler:
        handler.start_processes()
        yield handler


def status_of(server: TaskServer, task_id: str) -> str:
    return server.attempts[task_id].status


def line_of(words: str) -> int:
    lines = Path(cancel_samples.__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if words in line)


# leases


def leases_are_kept(response_timeout: int, length: float) -> None:
    with TaskServer(response_timeout=response_timeout) as server:
        server.add("t", 6, seconds=length)
        with running(server, cancel_samples.sleeps, thread_count=6):
            server.wait_for_end(length + 20)
        assert server.statuses() == {"COMPLETED": 6}
        check(server.log, slots=6, patience=PATIENCE)  # I4: no gap longer than 0.6 x the timeout
        for events in server.log.by_task().values():
            beats = [event.at for event in events if event.kind is Kind.HEARTBEAT]
            assert len(beats) >= length / response_timeout / 0.4 - 3


def test_D01_six_tasks_outlast_a_response_timeout_of_two_seconds() -> None:
    leases_are_kept(2, 8)


@pytest.mark.soak
@pytest.mark.parametrize("response_timeout", [2, 3, 4, 5, 10])
def test_D01_six_tasks_take_ten_times_their_response_timeout(response_timeout: int) -> None:
    leases_are_kept(response_timeout, 10 * response_timeout)


def gil_is_held(seconds: int, response_timeout: int) -> None:
    with TaskServer(response_timeout=response_timeout) as server:
        server.add("t", 1, seconds=seconds)
        with running(server, samples.holds_the_gil):
            server.wait_for_end(seconds + 20)
        assert server.statuses() == {"COMPLETED": 1}
        beats = [event.at for event in server.log.of(Kind.HEARTBEAT)]
        assert max(later - earlier for earlier, later in pairwise(beats)) < 0.6 * response_timeout + PATIENCE
        check(server.log, patience=PATIENCE)


def test_D02_lease_is_kept_while_the_gil_is_held() -> None:
    gil_is_held(6, 2)


@pytest.mark.soak
def test_D02_lease_of_five_seconds_is_kept_while_the_gil_is_held_for_a_minute() -> None:
    gil_is_held(60, 5)


def failing(server: TaskServer, concerned: Callable[[Request], bool], seconds: float) -> None:
    """Answer some requests with 500 for so long, counted from the first of them."""
    until_then = 0.0

    def answer(request: Request) -> Answer:
        nonlocal until_then
        if concerned(request):
            until_then = until_then or time.monotonic() + seconds
            if time.monotonic() < until_then:
                return error_answer(500, "internal error", retryable=True)
        return server.answer(request)

    server.otherwise(answer)


def is_heartbeat(request: Request) -> bool:
    return request.method == "POST" and b'"extendLease"' in request.body


def is_result(request: Request) -> bool:
    return request.method == "POST" and b'"COMPLETED"' in request.body


def test_D04_lease_is_kept_while_the_result_is_refused_and_the_function_runs_once() -> None:
    with TaskServer(response_timeout=2) as server:
        server.add("t", 1, seconds=0.5)
        failing(server, is_result, 5)
        with running(server, cancel_samples.sleeps):
            server.wait_for_end(20)
        assert server.statuses() == {"COMPLETED": 1}
        (result,) = server.log.of(Kind.RESULT)
        (given,) = server.log.of(Kind.GIVEN)
        assert result.at - given.at > 5
        check(server.log, patience=PATIENCE)  # I4 goes on until the result is accepted


def test_D05_heartbeats_that_fail_are_repeated_and_the_lease_is_kept() -> None:
    with TaskServer(response_timeout=5) as server:
        server.add("t", 1, seconds=8)
        failing(server, is_heartbeat, 2)
        with running(server, cancel_samples.sleeps):
            server.wait_for_end(20)
        assert server.statuses() == {"COMPLETED": 1}
        tried = [request for request in server.requests if is_heartbeat(request)]
        assert len(tried) >= server.log.count(Kind.HEARTBEAT) + 3  # at 2 s, and then every half second
        assert server.log.count(Kind.TIMED_OUT) == 0


def test_hung_task_is_not_immortal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its lease ends, the server takes it back, and the function is told that."""
    mark = tmp_path / "mark"
    with TaskServer(response_timeout=1) as server:
        (task_id,) = server.add("t", mark=str(mark))
        listener = Listener()
        with running(server, cancel_samples.looks_whether_cancelled, listener, max_lease_seconds=1.5) as handler:
            until(lambda: listener.cancelled, "the dropped result", deadline=8)
            assert mark.read_text() == "told"
            assert handler.get_worker_status()[0]["running"] == 0
        assert status_of(server, task_id) == "TIMED_OUT"
        assert server.log.count(Kind.RESULT, Kind.GIVEN_BACK) == 0
    (line,) = [text for text in caplog.messages if "max_lease_seconds" in text]
    assert line.startswith(f"task {task_id} of workflow flow-{task_id} still runs after max_lease_seconds")


# cancellation


@pytest.mark.parametrize("isolation", ["process", "thread"])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (cancel_samples.looks_whether_cancelled, "told"),
        (cancel_samples.waits_whether_cancelled, "told: True"),
        (cancel_samples.awaits_cancelled, "told: True"),
    ],
)
@pytest.mark.parametrize("lease", [True, False])
def test_D06_cancelled_function_is_told_within_an_interval_and_reports_nothing(
    function: Callable[..., Any], words: str, isolation: str, lease: bool, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with TaskServer(response_timeout=2) as server:
        (task_id,) = server.add("t", mark=str(mark))
        listener, numbers = Listener(), MetricsCollector()
        with running(server, function, listener, numbers, isolation=isolation, lease_extend_enabled=lease) as handler:
            until(mark.exists, "the function")
            begun = time.monotonic()
            server.cancel(task_id)
            until(lambda: mark.read_text() == words, "the news", deadline=5)
            assert time.monotonic() - begun < 0.8 + PATIENCE
            until(lambda: handler.get_worker_status()[0]["running"] == 0, "the free slot", deadline=2)
            (event,) = until(lambda: listener.cancelled, "the event")
            assert (event.task_id, event.status) == (task_id, "CANCELED")
            assert numbers.get_metrics()["task_cancelled_total"] == {("t", "CANCELED"): 1}
            assert numbers.get_metrics()["active_workers"] == {("t",): 0}
            server.add("t", mark=str(tmp_path / "next"))
            until((tmp_path / "next").exists, "the next task")
            assert server.log.count(Kind.RESULT, Kind.GIVEN_BACK) == 0


def test_on_cancel_kill_frees_the_slot_of_a_function_that_does_not_look(tmp_path: Path) -> None:
    marks = [tmp_path / "one", tmp_path / "two"]
    with TaskServer(response_timeout=2) as server:
        first, second = [server.add("t", mark=str(mark))[0] for mark in marks]
        with running(server, cancel_samples.hangs, thread_count=2, on_cancel="kill"):
            until(lambda: all(mark.exists() for mark in marks), "both functions")
            marks[1].unlink()
            begun = time.monotonic()
            server.cancel(first)
            # The neighbour in the same process is given back, without a failure, and goes on in the next process.
            until(marks[1].exists, "the neighbour, again")
            assert time.monotonic() - begun < 0.8 + 1 + 1.5
            assert [event.task for event in server.log.of(Kind.GIVEN_BACK)] == [second]
            assert server.log.count(Kind.RESULT) == 0
            assert server.attempts[second].retry_count == 0


# limits


@pytest.mark.parametrize(
    ("function", "words", "name"),
    [
        (cancel_samples.hangs, "it hangs here", "hangs"),
        (cancel_samples.hangs_async, "it waits here", "_sleeps_for_ever"),
        (cancel_samples.ignores_cancellation, "it stays here", "ignores_cancellation"),
        (cancel_samples.holds_the_gil_for_ever, "never comes back", "holds_the_gil_for_ever"),
        (cancel_samples.blocks_the_loop_for_ever, "it hangs here", "hangs"),
    ],
)
def test_D07_hanging_function_is_failed_within_two_seconds_and_the_reason_names_its_line(
    function: Callable[..., Any], words: str, name: str, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    with TaskServer(response_timeout=60) as server:
        (task_id,) = server.add("t", mark=str(mark))
        with running(server, function, timeout_seconds=1) as handler:
            until(mark.exists, "the function")
            begun = time.monotonic()
            until(lambda: status_of(server, task_id) == "FAILED", "the failure", deadline=10)
            assert time.monotonic() - begun < 1 + 2 + PATIENCE
            until(lambda: handler.get_worker_status()[0]["running"] == 0, "the free slot", deadline=2)
        place = f"{name} ({cancel_samples.__file__}:{line_of(words)})"
        assert server.attempts[task_id].reason == f"took longer than 1 s (timeout_seconds); it was in {place}"


def test_D07_neighbours_of_what_was_killed_are_completed_elsewhere(tmp_path: Path) -> None:
    marks, go = [tmp_path / str(number) for number in range(3)], tmp_path / "go"
    with TaskServer(response_timeout=60) as server:
        (hung,) = server.add("t", mark=str(marks[0]))
        with running(server, cancel_samples.hangs, thread_count=3, timeout_seconds=3):
            until(marks[0].exists, "the function that hangs")
            time_left = time.monotonic() + 1  # the neighbours' own time must not be up
            until(lambda: time.monotonic() > time_left, "a second")
            neighbours = [server.add("t", mark=str(mark), go=str(go))[0] for mark in marks[1:]]
            until(lambda: all(mark.exists() for mark in marks), "the neighbours")
            until(lambda: status_of(server, hung) == "FAILED", "the failure")
            go.touch()
            server.wait_for_end(10)
        assert [status_of(server, task_id) for task_id in neighbours] == ["COMPLETED"] * 2
        assert {event.task for event in server.log.of(Kind.GIVEN_BACK)} == set(neighbours)
        assert len(server.attempts) == 3  # no retry was used
        check(server.log, slots=3)


def test_D07_code_that_cannot_be_stopped_fails_and_keeps_its_slot_until_it_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mark, go = tmp_path / "mark", tmp_path / "go"
    with TaskServer(response_timeout=60) as server, caplog.at_level(logging.ERROR):
        (task_id,) = server.add("t", mark=str(mark), go=str(go))
        with running(server, cancel_samples.hangs, isolation="thread", timeout_seconds=1) as handler:
            until(lambda: status_of(server, task_id) == "FAILED", "the failure", deadline=5)
            place = f"hangs ({cancel_samples.__file__}:{line_of('it hangs here')})"
            assert server.attempts[task_id].reason == (
                f"took longer than 1 s (timeout_seconds); it was in {place}; it cannot be stopped"
            )
            assert handler.get_worker_status()[0]["running"] == 1
            polls = server.log.count(Kind.POLL)
            (following,) = server.add("t", mark=str(tmp_path / "next"), go=str(go))
            time_left = time.monotonic() + 0.3
            until(lambda: time.monotonic() > time_left, "a while with no poll")
            assert server.log.count(Kind.POLL) == polls
            go.touch()
            until(lambda: status_of(server, following) == "COMPLETED", "the next task")
    assert any(
        "cannot be stopped in a thread of this process: its slot stays taken" in text for text in caplog.messages
    )
