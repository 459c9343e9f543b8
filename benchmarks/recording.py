"""Runs are written as they come, so that what was measured survives what comes later."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks import machine
from benchmarks.figures import Record, Run


def record(target: Path, runs: Iterable[Run], one_line: Callable[[Run], str]) -> Record:
    """Write runs into a file of JSON lines, after one about the machine, and say each in a line; return them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w") as lines:
        lines.write(json.dumps({"machine": machine.describe()}) + "\n")
        for run in runs:
            print(one_line(run), flush=True)
            lines.write(json.dumps(run) + "\n")
            lines.flush()
    return Record.read(target)
