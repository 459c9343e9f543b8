"""Whatever workers and operators do, an execution keeps its promises and comes to an end."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from podium.server import actions, control
from podium.server.problems import Problem
from podium.server.timeouts import next_deadline
from unit.server.world import World, fork, simple, switch

MAX_RETRIES = 2

RETRYING = {
    "name": "t",
    "retryCount": MAX_RETRIES,
    "retryDelaySeconds": 1,
    "responseTimeoutSeconds": 7,
    "retryLogic": "LINEAR_BACKOFF",
}


@st.composite
def flows(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Sequences of tasks with at most one fork and one switch, in any place and nesting."""
    names = iter(f"r{number}" for number in range(100))

    def sequence(low: int, high: int) -> list[dict[str, Any]]:
        return [
            simple(next(names), optional=draw(st.booleans()), permissive=draw(st.booleans()))
            for _ in range(draw(st.integers(low, high)))
        ]

    tasks = sequence(0, 2)
    branches = [sequence(1, 2), sequence(1, 2)]
    if draw(st.booleans()):
        branches[0].append(switch({"x": sequence(0, 2)}, sequence(0, 2)))
    if draw(st.booleans()):
        joined = [branch[-1]["taskReferenceName"] for branch in branches[: draw(st.integers(0, 2))]]
        tasks += fork(*branches, on=joined)
    return tasks + sequence(1, 2)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["take", "COMPLETED", "FAILED", "IN_PROGRESS", "beat", "time", "pause", "resume", "retry"]),
        st.integers(0, 5),
    ),
    max_size=30,
)


def check(world: World) -> None:
    run = world.run
    assert len({attempt.task_id for attempt in run.attempts}) == len(run.attempts)
    assert [attempt.seq for attempt in run.attempts] == list(range(1, len(run.attempts) + 1))
    attempts = defaultdict(list)
    for attempt in run.attempts:
        attempts[attempt.reference_task_name].append(attempt)
    for ref, rows in attempts.items():
        assert run.latest[ref] is rows[-1]
        assert [row.retry_count for row in rows] == list(range(len(rows)))
        assert all(row.ended and row.retried for row in rows[:-1])
    if run.has_ended():
        assert not run.open_attempts()
        assert next_deadline(run) is None
    elif world.status == "RUNNING":
        assert run.open_attempts(), "an execution that runs has something to wait for"
        due = next_deadline(run)
        assert due is None or due > world.now, "what is overdue was dealt with"
        assert world.evaluate().changed == {}, "an evaluation leaves nothing to do"


def step(world: World, event: str, choice: int) -> None:
    workers = [attempt for attempt in world.run.open_attempts() if attempt.task_type == "t"]
    if event == "time":
        world.pass_time(choice)
    elif event in {"pause", "resume", "retry"}:
        try:
            getattr(control, event)(world.turn())
        except Problem:
            return
    elif workers:
        attempt = workers[choice % len(workers)]
        if event == "take":
            if attempt.status == "SCHEDULED" and attempt.pollable_at <= world.now:
                world.take(attempt.reference_task_name)
        elif event == "beat":
            actions.keep_alive(world.turn(), attempt)
        else:
            world.report(attempt.reference_task_name, event, callbackAfterSeconds=choice)


@settings(max_examples=150, deadline=None)
@given(flows(), EVENTS, st.sampled_from(["x", "y"]))
def test_every_history_keeps_the_promises(
    tasks: list[dict[str, Any]], events: list[tuple[str, int]], case: str
) -> None:
    world = World(tasks, [RETRYING], data={"case": case})
    check(world)
    for event, choice in events:
        step(world, event, choice)
        check(world)


@settings(max_examples=100, deadline=None)
@given(flows(), st.data(), st.sampled_from(["x", "y"]))
def test_every_flow_ends_when_its_tasks_do(tasks: list[dict[str, Any]], data: st.DataObject, case: str) -> None:
    world = World(tasks, [RETRYING], data={"case": case})
    while not world.run.has_ended():
        workers = [attempt for attempt in world.run.open_attempts() if attempt.task_type == "t"]
        attempt = data.draw(st.sampled_from(workers))
        world.now = max(world.now, attempt.pollable_at)
        world.do(attempt.reference_task_name, data.draw(st.sampled_from(["COMPLETED", "COMPLETED", "FAILED"])))
        assert len(world.run.attempts) < 200
    if world.status == "COMPLETED":
        assert {"COMPLETED", "COMPLETED_WITH_ERRORS"} >= set(world.statuses().values())
    else:
        assert world.run.workflow.failed_reference_task_names
