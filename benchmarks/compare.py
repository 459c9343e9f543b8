"""podium beside conductor-python and a bare client loop: rounds in which the drivers take turns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from benchmarks import machine, plot
from benchmarks.figures import Record, Results, table
from benchmarks.load import measure
from benchmarks.scenarios import BARE, DRIVERS, OWN, PEER, SCENARIOS, Driver, Scenario

NAME: Final = "compare"


def chosen(only: str) -> list[tuple[Scenario, list[Driver]]]:
    """Return the scenarios and their drivers whose name is, or has in it, one of the words of ``only``; empty is all.

    A word that is in the name of a scenario chooses among scenarios, any other one among drivers.
    """
    words = [word.strip() for word in only.split(",") if word.strip()]
    of_scenarios = [word for word in words if any(word in scenario.name for scenario in SCENARIOS)]
    of_drivers = [word for word in words if word not in of_scenarios]
    names = {each.name for each in SCENARIOS} | {each.name for each in DRIVERS}

    def fits(name: str, words: list[str]) -> bool:
        return not words or any(word == name or (word in name and word not in names) for word in words)

    scenarios = [scenario for scenario in SCENARIOS if fits(scenario.name, of_scenarios)]
    drivers = [driver for driver in DRIVERS if fits(driver.name, of_drivers)]
    found = [(scenario, [driver for driver in drivers if driver.runs(scenario)]) for scenario in scenarios]
    if not any(drivers for _, drivers in found):
        known = ", ".join(sorted(names))
        raise SystemExit(f"ONLY={only}: there is no such driver or scenario; the names are: {known}")
    return found


def rounds(count: int, only: str) -> Iterator[dict[str, Any]]:
    """Run everything ``count`` times; in each round another driver comes first."""
    for number in range(count):
        for scenario, drivers in chosen(only):
            if scenario.rounds and number >= scenario.rounds:
                continue
            turn = number % len(drivers) if drivers else 0
            for driver in drivers[turn:] + drivers[:turn]:
                yield {"round": number} | measure(driver, scenario)


def page(record: Record) -> str:
    """Return the tables of all scenarios, and where they come from."""
    order = {driver.name: position for position, driver in enumerate(DRIVERS)}  # that of the list, whoever came first
    results = Results(sorted(record.runs, key=lambda run: order.get(run["driver"], len(order))))
    parts = [
        f"**{scenario.title}**\n\n{table(results, scenario.name)}"
        for scenario in SCENARIOS
        if scenario.name in results.by_scenario
    ]
    parts += [
        f"{run['driver']}, {run['scenario']}, round {run['round'] + 1}: {run['error']}.\n"
        for run in record.runs
        if "error" in run
    ]
    rounds_run = max((run["round"] for run in record.runs), default=0) + 1
    counted = f"Medians of {rounds_run} rounds" if rounds_run > 1 else "One round"
    parts.append(f"{counted}. {machine.in_words(record.machine)}\n")
    return "\n".join(parts)


#: What the plot shows: scenario, figure, title, digits.
_PANELS: Final = [
    ("throughput-100", "tasks_per_s", "tasks/s, 100 at a time (more is better)", 0),
    ("throughput-100", "cpu_s_per_1000", "CPU s per 1,000 tasks, 100 at a time (less is better)", 3),
    ("arrival-50", "pickup_ms.p99", "pick-up at 50 tasks/s, p99, ms (less is better)", 1),
    ("idle-50", "pss_mb", "memory of 50 idle types, MB (less is better)", 0),
]


def picture(record: Record) -> str:
    """Return the plot of the figures that matter most."""
    results = Results(record.runs)
    panels = []
    for scenario, path, title, digits in _PANELS:
        medians = [(driver.name, results.median(scenario, driver.name, path)) for driver in DRIVERS]
        rows = [(name, found, _colour(name)) for name, found in medians if found is not None]
        if rows:
            panels.append(plot.Bars(title, rows, digits))
    return plot.bars(panels)


def _colour(driver: str) -> int:
    return (OWN, PEER, BARE).index(next(name for name in (OWN, PEER, BARE) if driver.startswith(name)))
