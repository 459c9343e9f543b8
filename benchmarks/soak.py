"""Very many tasks: whether memory stays where it is."""

from __future__ import annotations

import time
from typing import Any, Final

from benchmarks.figures import Record, markdown, number
from benchmarks.processes import RunningDriver, StubServer
from benchmarks.scenarios import podium

NAME: Final = "soak"
CONCURRENCY: Final = 100
#: From this part of the tasks on memory may grow by no more than that.
SETTLED: Final = 0.1
LIMIT: Final = 0.03
_LOOK_SECONDS: Final = 0.5
#: A driver that completes nothing for so long is stuck.
_STUCK_SECONDS: Final = 120.0
_SHOWN: Final = (SETTLED, 0.25, 0.5, 0.75, 1.0)


def run(tasks: int) -> dict[str, Any]:
    """Let podium complete so many tasks; return the figures, with its memory in the course of it."""
    types = ["soak"]
    with (
        StubServer(types, tasks=tasks) as stub,
        RunningDriver(podium("podium def", "def"), stub, types, CONCURRENCY) as running,
    ):
        if not stub.wait_for("polled", 60):
            raise SystemExit(f"podium does not poll:\n{running.log()}")
        stub.tell("start")
        course: list[dict[str, float]] = []
        shown, moved = 0, time.monotonic()
        while not course or course[-1]["tasks"] < tasks:
            time.sleep(_LOOK_SECONDS)
            ended = stub.progress()
            if course and ended > course[-1]["tasks"]:
                moved = time.monotonic()
            elif time.monotonic() - moved > _STUCK_SECONDS:
                raise SystemExit(f"no task has ended for {_STUCK_SECONDS:.0f} s:\n{running.log()}")
            course.append({"tasks": ended, **running.tree.memory_mb()})
            if ended * 10 // tasks > shown:
                shown = ended * 10 // tasks
                print(f"{ended:>9,} tasks, RSS {course[-1]['rss_mb']:.1f} MB", flush=True)
        counted = stub.figures()
        stub.tell("release")
        figures = {"driver": "podium def", "scenario": NAME, "total": tasks, **counted, **running.wait()}
        return figures | {"course": _thinned(course), "growth": growth(course, tasks)}


def _at(course: list[dict[str, float]], tasks: float) -> dict[str, float]:
    return next((look for look in course if look["tasks"] >= tasks), course[-1])


def growth(course: list[dict[str, float]], tasks: int) -> float:
    """Return by which part memory has grown from when it had settled to the end."""
    return course[-1]["rss_mb"] / _at(course, SETTLED * tasks)["rss_mb"] - 1


def _thinned(course: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return at most a hundred looks, the last one included."""
    step = max(len(course) // 100, 1)
    return course[:-1:step] + course[-1:]


def verdict(figures: dict[str, Any]) -> str | None:
    """Return what is wrong; None if memory is flat and no task was lost."""
    if figures["growth"] > LIMIT:
        return f"memory has grown by {figures['growth']:.1%} between {SETTLED:.0%} and 100% of the tasks"
    if figures["lost"] or figures["duplicates"] or figures["completed"] != figures["total"]:
        return f"not every task was completed once: {figures['lost']} lost, {figures['duplicates']} duplicates"
    return None


def page(record: Record) -> str:
    """Return the table of a soak."""
    figures = record.runs[-1]
    total, course = figures["total"], figures["course"]
    head = ["", *(f"at {share * total:,.0f} tasks" for share in _SHOWN), "growth", "tasks/s", "lost"]
    memory = [number(_at(course, share * total)["rss_mb"], 1) for share in _SHOWN]
    row = [
        "RSS of all processes, MB",
        *memory,
        f"{figures['growth']:+.1%}",
        number(figures["tasks_per_s"], 0),
        number(figures["lost"], 0),
    ]
    return markdown([head, row])
