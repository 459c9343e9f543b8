"""What the demo shows: a live progress bar in a terminal, plain lines everywhere else."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from podium.demo.orders import KINDS, PREFIX
from podium.demo.tally import percentile

if TYPE_CHECKING:
    from podium.demo.drive import Drive
    from podium.demo.report import Report

#: Without a terminal: a line at each of so many steps.
_STEPS: Final = 4
#: Workflows that are named when they did not complete.
_NAMED: Final = 10


class Screen:
    """Writes to standard output. NO_COLOR is respected (rich does)."""

    def __init__(self) -> None:
        # Whether this is a terminal is the only question: rich would also believe FORCE_COLOR, into a file.
        live = sys.stdout.isatty()
        self._console = Console(force_terminal=live, width=None if live else 100, highlight=False)
        self._live = self._console.is_terminal and not self._console.is_dumb_terminal

    def say(self, text: str, style: str | None = None) -> None:
        """Write a line."""
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def show_logs(self, *, verbose: bool) -> None:
        """Show podium's warnings, with ``verbose`` also what it tells of its work."""
        root = logging.getLogger()
        root.setLevel(logging.INFO if verbose else logging.WARNING)
        root.addHandler(_LogLines(self))
        if not verbose:  # some orders fail on purpose; the table counts them
            logging.getLogger("podium.tasks").setLevel(logging.ERROR)

    @contextmanager
    def progress(self, total: int) -> Iterator[Callable[[Drive], None]]:
        """Show how many of ``total`` workflows have ended, for the time of the block."""
        if not self._live:
            yield _Lines(self, total)
            return
        columns = (TextColumn("workflows"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task("workflows", total=total)
            yield lambda drive: bar.update(task, completed=len(drive.ended))

    def report(self, report: Report) -> None:
        """Show the numbers of a run, and what went wrong."""
        drive = report.drive
        self.say("")
        self._console.print(_table(report))
        self.say("")
        tasks = sum(counts.calls for counts in report.heard.counts.values())
        seconds = max(drive.elapsed, 0.001)
        self.say(
            f"workflows: {drive.completed} of {drive.orders} completed, {drive.orders - drive.completed} not, "
            f"in {seconds:.1f} s: {drive.completed / seconds:.1f} workflows/s, {tasks / seconds:.0f} tasks/s"
        )
        if report.differences:
            self.say("the event listener and the server's records do not agree:", "yellow")
            for line in report.differences:
                self.say(f"  {line}")
        else:
            self.say("the event listener and the server's records agree on every call, failure and retry")
        if report.problems:
            self.say(f"{len(report.problems)} workflows did not complete:", "bold red")
            for line in report.problems[:_NAMED]:
                self.say(f"  {line}")
            if (more := len(report.problems) - _NAMED) > 0:
                self.say(f"  ... and {more} more")

    def next_steps(self) -> None:
        """Show what to try after a good run."""
        steps = (
            ("podium server", "a server that stays, on port 8080"),
            ("python examples/hello_worker.py", "a worker for it, in a second terminal"),
            ("podium demo --server http://HOST:8080/api", "this on a real Conductor server"),
        )
        self.say("")
        self.say("next:", "bold")
        for command, text in steps:
            self.say(f"  {command:<44}{text}")


class _Lines:
    """Progress as a few lines."""

    def __init__(self, screen: Screen, total: int) -> None:
        self._screen = screen
        self._total = total
        self._begun = time.monotonic()
        self._step = 0

    def __call__(self, drive: Drive) -> None:
        step = len(drive.ended) * _STEPS // self._total
        if step > self._step:
            self._step = step
            seconds = time.monotonic() - self._begun
            self._screen.say(f"{len(drive.ended)} of {self._total} workflows have ended after {seconds:.1f} s")


class _LogLines(logging.Handler):
    """Writes log records as lines above the progress bar."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen
        self.setFormatter(logging.Formatter("%(levelname)-8s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._screen.say(self.format(record), "yellow" if record.levelno >= logging.WARNING else "dim")


def _table(report: Report) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("task", "worker"):
        table.add_column(title)
    for title in ("calls", "failed", "retries", "call, ms\np50 / p95", "in queue, ms\np50 / p95"):
        table.add_column(title, justify="right")
    for task_type, kind in KINDS.items():
        counts = report.heard.counts[task_type]
        table.add_row(
            task_type.removeprefix(PREFIX),
            kind,
            *(f"{number:,}" for number in (counts.calls, counts.failures, counts.retries)),
            *(_spread(numbers.times[task_type]) for numbers in (report.heard, report.recorded)),
        )
    return table


def _spread(milliseconds: list[float]) -> str:
    """Return the middle and the slow end of some times."""
    if not milliseconds:
        return "-"
    ends = [percentile(milliseconds, percent) for percent in (50, 95)]
    return " / ".join(f"{value:,.1f}" if ends[1] < 10 else f"{value:,.0f}" for value in ends)
