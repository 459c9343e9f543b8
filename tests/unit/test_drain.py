"""The drain, to the exact second: grace periods that are shortened, servers that answer slowly, late, or never."""

from __future__ import annotations

import asyncio
import logging

import pytest

from engine_fakes import FakeClient, FakeCrew
from podium import DrainReport
from podium import drain as drain_module
from podium.drain import Drain, StopRequests
from podium.errors import NotFoundError
from podium.oversight import UnwantedError
from runner_stage import START, Stage, Theatre, passing, tasks
from virtual_time import Clock


@pytest.fixture
def theatre(monkeypatch: pytest.MonkeyPatch) -> Theatre:
    theatre = Theatre(monkeypatch)
    monkeypatch.setattr(drain_module, "time", theatre.clock)
    return theatre


def draining(stage: Stage, requests: StopRequests) -> asyncio.Task[DrainReport]:
    """Begin a drain as the engine does; the crew ends at once, and what it ran is interrupted."""

    async def stop_crews() -> None:
        for task_id in stage.crew.running:
            stage.crew.interrupt(task_id)
        await passing()

    drain = Drain(requests, [stage.runner], lambda: [stage.running], stage.delivery, stop_crews)
    return asyncio.create_task(drain.run())


def asked(grace: float, by: str = "SIGTERM") -> StopRequests:
    requests = StopRequests()
    requests.add(grace, by)
    return requests


def now() -> float:
    return asyncio.get_running_loop().time() - START


def test_requests_name_the_first_who_asked_and_end_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(drain_module, "time", clock)
    requests = StopRequests()
    assert not requests
    assert (requests.by, requests.deadline) == ("a failure of podium", clock.now)
    requests.add(25, "SIGTERM")
    clock.now += 5
    requests.add(25, "stop_processes()")
    assert (requests.by, requests.deadline, requests.shortened_by) == ("SIGTERM", 1025, None)
    requests.add(0, "SIGINT")
    assert (requests.by, requests.deadline, requests.shortened_by) == ("SIGTERM", 1005, "SIGINT")
    assert requests.begun == 1000
    clock.now = 1005.5
    assert requests.time_left(5) == pytest.approx(1.3)
    assert StopRequests().time_left(1) == 1


@pytest.mark.parametrize(("second_after", "ends_after"), [(None, 10.0), (4.0, 4.0)])
def test_tasks_go_back_when_the_grace_period_ends(
    theatre: Theatre, second_after: float | None, ends_after: float, caplog: pytest.LogCaptureFixture
) -> None:
    client = FakeClient(tasks("a", "b", outputData={"kept": 1}))

    async def play(stage: Stage) -> None:
        await passing(1)
        requests = asked(10)
        drain = draining(stage, requests)
        if second_after is not None:
            await passing(second_after)
            requests.add(0, "SIGINT")
        report = await drain
        assert report == DrainReport(reason="SIGTERM", handed_back=2, seconds=report.seconds)
        assert report.seconds == pytest.approx(ends_after, abs=0.12)

    with caplog.at_level(logging.INFO):
        stage = theatre.show(play, client)
    assert [update.body["outputData"] for update in stage.client.updates] == [{"kept": 1}] * 2
    assert ("stop asked again by SIGINT: the grace period ends now" in caplog.text) == (second_after is not None)
    assert "the grace period is over: 2 tasks in hand: stopped, to be handed back" in caplog.text


def test_a_server_that_answers_nothing_costs_two_seconds_and_what_is_lost_is_named(
    theatre: Theatre, caplog: pytest.LogCaptureFixture
) -> None:
    client = FakeClient(tasks("a", "b"))

    async def play(stage: Stage) -> None:
        await passing(1)
        client.gate = asyncio.Event()
        report = await draining(stage, asked(3))
        client.gate.set()
        assert (report.lost, report.handed_back, report.clean) == (2, 0, False)
        assert 3 < report.seconds <= 5

    theatre.show(play, client)
    assert "neither finished nor given back: " in caplog.text
    assert "0 tasks handed back, 2 lost" in caplog.text


class SlowClient(FakeClient):
    """Answers one update after another, each 0.6 s later."""

    async def post_result(self, body: bytes) -> None:
        async with self.turn:
            await asyncio.sleep(0.6)
            await super().post_result(body)

    turn: asyncio.Lock


@pytest.mark.parametrize(("count", "handed_back"), [(5, 5), (12, 8)])
def test_a_server_that_answers_slowly_has_five_seconds(theatre: Theatre, count: int, handed_back: int) -> None:
    client = SlowClient(tasks(*(f"task-{number}" for number in range(count))))

    async def play(stage: Stage) -> None:
        client.turn = asyncio.Lock()
        await passing(1)
        report = await draining(stage, asked(3))
        assert (report.handed_back, report.lost) == (handed_back, count - handed_back)
        assert report.seconds <= 3 + 5 + 0.2

    theatre.show(play, client, slots=12)


def test_a_poll_that_is_never_answered_is_given_up(theatre: Theatre, caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient()

    async def play(stage: Stage) -> None:
        client.last_answer = asyncio.get_running_loop().create_future()
        await passing(1)
        report = await draining(stage, asked(25))
        assert report == DrainReport(reason="SIGTERM", seconds=report.seconds)
        assert 5.1 <= report.seconds < 7.2
        stage.running = asyncio.create_task(asyncio.sleep(0))  # the other one was cancelled

    theatre.show(play, client)
    assert "never answered: 1 poll;" in caplog.text


@pytest.mark.parametrize("late", [2.0, 5.5])
def test_tasks_of_an_open_poll_go_back_however_late_they_come(theatre: Theatre, late: float) -> None:
    client = FakeClient()

    async def play(stage: Stage) -> None:
        answer: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        client.last_answer = answer
        await passing(1)
        drain = draining(stage, asked(25))
        await passing(late)
        answer.set_result(tasks("a", "b"))
        report = await drain
        assert (report.handed_back, report.finished, report.lost) == (2, 0, 0)
        assert report.seconds == pytest.approx(late, abs=0.2)

    stage = theatre.show(play, client)
    assert stage.crew.started == []


def test_results_that_wait_have_their_last_attempt_and_are_lost_without_a_disk(theatre: Theatre) -> None:
    from engine_fakes import unavailable

    client = FakeClient(tasks("a", "b"))

    async def play(stage: Stage) -> None:
        await passing(1)
        client.update_errors.extend(unavailable() for _ in range(50))
        for task_id in ("a", "b"):
            stage.crew.finish(task_id)
        await passing(1)
        assert stage.runner.held == 0  # their slots are free
        assert stage.delivery.waiting == 2
        report = await draining(stage, asked(25))
        assert (report.lost, report.spooled, report.finished) == (2, 0, 0)
        assert report.seconds < 2

    theatre.show(play, client)


def test_crew_that_runs_nothing_is_stopped_at_once(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(1)
        begun = now()
        report = await draining(stage, asked(25))
        assert now() - begun < 0.5
        assert report == DrainReport(reason="SIGTERM", seconds=report.seconds)

    theatre.show(play, crew=FakeCrew(4))


def test_tasks_that_the_server_wants_no_more_are_finished(theatre: Theatre) -> None:
    client = FakeClient(tasks("cancelled", "removed"))

    async def play(stage: Stage) -> None:
        await passing(1)
        drain = draining(stage, asked(3))
        await passing(1)
        stage.crew._running.pop("cancelled")[1].set_exception(UnwantedError("CANCELED", 1.0))
        client.update_errors.append(NotFoundError(404, "No such task: removed"))
        report = await drain
        assert report == DrainReport(reason="SIGTERM", finished=2, seconds=report.seconds)

    theatre.show(play, client)
