"""What happened to tasks, in order of time: kept by the servers of tests, judged by checker.py.

Times are monotonic seconds, which all processes of one machine share.
"""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Kind(StrEnum):
    """What happened."""

    # on the server
    POLL = "poll"
    GIVEN = "given"
    #: Given in an answer whose own connection was then cut: the worker cannot know of it.
    GIVEN_IN_VAIN = "given in vain"
    HEARTBEAT = "heartbeat"
    #: A terminal report, or one that postpones the task.
    RESULT = "result"
    GIVEN_BACK = "given back"
    #: The server itself ended the attempt.
    TIMED_OUT = "timed out"
    CANCELED = "canceled"
    # in the worker
    STARTED = "started"
    ENDED = "ended"
    #: A stop signal was sent.
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened."""

    at: float
    kind: Kind
    task: str = ""
    #: The worker id that the request or the process gave.
    worker: str = ""
    #: Of a result: its status.
    status: str = ""
    #: Of requests: whether the server acted on it. False for a fault, a second report, an attempt that has ended.
    accepted: bool = True
    #: Of requests: whether the answer reached the worker, as far as the server knows.
    answered: bool = True
    #: Of GIVEN: seconds without a heartbeat after which the server takes the task back; 0 = never.
    response_timeout: float = 0.0


class EventLog:
    """Events of one run; any thread may add."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self._events = list(events)
        self._lock = threading.Lock()

    def add(self, kind: Kind, task: str = "", *, at: float | None = None, **fields: object) -> None:
        event = Event(time.monotonic() if at is None else at, kind, task, **fields)  # type: ignore[arg-type]
        with self._lock:
            self._events.append(event)

    @property
    def events(self) -> list[Event]:
        """All events in order of time."""
        with self._lock:
            return sorted(self._events, key=lambda event: event.at)

    def of(self, *kinds: Kind) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]

    def count(self, *kinds: Kind) -> int:
        with self._lock:
            return sum(event.kind in kinds for event in self._events)

    def by_task(self) -> dict[str, list[Event]]:
        found: dict[str, list[Event]] = defaultdict(list)
        for event in self.events:
            if event.task:
                found[event.task].append(event)
        return found

    def read_notes(self, path: Path) -> None:
        """Add what functions in other processes have noted (see ``note``)."""
        for line in path.read_text().splitlines() if path.exists() else []:
            at, kind, task, worker = line.split(" ")
            self.add(Kind(kind), task, at=float(at), worker=worker)


def note(path: str | Path, kind: Kind, task: str, worker: str = "-") -> None:
    """Note an event in a file that many processes write to: one write each, so lines do not mix."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, f"{time.monotonic()!r} {kind} {task} {worker}\n".encode())
    finally:
        os.close(descriptor)
