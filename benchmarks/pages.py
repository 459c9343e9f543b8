"""The recorded results, put into the pages that show them.

A page has a section from ``<!-- bench: NAME -->`` to ``<!-- /bench -->`` where it wants the text of that name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks import breakdown, compare, embedded, growth, machine, redelivery, soak
from benchmarks.figures import Column, Record, Results, columns_of, markdown, number, table
from benchmarks.processes import ROOT
from benchmarks.scenarios import BARE, DRIVERS, OWN

RESULTS: Final = ROOT / "benchmarks/results"
PAGES: Final = (ROOT / "README.md", ROOT / "docs/performance.md")
#: The record of a comparison bench with drivers of other SDKs.
COMPARISON: Final = "comparison"
_SECTION: Final = re.compile(r"(<!-- bench: ([a-z-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
#: Not SDKs: what is only there to show the limit.
_LIMITS: Final = (BARE, "wire")

#: The scenarios of a comparison bench that are shown, and their titles.
_COMPARED: Final = {
    "throughput-100": "Throughput, 100 tasks at a time",
    "throughput-10": "Throughput, 10 tasks at a time",
    "arrival-50": "50 tasks a second, 10 at a time",
    "startup-1": "Start, until the first poll",
    "idle-50": "50 task types without tasks",
}


def comparison(record: Record) -> str:
    """Return the tables of a comparison bench."""
    results = Results(record.runs)
    yardsticks = ("python", "go")
    tables = [
        f"**{title}**\n\n{table(results, scenario, yardsticks)}"
        for scenario, title in _COMPARED.items()
        if scenario in results.by_scenario
    ]
    return "\n".join([*tables, f"{machine.in_words(record.machine)}\n"])


def adopt(path: Path) -> None:
    """Take over the runs of a comparison bench, without what they say of its settings and logs."""
    described = {"machine": machine.describe()}
    runs = [
        {key: value for key, value in run.items() if not key.startswith(("log", "settings"))}
        for run in Record.read(path).runs
    ]
    lines = "".join(f"{json.dumps(line)}\n" for line in (described, *runs))
    (RESULTS / f"{COMPARISON}.jsonl").write_text(lines)


#: What the short table shows: heading, scenario and figure.
_SUMMARY: Final = [
    ("tasks/s, 100 at a time", "throughput-100", Column("", "tasks_per_s", 0, "more")),
    ("CPU s per 1,000 tasks", "throughput-100", Column("", "cpu_s_per_1000", 2, "less")),
    ("pick-up at 50 tasks/s, p99 ms", "arrival-50", Column("", "pickup_ms.p99", 1, "less")),
    ("start s", "start-up", Column("", "startup_s", 2, "less")),
    ("memory of 50 idle types, MB", "idle-50", Column("", "pss_mb", 0, "less")),
]


def summary(record: Record) -> str:
    """Return a short table of the drivers, and the machine."""
    results = Results(record.runs)
    measured = {run["driver"] for run in record.runs}
    drivers = [driver.name for driver in DRIVERS if driver.name in measured]
    rows = [["", *(heading for heading, _, _ in _SUMMARY)]]
    for driver in drivers:
        found = [(results.median(scenario, driver, column.path), column) for _, scenario, column in _SUMMARY]
        rows.append([driver, *(number(value, column.digits) for value, column in found)])
    return f"{markdown(rows)}\n{machine.in_words(record.machine)}\n"


def losses(record: Record) -> str:
    """Return a table of the figures in which an SDK is ahead of podium: of podium's best there."""
    rows = [["", "figure", "podium", "ahead"]]
    results = Results(record.runs)
    for scenario, drivers in results.by_scenario.items():
        for column in columns_of(scenario):
            own = results.best(scenario, OWN, column) if column.better else None
            if own is None:
                continue
            ahead = [
                f"{driver}: {number(found, column.digits)}"
                for driver in drivers
                if not driver.startswith((OWN, *_LIMITS))
                and (found := results.median(scenario, driver, column.path)) is not None
                and (found > own if column.better == "more" else found < own)
            ]
            if ahead:
                rows.append([scenario, column.heading, number(own, column.digits), ", ".join(ahead)])
    return markdown(rows) if len(rows) > 1 else "In none of the figures that are compared.\n"


#: Section -> the record that it comes from, and what makes its text.
SECTIONS: Final[dict[str, tuple[str, Callable[[Record], str]]]] = {
    "summary": (compare.NAME, summary),
    "compare": (compare.NAME, compare.page),
    "losses": (compare.NAME, losses),
    "comparison": (COMPARISON, comparison),
    "comparison-losses": (COMPARISON, losses),
    "growth": (growth.NAME, growth.page),
    "soak": (soak.NAME, soak.page),
    "embedded": (embedded.NAME, embedded.page),
    "redelivery": (redelivery.NAME, redelivery.page),
    "breakdown": (breakdown.NAME, breakdown.page),
}
PICTURES: Final[dict[str, Callable[[Record], str]]] = {compare.NAME: compare.picture, growth.NAME: growth.picture}


def rewritten(text: str, results: Path = RESULTS) -> str:
    """Return a page with its sections made anew; one without a record says so."""

    def section(found: re.Match[str]) -> str:
        if found[2] not in SECTIONS:
            raise SystemExit(f"there is no section {found[2]!r}, only {', '.join(SECTIONS)}")
        name, text_of = SECTIONS[found[2]]
        path = results / f"{name}.jsonl"
        inside = text_of(Record.read(path)) if path.exists() else "Not recorded yet.\n"
        return f"{found[1]}{inside}{found[3]}"

    return _SECTION.sub(section, text)


def rewrite() -> None:
    """Make the pictures and the sections of all pages anew."""
    for name, picture in PICTURES.items():
        if (path := RESULTS / f"{name}.jsonl").exists():
            (RESULTS / f"{name}.svg").write_text(picture(Record.read(path)))
    for page in PAGES:
        before = page.read_text()
        after = rewritten(before)
        page.write_text(after)
        print(f"{page.relative_to(ROOT)}: {'written' if after != before else 'as it was'}")
