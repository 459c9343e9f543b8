"""Alive, ready and well: what each says of a state, and with which words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from engine_fakes import FakeClient, unavailable
from podium.crew.thread import ThreadCrew
from podium.errors import AuthError
from podium.health import Health
from podium.status import readiness_of
from runner_stage import START, Stage, Theatre, passing, tasks

LIMIT = 35.0


class Engine(SimpleNamespace):
    """An engine as its health sees it: one that is well, but for what a test says."""

    def __init__(self, *runners: Any, **changes: Any) -> None:
        crew = changes.pop("crew", None) or SimpleNamespace(alive=True, silent_for=0.0, members=[])
        fine: dict[str, Any] = {"ended": False, "stopping": False, "silent_for": 0.0}
        super().__init__(runners=[(runner, crew) for runner in runners], **(fine | changes))


def runner(name: str = "greet", **changes: Any) -> Any:
    options = SimpleNamespace(thread_count=2)
    fine: dict[str, Any] = {
        "overdue": 0.0, "refused": False, "stopping": False, "paused": False, "running": 0, "slots": 2,
        "deaf_for": 0.1, "poll_window": 6.7, "last_poll": 1.0, "poll_failure": None, "worker_id": "me",
    }  # fmt: skip
    worker = SimpleNamespace(task_definition_name=name, domain=None, options=options)
    return SimpleNamespace(worker=worker, **(fine | changes))


def health(*runners: Any, **changes: Any) -> Health:
    return Health(Engine(*runners, **changes), LIMIT)


def test_all_is_well() -> None:
    probes = health(runner(), runner("other", paused=True), runner("third", running=2, deaf_for=999.0)).probes
    assert probes["/health/live"]() == (True, {"stuck": []})
    ready, facts = probes["/health/ready"]()
    assert ready
    assert facts["why"] is None
    assert [entry["state"] for entry in facts["workers"]] == ["polling", "paused", "all 2 slots are busy"]
    assert probes["/health"]()[0]


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"deaf_for": 7.0, "poll_failure": "connection refused"}, "no poll was answered for 7 s: connection refused"),
        ({"deaf_for": 7.0}, "no poll was answered for 7 s"),
        ({"deaf_for": float("inf"), "last_poll": 0.0}, "no poll was answered yet"),
        ({"refused": True, "poll_failure": "401 no"}, "authentication fails: 401 no"),
        ({"refused": True, "poll_failure": "401 no", "paused": True}, "authentication fails: 401 no"),
        ({"stopping": True}, "it is being stopped"),
        ({"overdue": 40.0}, "its poll loop is stuck for 40 s"),
    ],
)
def test_worker_that_is_not_ready_is_named_with_the_reason(changes: dict[str, Any], state: str) -> None:
    bad = runner("slow", **changes)
    ready, facts = health(runner(), bad).ready()
    assert not ready
    assert facts["why"] == "not ready: slow"
    entries = {entry["worker"]: (entry["ready"], entry["state"]) for entry in facts["workers"]}
    assert entries == {"greet": (True, "polling"), "slow": (False, state)}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stopping": True}, "the workers are being stopped"),
        ({"ended": True}, "the engine has ended"),
        ({"silent_for": 40.0}, "the engine's event loop is stuck for 40 s"),
    ],
)
def test_handler_that_takes_no_work_is_not_ready(changes: dict[str, Any], why: str) -> None:
    ready, facts = health(runner(), **changes).ready()
    assert (ready, facts["why"]) == (False, why)


def test_while_workers_start_podium_is_alive_and_not_ready() -> None:
    starting = health()
    assert starting.alive() == (True, {"stuck": []})
    assert starting.ready() == (False, {"why": "the workers are being started", "workers": []})
    assert not starting.well()[0]


@pytest.mark.parametrize(
    ("engine", "of_runner", "stuck"),
    [
        ({"silent_for": 41.26}, {}, [{"what": "the engine's event loop", "seconds": 41.3}]),
        ({}, {"overdue": 36.0}, [{"what": "the poll loop of worker 'greet'", "seconds": 36.0}]),
        ({"ended": True}, {}, [{"what": "the engine has ended", "seconds": None}]),
        ({"silent_for": 34.0}, {"overdue": 34.0}, []),
        ({"stopping": True}, {"refused": True, "deaf_for": 9999.0}, []),
    ],
)
def test_loop_that_does_not_turn_is_named_with_its_seconds(
    engine: dict[str, Any], of_runner: dict[str, Any], stuck: list[Any]
) -> None:
    assert health(runner(**of_runner), **engine).alive() == (not stuck, {"stuck": stuck})


def test_loop_of_the_thread_crew_is_named_once() -> None:
    crew = object.__new__(ThreadCrew)
    crew._beat_interval, crew.last_heard = 5.0, -1000.0
    crew._thread = SimpleNamespace(is_alive=lambda: True)  # type: ignore[assignment]
    alive, facts = health(runner("a"), runner("b"), crew=crew).alive()
    assert not alive
    assert [entry["what"] for entry in facts["stuck"]] == ["the event loop of the thread crew"]


def test_death_of_a_child_makes_nothing_that_is_alive_dead() -> None:
    crew = SimpleNamespace(alive=False, silent_for=None, members=[])
    down = health(runner(deaf_for=3.0), crew=crew)
    assert down.alive()[0]
    assert down.ready()[0]  # its successor may be there within the window
    assert not down.well()[0]


# the worker's side, in virtual time


@pytest.fixture
def theatre(monkeypatch: pytest.MonkeyPatch) -> Theatre:
    return Theatre(monkeypatch)


def state(stage: Stage) -> tuple[bool, str]:
    return readiness_of(stage.runner, SimpleNamespace(alive=True, silent_for=0.0), LIMIT)  # type: ignore[arg-type]


def test_window_is_that_of_a_poll_with_one_failure(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        assert stage.runner.poll_window == 3.0 + 1.5 + 4.5 + 2.0
        assert state(stage) == (False, "no poll was answered yet")
        for _ in range(50):
            await passing(1)
            assert state(stage) == (True, "polling")

    theatre.show(play, poll_interval=3000, poll_timeout=1500)


def test_server_that_is_down_makes_a_worker_not_ready_until_it_is_back(theatre: Theatre) -> None:
    client = FakeClient()

    async def play(stage: Stage) -> None:
        await passing(1)
        client.last_answer = unavailable()
        await passing(6)
        assert state(stage) == (True, "polling")  # one answer that is lost is no reason to take a worker out
        await passing(2)
        ready, why = state(stage)
        assert not ready
        assert why.startswith("no poll was answered for ")
        assert why.endswith(" s: 503 unavailable")
        client.last_answer = []
        await passing(2)
        assert state(stage) == (True, "polling")

    theatre.show(play, client)


def test_B22_refused_credentials_are_told_at_once(theatre: Theatre) -> None:
    client = FakeClient()

    async def play(stage: Stage) -> None:
        await passing(1)
        client.last_answer = AuthError(401, "revoked")
        await passing(0.2)
        assert state(stage) == (False, "authentication fails: 401 revoked")
        client.last_answer = []
        await passing(60)
        assert state(stage) == (True, "polling")

    theatre.show(play, client)


def test_worker_that_was_busy_or_paused_gets_its_time_for_the_next_poll(theatre: Theatre) -> None:
    async def play(stage: Stage) -> None:
        await passing(100)
        assert state(stage) == (True, "all 1 slots are busy")
        silence: Any = unavailable()
        stage.client.last_answer = silence
        stage.crew.finish("a")
        await passing()
        assert state(stage) == (True, "polling")
        await passing(10)
        assert not state(stage)[0]
        stage.runner.set_paused(True)
        await passing(100)
        assert state(stage) == (True, "paused")
        stage.runner.set_paused(False)
        await passing()
        assert state(stage) == (True, "polling")
        await passing(10)
        assert not state(stage)[0]

    theatre.show(play, FakeClient(tasks("a")), slots=1)


def test_idleness_begins_with_the_first_empty_answer_and_ends_with_whatever_is_none(theatre: Theatre) -> None:
    client = FakeClient()

    async def play(stage: Stage) -> None:
        begun = stage.runner.idle_since
        assert begun == 0
        await passing(5)
        assert stage.runner.idle_since == START
        client.last_answer = unavailable()
        await passing(1)
        assert stage.runner.idle_since == 0
        client.last_answer = []
        await passing(5)
        again = stage.runner.idle_since
        assert START + 5 < again < START + 11
        stage.runner.set_paused(True)
        await passing(5)
        stage.runner.set_paused(False)
        await passing(1)
        assert stage.runner.idle_since == pytest.approx(START + 16, abs=0.2)
        client.poll_answers.append(tasks("a")[:1])
        await passing(1)
        assert stage.runner.idle_since > START + 16  # a task came, and then none
        assert stage.crew.running == ["a"]

    theatre.show(play, client)
