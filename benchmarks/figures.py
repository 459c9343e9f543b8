"""Recorded runs, their medians and ratios, and the tables of them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from benchmarks.scenarios import BARE, OWN, PEER

Run = dict[str, Any]


class Record(NamedTuple):
    """What a file of recorded runs holds: JSON lines, the first of which describes the machine."""

    machine: dict[str, str]
    runs: list[Run]

    @classmethod
    def read(cls, path: Path) -> Record:
        """Read a file; one of another bench may have no line on the machine."""
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        machine = lines.pop(0)["machine"] if lines and "machine" in lines[0] else {}
        return cls(machine, lines)


@dataclass(frozen=True)
class Column:
    """One figure of a table. With ``better`` it is also compared to the peer and the bare loop."""

    heading: str
    #: Where a run has it; dots lead into what is nested.
    path: str
    digits: int
    #: ``more`` or ``less``; empty for what is not compared.
    better: str = ""
    #: Whether the worst of all rounds is shown instead of their median.
    worst: bool = False


THROUGHPUT: Final = [
    Column("tasks/s", "tasks_per_s", 0, "more"),
    Column("CPU s per 1,000 tasks", "cpu_s_per_1000", 3, "less"),
    Column("PSS, MB", "peak_pss_mb", 0),
    Column("requests per task", "requests_per_task", 2),
    Column("p50 ms", "latency_ms.p50", 1),
    Column("p99 ms", "latency_ms.p99", 1),
    Column("lost", "lost", 0, worst=True),
]
ARRIVAL: Final = [
    Column("pick-up p50 ms", "pickup_ms.p50", 2, "less"),
    Column("pick-up p99 ms", "pickup_ms.p99", 2, "less"),
    Column("CPU s per 1,000 tasks", "cpu_s_per_1000", 2, "less"),
    Column("requests per task", "requests_per_task", 2),
    Column("PSS, MB", "peak_pss_mb", 0),
]
START: Final = [Column("seconds", "startup_s", 2, "less"), Column("CPU s", "startup_cpu_s", 2, "less")]
IDLE: Final = [
    Column("PSS, MB", "pss_mb", 0, "less"),
    Column("CPU, % of a core", "idle_cpu_percent", 1, "less"),
    Column("requests/s", "requests_per_s", 1),
    Column("processes", "processes", 0),
    Column("start s", "startup_s", 1, "less"),
]
#: Beginning of a scenario's name -> its columns.
COLUMNS: Final = {"throughput": THROUGHPUT, "latency": THROUGHPUT, "arrival": ARRIVAL, "start": START, "idle": IDLE}


def columns_of(scenario: str) -> list[Column]:
    """Return the columns for a scenario; none for one that has no table."""
    return next((columns for beginning, columns in COLUMNS.items() if scenario.startswith(beginning)), [])


def value(run: Run, path: str) -> float | None:
    """Return a figure of a run; None if it has no such."""
    found: Any = run
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None


class Results:
    """Runs by scenario and driver, in the order in which they came."""

    def __init__(self, runs: list[Run]) -> None:
        self.by_scenario: dict[str, dict[str, list[Run]]] = defaultdict(dict)
        for run in runs:
            self.by_scenario[run["scenario"]].setdefault(run["driver"], []).append(run)

    def values(self, scenario: str, driver: str, path: str) -> list[float]:
        """Return a figure of all runs of a driver in a scenario."""
        runs = self.by_scenario.get(scenario, {}).get(driver, [])
        return [found for run in runs if (found := value(run, path)) is not None]

    def median(self, scenario: str, driver: str, path: str) -> float | None:
        """Return the median of a figure; None if there is none."""
        values = self.values(scenario, driver, path)
        return median(values) if values else None

    def shown(self, scenario: str, driver: str, column: Column) -> float | None:
        """Return what a table shows of a figure."""
        if column.worst:
            return max(self.values(scenario, driver, column.path), default=None)
        return self.median(scenario, driver, column.path)

    def best(self, scenario: str, beginning: str, column: Column) -> float | None:
        """Return the best median of the drivers whose names begin so."""
        medians = [
            found
            for driver in self.by_scenario.get(scenario, {})
            if driver.startswith(beginning) and (found := self.median(scenario, driver, column.path)) is not None
        ]
        return (max if column.better == "more" else min)(medians, default=None)


def number(found: float | None, digits: int) -> str:
    """Return a figure as tables show it."""
    return "-" if found is None else f"{found:,.{digits}f}"


def times_better(found: float | None, other: float | None, column: Column) -> str:
    """Return how many times better a figure is than another one, as tables show it; below 1 it is worse."""
    if not found or not other:
        return "-"
    ratio = found / other if column.better == "more" else other / found
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def markdown(rows: list[list[str]]) -> str:
    """Return a table; the first row is its head, the first column its labels."""
    head, *body = rows
    lines = [head, ["---", *("---:" for _ in head[1:])], *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def table(results: Results, scenario: str, yardsticks: tuple[str, ...] = (PEER, BARE)) -> str:
    """Return the table of a scenario: medians, and how podium's stand to the best of each yardstick."""
    drivers = results.by_scenario[scenario]
    columns = columns_of(scenario)
    known = [name for name in yardsticks if any(driver.startswith(name) for driver in drivers)]
    head = ["", *(cell for column in columns for cell in _headings(column, known))]
    rows = [head]
    for driver in drivers:
        cells = [driver]
        for column in columns:
            found = results.shown(scenario, driver, column)
            cells.append(number(found, column.digits))
            if column.better:
                for name in known:
                    other = results.best(scenario, name, column)
                    cells.append(times_better(found, other, column) if driver.startswith(OWN) else "")
        rows.append(cells)
    return markdown(rows)


def _headings(column: Column, known: list[str]) -> list[str]:
    return [column.heading, *(f"to {name}" for name in known if column.better)]


def one_line(run: Run) -> str:
    """Return a run in a line, for whoever watches."""
    cells = [
        f"{column.heading}: {number(found, column.digits)}"
        for column in columns_of(run["scenario"])
        if (found := value(run, column.path)) is not None
    ]
    trouble = [f"{key.upper()}: {run[key]}" for key in ("error", "log", "failed", "lost") if run.get(key)]
    return f"{run['scenario']:15} {run['driver']:29} {', '.join([*cells, *trouble])}"
