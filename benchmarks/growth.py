"""What podium costs as there are more task types, more tasks at a time, and larger payloads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from benchmarks import plot
from benchmarks.figures import Column, Record, Run, markdown, number, value
from benchmarks.load import measure
from benchmarks.scenarios import Driver, Scenario, podium

NAME: Final = "growth"

_DEF, _ASYNC = podium("podium def", "def"), podium("podium async def", "async")
_GROUPS = podium("podium def, groups of 10", "def", group="10")
_DEF_THREADS = podium("podium def, threads", "def", isolation="thread")
_ASYNC_THREADS = podium("podium async def, threads", "async", isolation="thread")
_ECHO, _ECHO_THREADS = podium(_DEF.name, "echo"), podium(_DEF_THREADS.name, "echo", isolation="thread")

_CPU: Final = Column("CPU s per 1,000 tasks", "cpu_s_per_1000", 3)
_RATE: Final = Column("tasks/s", "tasks_per_s", 0)
_PEAK: Final = Column("PSS, MB", "peak_pss_mb", 0)


@dataclass(frozen=True)
class Axis:
    """One thing that grows: its values with a scenario for each, who is measured, and what is shown."""

    name: str
    title: str
    scenarios: dict[int, Scenario]
    drivers: list[Driver]
    columns: list[Column]
    #: Which columns are plotted as well.
    plotted: list[Column]


_IDLE: Final = [
    Column("idle: PSS, MB", "pss_mb", 0),
    Column("idle: requests/s", "requests_per_s", 1),
    Column("idle: CPU, % of a core", "idle_cpu_percent", 1),
    Column("start s", "startup_s", 1),
]
AXES: Final = [
    Axis(
        "types",
        "task types",
        {
            types: Scenario("types", "", types=types, seconds=5.0, tasks=max(4_000, 100 * types), concurrency=10)
            for types in (1, 10, 50, 200)
        },
        [_DEF, _GROUPS, _DEF_THREADS],
        [*_IDLE, _CPU],
        [_IDLE[0], _IDLE[1], _CPU],
    ),
    Axis(
        "concurrency",
        "tasks at a time",
        {slots: Scenario("concurrency", "", tasks=5_000, concurrency=slots) for slots in (1, 10, 50, 100, 200, 500)},
        [_DEF, _ASYNC, _DEF_THREADS, _ASYNC_THREADS],
        [_RATE, _CPU, Column("p50 ms", "latency_ms.p50", 1), _PEAK],
        [_RATE, _CPU],
    ),
    Axis(
        "payload",
        "bytes in, and out again",
        {
            size: Scenario("payload", "", tasks=tasks, concurrency=10, payload=size)
            for size, tasks in ((1_000, 3_000), (10_000, 3_000), (100_000, 1_000), (1_000_000, 200))
        },
        [_ECHO, _ECHO_THREADS],
        [_RATE, _CPU, _PEAK],
        [_CPU],
    ),
]


def runs() -> Iterator[Run]:
    """Measure everything once."""
    for axis in AXES:
        for x, scenario in axis.scenarios.items():
            for driver in axis.drivers:
                yield measure(driver, scenario) | {"x": x}


def one_line(run: Run) -> str:
    """Return a run in a line, for whoever watches."""
    axis = next(axis for axis in AXES if axis.name == run["scenario"])
    cells = [f"{column.heading}: {number(value(run, column.path), column.digits)}" for column in axis.columns]
    trouble = [f"{key.upper()}: {run[key]}" for key in ("error", "log") if key in run]
    return f"{run['x']:>9,} {axis.title:24} {run['driver']:26} {', '.join([*cells, *trouble])}"


def page(record: Record) -> str:
    """Return a table for each axis."""
    parts = []
    for axis in AXES:
        rows = [[axis.title, "", *(column.heading for column in axis.columns)]]
        for x in axis.scenarios:
            found = [run for run in record.runs if (run["scenario"], run["x"]) == (axis.name, x)]
            rows += [[f"{x:,}" if run is found[0] else "", run["driver"], *_cells(run, axis)] for run in found]
        parts.append(markdown(rows))
    return "\n".join(parts)


def _cells(run: dict[str, Any], axis: Axis) -> list[str]:
    return [number(value(run, column.path), column.digits) for column in axis.columns]


def picture(record: Record) -> str:
    """Return the plots, with a line for each driver."""
    panels = []
    for axis in AXES:
        for column in axis.plotted:
            series: dict[str, list[tuple[float, float]]] = {}
            for run in record.runs:
                found = value(run, column.path) if run["scenario"] == axis.name else None
                if found:
                    series.setdefault(run["driver"], []).append((run["x"], found))
            panels.append(plot.Lines(column.heading, axis.title, series))
    return plot.lines(panels)
