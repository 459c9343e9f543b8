"""The checker itself: each invariant with a log that breaks it, and with one that only seems to."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from checker import (
    MARK,
    check,
    every_task_ends,
    leases_are_kept,
    no_process_left,
    nothing_after_a_give_back,
    nothing_starts_after_the_stop,
    processes_with,
    quiet,
    running_within_slots,
    secrets_nowhere,
)
from event_log import Event, EventLog, Kind, note
from rig import unique, until

G, R, H, B, S, E = Kind.GIVEN, Kind.RESULT, Kind.HEARTBEAT, Kind.GIVEN_BACK, Kind.STARTED, Kind.ENDED


def log(*events: tuple[float, Kind, str] | tuple[float, Kind, str, dict[str, Any]]) -> list[Event]:
    return [Event(entry[0], entry[1], entry[2], **(entry[3] if len(entry) == 4 else {})) for entry in events]


REFUSED: dict[str, Any] = {"accepted": False}
LEASED: dict[str, Any] = {"response_timeout": 10.0}
LOST: dict[str, Any] = {"answered": False}


@pytest.mark.parametrize(
    "events",
    [
        log((1, G, "a")),
        log((1, G, "a"), (2, R, "a", REFUSED)),
        log((1, G, "a"), (2, H, "a")),
        log((1, G, "a"), (2, G, "a"), (3, R, "a")),
        log((1, G, "a"), (2, B, "a"), (3, G, "a")),
        log((1, R, "a")),
    ],
    ids=["silence", "refused", "only a heartbeat", "twice", "given back, then silence", "of nobody"],
)
def test_I1_broken(events: list[Event]) -> None:
    assert list(every_task_ends(events))


def test_I1_kept() -> None:
    events = log(
        (1, G, "a"), (2, R, "a", LOST), (3, R, "a", REFUSED),
        (1, G, "b"), (2, B, "b"), (3, G, "b"), (4, R, "b"),
        (1, G, "c"), (2, Kind.TIMED_OUT, "c"), (3, R, "c", REFUSED),
        (1, Kind.GIVEN_IN_VAIN, "d"), (1, G, "e"),
    )  # fmt: skip
    assert list(every_task_ends(events, still_in_hand=["e"])) == []


def test_I2() -> None:
    stop = (2.0, Kind.STOP, "")
    assert list(nothing_starts_after_the_stop(log((1, S, "a"), stop, (2.04, S, "b")))) == []
    assert list(nothing_starts_after_the_stop(log(stop, (2.06, S, "b"))))
    other = (2.0, Kind.STOP, "", {"worker": "w1"})
    assert list(nothing_starts_after_the_stop(log(other, (3, S, "b", {"worker": "w2"})))) == []
    assert list(nothing_starts_after_the_stop(log(other, (3, S, "b", {"worker": "w1"}))))


def test_I3() -> None:
    two = log((1, S, "a"), (2, S, "b"), (3, E, "a"), (4, S, "c"))
    assert list(running_within_slots(two, 2)) == []
    assert len(list(running_within_slots(two, 1))) == 2
    assert list(running_within_slots(log((1, S, "a"), (2, S, "a")), 2))
    named = log((1, S, "a", {"worker": "x"}), (2, S, "b", {"worker": "y"}))
    assert list(running_within_slots(named, {"x": 1, "y": 1})) == []
    assert list(running_within_slots(named, {"x": 1, "y": 0}))


def test_I4() -> None:
    kept = log((0, G, "a", LEASED), (4, H, "a"), (10, H, "a"), (16, R, "a"))
    assert list(leases_are_kept(kept)) == []
    assert list(leases_are_kept(log((0, G, "a", LEASED), (6.1, H, "a"), (7, R, "a"))))
    assert list(leases_are_kept(log((0, G, "a", LEASED), (4, H, "a", REFUSED), (7, H, "a"), (8, R, "a"))))
    assert list(leases_are_kept(log((0, G, "a", LEASED), (6.1, R, "a")), patience=0.2)) == []
    assert list(leases_are_kept(log((0, G, "a"), (99, R, "a")))) == []
    assert list(leases_are_kept(log((0, G, "a", LEASED), (10, Kind.TIMED_OUT, "a")))) == []


@pytest.mark.parametrize("kind", [R, H, B])
def test_I5_broken(kind: Kind) -> None:
    assert list(nothing_after_a_give_back(log((1, G, "a"), (2, B, "a"), (3, kind, "a"))))


def test_I5_broken_by_the_former_holder() -> None:
    x, y = {"worker": "x"}, {"worker": "y"}
    events = log((1, G, "a", x), (2, B, "a", x), (3, G, "a", y), (4, R, "a", x))
    assert list(nothing_after_a_give_back(events))
    assert list(nothing_after_a_give_back([*events[:3], Event(4, R, "a", "y")])) == []


def test_I5_kept() -> None:
    unaware = log((1, G, "a"), (2, B, "a", LOST), (2.5, H, "a", REFUSED), (3, B, "a", REFUSED))
    assert list(nothing_after_a_give_back(unaware)) == []
    assert list(nothing_after_a_give_back([*unaware, Event(4, H, "a")]))
    assert list(nothing_after_a_give_back(log((1, G, "a"), (2, B, "a"), (2.01, H, "a")))) == []
    assert list(nothing_after_a_give_back(log((1, G, "a"), (2, B, "a"), (3, G, "a"), (4, H, "a"), (5, R, "a")))) == []


def test_check_names_every_breach() -> None:
    events = EventLog(log((1, G, "a", LEASED), (2, B, "a"), (3, R, "a"), (4, S, "b"), (5, S, "c"), (1, Kind.STOP, "")))
    with pytest.raises(AssertionError, match=r"(?s)^\d+ breaches.*I1.*I2.*I3.*I5"):
        check(events, slots=1)
    check(EventLog(log((1, G, "a"), (2, R, "a"))), slots=1)


def test_I6_process_that_lives_on(tmp_path: Path) -> None:
    mark = unique("mark")
    environment = {**os.environ, MARK: mark}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=environment) as process:
        until(lambda: process.pid in processes_with(mark), "the process")
        with pytest.raises(AssertionError, match=f"I6: 1 processes live.*{process.pid}"):
            no_process_left(mark, deadline=0.1)
        with pytest.raises(AssertionError, match="I7: 'input' is in arguments"):
            secrets_nowhere(["input"], mark=mark)
        process.communicate(b"\n")
    no_process_left(mark)


def test_I7_secret_in_text_or_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    secrets_nowhere(["geheim"], ["a text"], [tmp_path])
    (tmp_path / "deep" / "file").write_bytes(b"\0geheim\0")
    with pytest.raises(AssertionError, match=r"I7: 'geheim' is in .*file"):
        secrets_nowhere(["geheim"], folders=[tmp_path])
    with pytest.raises(AssertionError, match="I7: 'geheim' is in text 0"):
        secrets_nowhere(["geheim"], ["so geheim"])


def record(at: float, message: str, *arguments: object, level: int = logging.WARNING) -> logging.LogRecord:
    made = logging.LogRecord("podium.x", level, "", 0, message, arguments, None)
    made.created = at
    return made


def test_I8() -> None:
    quiet([record(1, "lost %s", "a"), record(2, "found %s", "a"), record(12, "lost %s", "b")])
    quiet([record(1, "lost %s", "a", level=logging.INFO), record(2, "lost %s", "b", level=logging.INFO)])
    with pytest.raises(AssertionError, match="I8: logged again after 9"):
        quiet([record(1, "lost %s", "a"), record(10, "lost %s", "b")])


def test_notes_of_many_threads_are_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    before = time.monotonic()
    threads = [threading.Thread(target=note, args=(path, S, f"t{number}", "w")) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = EventLog()
    events.read_notes(path)
    assert {event.task for event in events.events} == {f"t{number}" for number in range(20)}
    assert all(before <= event.at <= time.monotonic() and event.worker == "w" for event in events.events)
    assert set(events.by_task()) == {f"t{number}" for number in range(20)}
