"""The invariants I1 to I8 that hold whatever happens, asserted over what happened.

    check(server.log, slots=20)               # I1 to I5
    no_process_left(mark)                     # I6
    secrets_nowhere(secrets, logs, [folder])  # I7
    quiet(records)                            # I8

Each invariant is a function that returns the breaches as sentences; ``check`` asserts that there are none.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from event_log import Event, EventLog, Kind

#: I2: a function that starts within these seconds after the signal had been started before it.
START_LATENCY = 0.05
#: I4: the longest gap between signs of life, as a share of the response timeout.
GAP_SHARE = 0.6
#: I5: a heartbeat that was on its way while the task was given back arrives within these seconds.
IN_FLIGHT = 0.05
#: I6: seconds within which marked processes must be gone.
LAST_GASP = 2.0
#: I8: seconds in which one kind of error is logged once.
LOG_WINDOW = 10.0
#: The environment variable by which processes of a test are known; children inherit it.
MARK = "PODIUM_TEST_MARK"

_HELD_BY_SERVER = {Kind.TIMED_OUT, Kind.CANCELED}


def check(
    log: EventLog,
    *,
    slots: int | Mapping[str, int] | None = None,
    patience: float = 0.0,
    still_in_hand: Iterable[str] = (),
) -> None:
    """Assert I1 to I5; I2 and I3 need the worker's own events, I3 also its slots.

    ``patience`` seconds are added to what the bounds on time allow: a machine that tests share is at times late.
    ``still_in_hand`` are tasks that are known to be under way, if the log ends before the workers do.
    """
    breaches = [
        *every_task_ends(log.events, still_in_hand),
        *nothing_starts_after_the_stop(log.events, patience),
        *(running_within_slots(log.events, slots) if slots is not None else ()),
        *leases_are_kept(log.events, patience),
        *nothing_after_a_give_back(log.events, patience),
    ]
    assert not breaches, f"{len(breaches)} breaches:\n" + "\n".join(breaches[:20])


def every_task_ends(events: Iterable[Event], still_in_hand: Iterable[str] = ()) -> Iterator[str]:
    """I1: each time a task is given, one accepted report or a give-back follows, unless the server took it back."""
    held: dict[str, Event] = {}
    known = set(still_in_hand)
    for event in events:
        name = event.task
        if event.kind is Kind.GIVEN:
            if name in held:
                yield f"I1: task {name}, given at {held[name].at:.3f}, was given again at {event.at:.3f} with no end"
            held[name] = event
        elif (event.kind in {Kind.RESULT, Kind.GIVEN_BACK} and event.accepted) or event.kind in _HELD_BY_SERVER:
            if event.kind is Kind.RESULT and name not in held:
                yield f"I1: the report of task {name} at {event.at:.3f} was accepted, but nobody had the task"
            held.pop(name, None)
    for name, event in held.items():
        if name not in known:
            yield f"I1: task {name}, given at {event.at:.3f} to {event.worker!r}, was neither reported nor given back"


def nothing_starts_after_the_stop(events: Iterable[Event], patience: float = 0.0) -> Iterator[str]:
    """I2: no function starts later than 50 ms after the stop signal (of its worker, if the signal names one)."""
    stops: dict[str, float] = {}
    for event in events:
        if event.kind is Kind.STOP:
            stops.setdefault(event.worker, event.at)
        elif event.kind is Kind.STARTED:
            stop = min((at for worker, at in stops.items() if worker in {"", event.worker}), default=None)
            if stop is not None and event.at - stop > START_LATENCY + patience:
                yield f"I2: task {event.task} started {event.at - stop:.3f} s after the stop signal"


def running_within_slots(events: Iterable[Event], slots: int | Mapping[str, int]) -> Iterator[str]:
    """I3: at no time does a worker run more functions than it has slots; nor one task twice at once."""
    running: dict[str, set[str]] = defaultdict(set)
    for event in events:
        now = running[event.worker]
        if event.kind is Kind.STARTED:
            if any(event.task in tasks for tasks in running.values()):
                yield f"I3: task {event.task} runs twice at {event.at:.3f}"
            now.add(event.task)
            limit = slots if isinstance(slots, int) else slots[event.worker]
            if len(now) > limit:
                yield f"I3: {len(now)} functions of {event.worker!r} run at {event.at:.3f}, which has {limit} slots"
        elif event.kind is Kind.ENDED:
            now.discard(event.task)


def leases_are_kept(events: Iterable[Event], patience: float = 0.0) -> Iterator[str]:
    """I4: from take to accepted report, signs of life come at least every 0.6 of the response timeout."""
    signs: dict[str, list[float]] = {}
    limits: dict[str, float] = {}
    for event in events:
        name = event.task
        if event.kind is Kind.GIVEN and event.response_timeout > 0:
            signs[name], limits[name] = [event.at], event.response_timeout * GAP_SHARE + patience
        elif name in signs:
            if event.kind in _HELD_BY_SERVER:
                del signs[name]
            elif event.kind in {Kind.HEARTBEAT, Kind.RESULT, Kind.GIVEN_BACK} and event.accepted:
                signs[name].append(event.at)
                if event.kind is not Kind.HEARTBEAT:
                    times = signs.pop(name)
                    gaps = [later - earlier for earlier, later in pairwise(times)]
                    if max(gaps) > limits[name]:
                        yield f"I4: task {name}, given at {times[0]:.3f}, was silent for {max(gaps):.2f} s"


def nothing_after_a_give_back(events: Iterable[Event], patience: float = 0.0) -> Iterator[str]:
    """I5: nothing is sent for a task after its give-back, by whoever gave it back, until it is given anew.

    As long as its answers are lost, it may be sent again, and heartbeats go on: the worker cannot know that it arrived.
    """
    given_back: dict[str, Event] = {}
    #: By task: who holds it, and who has given it back.
    holders: dict[str, str] = {}
    former: dict[str, set[str | None]] = defaultdict(set)
    for event in events:
        before = given_back.get(event.task)
        if event.kind is Kind.GIVEN:
            given_back.pop(event.task, None)
            holder, holders[event.task] = holders.get(event.task), event.worker
            if holder not in {None, event.worker}:
                former[event.task].add(holder)
        elif event.kind not in {Kind.HEARTBEAT, Kind.RESULT, Kind.GIVEN_BACK}:
            continue
        elif before is not None:
            unaware = event.kind is not Kind.RESULT and not before.answered
            on_its_way = event.kind is Kind.HEARTBEAT and event.at - before.at <= IN_FLIGHT + patience
            if event.kind is Kind.GIVEN_BACK:
                given_back[event.task] = event
            if not unaware and not on_its_way:
                late = event.at - before.at
                yield f"I5: a {event.kind} of task {event.task} came {late:.3f} s after its give-back"
        elif event.worker in former[event.task] and event.worker != holders[event.task]:
            yield f"I5: a {event.kind} of task {event.task} came from {event.worker}, which had given it back"
        elif event.kind is Kind.GIVEN_BACK and event.accepted:
            given_back[event.task] = event


def no_process_left(mark: str, deadline: float = LAST_GASP) -> None:
    """I6: no process with our mark in its environment lives 2 s after the end. Asserts; looks until then."""
    end = time.monotonic() + deadline
    while left := processes_with(mark):
        assert time.monotonic() < end, f"I6: {len(left)} processes live {deadline} s after the end: {left}"
        time.sleep(0.02)


def processes_with(mark: str) -> dict[int, str]:
    """Return the command line of each process, zombies apart, that has our mark in its environment."""
    sign = f"{MARK}={mark}".encode()
    found = {}
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if sign in (directory / "environ").read_bytes().split(b"\0"):
                found[int(directory.name)] = (
                    (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                )
        except OSError:  # it ended meanwhile, or is not ours
            continue
    return found


def secrets_nowhere(
    secrets: Iterable[str], texts: Iterable[str] = (), folders: Iterable[Path] = (), mark: str | None = None
) -> None:
    """I7: planted secrets stand in none of these texts, in no file below these folders, in no argument of a process."""
    places = {f"text {number}": text.encode() for number, text in enumerate(texts)}
    for folder in folders:
        files = [folder] if folder.is_file() else [path for path in folder.rglob("*") if path.is_file()]
        places |= {str(path): path.read_bytes() + path.name.encode() for path in files}
    if mark is not None:
        places |= {f"arguments of process {pid}": line.encode() for pid, line in processes_with(mark).items()}
    found = [
        f"I7: {secret!r} is in {where}"
        for where, text in places.items()
        for secret in secrets
        if secret.encode() in text
    ]
    assert not found, "\n".join(found)


def noisy(records: Iterable[logging.LogRecord], window: float = LOG_WINDOW) -> Iterator[str]:
    """I8: one kind of warning or error, whatever it is filled in with, is logged once in 10 s.

    Failures of the users' functions are left out: each of them is news.
    """
    last: dict[tuple[str, str, int], float] = {}
    for record in sorted(records, key=lambda record: record.created):
        if record.levelno < logging.WARNING or record.name == "podium.tasks":
            continue
        kind = (record.name, str(record.msg), record.levelno)
        before = last.get(kind)
        if before is not None and record.created - before < window:
            yield f"I8: logged again after {record.created - before:.2f} s: {record.getMessage()}"
        else:
            last[kind] = record.created


def quiet(records: Iterable[logging.LogRecord], window: float = LOG_WINDOW) -> None:
    """Assert I8."""
    found = list(noisy(records, window))
    assert not found, f"{len(found)} lines too many:\n" + "\n".join(found[:10])
