"""What a place in a crew says of its children's ends."""

from __future__ import annotations

import logging

import pytest

from podium import logs
from podium.crew.death import indented
from podium.crew.launch import SpawnLauncher
from podium.crew.link import Source
from podium.crew.logs import ChildLogs
from podium.crew.place import Member, RestartPolicy, Shared
from podium.crew.recycling import Recycling
from podium.frames import Boot, Preparation
from podium.records import encode_record, plain_fields

BOOT = Boot("w", [], [], Preparation([], [], b"/"), {})


def test_same_end_is_told_once_and_then_with_its_number(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    shared = Shared(
        source=Source(BOOT, [], SpawnLauncher(), ChildLogs()), restart=RestartPolicy(), recycling=Recycling(),
        alone=True, on_change=lambda: None, on_restart=lambda: None, on_recycle=lambda: None,
        on_death=lambda _death, _lost: None,
    )  # fmt: skip
    member = Member("w\n", shared)
    for _ in range(3):
        member._complain("worker process killed by SIGKILL", "; it was idle")
    member._complain("could not be restarted: no process to be had", "")
    now += logs.REPEAT_SECONDS
    member._complain("worker process killed by SIGKILL", "; it was idle")
    assert caplog.messages == [
        "w\\n: worker process killed by SIGKILL; it was idle",
        "w\\n: could not be restarted: no process to be had",
        "w\\n: worker process killed by SIGKILL (4 times in 60 s); it was idle",
    ]


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028"])
def test_words_of_a_child_cannot_look_like_a_record_of_their_own(end: str) -> None:
    words = f"ValueError:{end}Traceback ...{end}2026-01-01 CRITICAL\x1b[31m forged"
    assert indented(words).split("\n") == [
        "ValueError:",
        "    Traceback ...",
        "    2026-01-01 CRITICAL\\x1b[31m forged",
    ]


def test_filter_that_always_fails_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    def failing(record: logging.LogRecord) -> bool:
        raise TypeError(record.name)

    target = logging.getLogger("samples.log")
    target.addFilter(failing)
    writer = ChildLogs()
    record = logging.LogRecord("samples.log", logging.ERROR, "", 0, "m", (), None)
    try:
        for _ in range(5):
            writer.write(encode_record(plain_fields(record)))
        writer.write(b"no record at all")
        writer.close()
    finally:
        target.removeFilter(failing)
    assert caplog.messages == [
        "a log record of 'samples.log' could not be written",
        "a log record of '(unknown)' could not be written",
    ]
