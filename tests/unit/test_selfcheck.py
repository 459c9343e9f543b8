"""Work that waits while a worker is idle: told when it is certain, and never otherwise."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

import virtual_time
from engine_fakes import FakeClient
from podium import selfcheck as selfcheck_module
from podium.answers import Response
from podium.errors import NotFoundError, PodiumError, ServerError
from podium.models import PollData
from podium.selfcheck import SelfCheck


class IdleRunner:
    """A runner that has polled for ever, without a task."""

    def __init__(self, domain: str | None = None, name: str = "greet") -> None:
        self.worker = SimpleNamespace(task_definition_name=name, domain=domain)
        self.paused = self.stopping = False
        self.running, self.slots = 1, 4
        self.crew_is_down = False
        self.idle_since, self.last_poll = 1.0, 1.0
        self.deaf_for, self.poll_window = 0.1, 6.7
        self.poll_failure: str | None = None

    @property
    def free(self) -> int:
        return 0 if self.crew_is_down else self.slots - self.running


class Server(FakeClient):
    """A server with tasks that wait; also the transport that searches them."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, int] = {}
        self.waiting: list[dict[str, Any]] = []
        self.poll_data: list[PollData] = []
        self.asked: list[list[str]] = []
        self.searches: list[dict[str, Any]] = []
        self.alls = 0
        self.error: PodiumError | None = None

    async def get_queue_sizes(self, task_types: Any) -> dict[str, int]:
        self.asked.append(list(task_types))
        if self.error is not None:
            raise self.error
        return {name: self.sizes.get(name, 0) for name in task_types}

    async def get_poll_data(self, task_type: str) -> list[PollData]:
        return self.poll_data

    async def request(self, method: str, path: str, *, query: dict[str, Any] | None = None) -> Response:
        assert method == "GET"
        if path == "/tasks/queue/all":
            self.alls += 1
            return Response(200, json.dumps({"_deciderQueue": 9} | self.sizes).encode())
        assert (path, query is None) == ("/tasks/search-v2", False)
        self.searches.append(query or {})
        return Response(200, json.dumps({"totalHits": 1, "results": self.waiting}).encode())


def waiting_task(**fields: Any) -> dict[str, Any]:
    task = {"taskId": "t1", "workflowInstanceId": "w1", "taskType": "greet", "status": "SCHEDULED", "updateTime": 5}
    return task | fields


class Scene:
    def __init__(self, *runners: IdleRunner) -> None:
        self.server = Server()
        self.runners = list(runners) or [IdleRunner()]

    def minutes(self, count: int, each: Callable[[int], None] = lambda _minute: None) -> None:
        clock = virtual_time.Clock()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(selfcheck_module, "time", clock)
            checks: Any = SelfCheck(self.server, self.server, lambda: self.runners)  # type: ignore[arg-type, return-value]

            async def main() -> None:
                running = asyncio.create_task(checks.run())
                for minute in range(count):
                    each(minute)
                    for runner in self.runners:
                        runner.last_poll = clock.now
                    await asyncio.sleep(60.001)
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)

            virtual_time.run(main(), clock)


def test_task_that_waits_in_the_own_queue_is_an_error_with_the_facts(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(IdleRunner(domain="d"))
    scene.server.sizes = {"d:greet": 3}
    scene.server.waiting = [waiting_task(domain="d")]
    scene.minutes(6)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    text = record.getMessage()
    assert text.startswith(
        "worker 'greet' is handed nothing, and work waits: 3 tasks are in its queue 'd:greet', 3 of 4 slots are free, "
    )
    assert "task t1 of workflow w1 is due for more than 60 s" in text
    assert scene.server.asked == [["d:greet"]] * 6
    assert len(scene.server.searches) == 2
    assert scene.server.searches[0]["query"] == "taskType=greet AND status=SCHEDULED"


@pytest.mark.parametrize(
    "fields",
    [
        {"callbackAfterSeconds": 600},
        {"startDelayInSeconds": 600},
        {"taskDefinition": {"backoffJitterMs": 600_000}},
        {"taskDefinition": {"concurrentExecLimit": 5}},
        {"rateLimitPerFrequency": 1},
        {"isolationGroupId": "g"},
        {"executionNameSpace": "n"},
        {"status": "IN_PROGRESS"},
        {"taskType": "other"},
    ],
    ids=str,
)
def test_task_that_may_have_to_wait_is_no_alarm(fields: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.sizes = {"greet": 1}
    scene.server.waiting = [waiting_task(**fields)]
    scene.minutes(8)
    assert caplog.messages == []
    assert len(scene.server.searches) == 8


def test_task_is_told_of_when_its_delay_is_over(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.sizes = {"greet": 1}
    scene.server.waiting = [waiting_task(callbackAfterSeconds=200)]
    told: list[int] = []
    scene.minutes(8, lambda _minute: told.append(len(caplog.messages)))
    assert told == [0, 0, 0, 0, 0, 1, 1, 1]


def test_queue_that_moves_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.sizes = {"greet": 1}

    def move(minute: int) -> None:
        scene.server.waiting = [waiting_task(pollCount=minute), waiting_task(taskId=f"t{minute}")]

    scene.minutes(8, move)
    assert caplog.messages == []


@pytest.mark.parametrize(
    "changes",
    [{"paused": True}, {"stopping": True}, {"running": 4}, {"crew_is_down": True}, {"idle_since": 0.0}],
    ids=str,
)
def test_worker_that_is_not_idle_asks_for_nothing(changes: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    vars(scene.runners[0]).update(changes)
    scene.server.sizes = {"greet": 1}
    scene.server.waiting = [waiting_task()]
    scene.minutes(4)
    assert scene.server.asked == []
    assert caplog.messages == []


def test_worker_that_is_handed_tasks_now_and_then_is_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.sizes = {"greet": 1}
    scene.server.waiting = [waiting_task()]

    def works(minute: int) -> None:
        scene.runners[0].idle_since = 1000.0 + 60 * minute + 30  # half a minute before the look

    scene.minutes(6, works)
    assert caplog.messages == []


def test_idle_server_gets_one_request_a_minute_for_all_workers(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene(*(IdleRunner(name=f"w{number}") for number in range(20)))
    scene.minutes(5)
    assert len(scene.server.asked) == 5
    assert len(scene.server.asked[0]) == 20
    assert scene.server.searches == []
    assert scene.server.alls == 2  # at the begin: their tasks may be elsewhere
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("ours", "queue", "words"),
    [
        (None, "d:greet", "7 tasks in domain 'd'; this worker polls without a domain. "),
        ("d", "greet", "7 tasks without a domain; this worker polls in domain 'd'. "),
        ("d", "e:greet", "7 tasks in domain 'e'; this worker polls in domain 'd'. "),
    ],
)
@pytest.mark.parametrize("last_poll", [None, 1_000])
def test_tasks_in_a_domain_where_nobody_polls_are_told(
    ours: str | None, queue: str, words: str, last_poll: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene(IdleRunner(domain=ours))
    scene.server.sizes = {queue: 7, "d:other": 1, "greeting": 1}
    scene.server.poll_data = [PollData(domain=ours, last_poll_time=100_000)]
    if last_poll is not None:
        scene.server.poll_data.append(PollData(domain=queue.rpartition(":")[0], last_poll_time=last_poll))
    scene.minutes(5)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert words in record.getMessage()
    assert scene.server.alls == 2


@pytest.mark.parametrize("other", ["polls it elsewhere", "runs here", "took them meanwhile"])
def test_tasks_of_another_worker_s_domain_are_no_alarm(other: str, caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.sizes = {"d:greet": 7}
    scene.server.poll_data = [PollData(domain=None, last_poll_time=100_000)]
    if other == "runs here":
        scene.runners.append(IdleRunner(domain="d"))
        scene.runners[1].running = 4
    elif other == "polls it elsewhere":
        scene.server.poll_data.append(PollData(domain="d", last_poll_time=90_000))

    def take(minute: int) -> None:
        if minute == 1 and other == "took them meanwhile":
            scene.server.sizes = {}

    scene.minutes(4, take)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("failure", "words"),
    [(None, "but no poll is answered, and none fails"), ("403 no", "but polls fail: 403 no")],
)
def test_worker_that_does_not_poll_while_work_waits_is_an_error(
    failure: str | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene = Scene()
    deaf = scene.runners[0]
    deaf.idle_since, deaf.deaf_for, deaf.poll_failure = 0.0, 100.0, failure
    scene.minutes(3)
    assert caplog.messages == []
    scene.server.sizes = {"greet": 2}
    scene.minutes(3)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    start = "worker 'greet' takes nothing, and work waits: 2 tasks are in its queue 'greet', 3 of 4 slots are free, "
    assert record.getMessage().startswith(start)
    assert record.getMessage().endswith(words)


def test_tasks_that_wait_for_long_and_may_have_to_are_a_line_for_who_wants_to_know(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    scene.server.sizes = {"greet": 2}
    with caplog.at_level(logging.INFO, "podium"):
        scene.minutes(25)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "that is as it should be if they are to wait" in record.getMessage()


def test_it_is_told_again_after_tasks_have_come(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.sizes = {"greet": 1}
    scene.server.waiting = [waiting_task()]

    def works(minute: int) -> None:
        scene.runners[0].idle_since = 0.0 if minute == 3 else 1.0

    with caplog.at_level(logging.INFO, "podium"):
        scene.minutes(8, works)
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR"]


def test_server_that_does_not_tell_is_not_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.error = NotFoundError(404, "No static resource")
    scene.minutes(5)
    assert len(scene.server.asked) == 1
    scene = Scene()
    scene.server.error = ServerError(503, "unavailable")
    scene.minutes(5)
    assert len(scene.server.asked) == 5
    assert caplog.messages == []


def test_definition_with_odd_values_does_not_end_the_looks(caplog: pytest.LogCaptureFixture) -> None:
    scene = Scene()
    scene.server.sizes = {"greet": 1}
    scene.server.waiting = [waiting_task(taskDefinition={"name": "greet", "backoffJitterMs": "soon"})]
    scene.minutes(6)
    (record,) = caplog.records
    assert "task t1 of workflow w1 is due" in record.getMessage()
