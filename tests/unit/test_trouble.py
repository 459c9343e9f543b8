"""How seldom trouble is told: once, its end, and not again soon when it comes and goes."""

from __future__ import annotations

import logging

import pytest

import virtual_time
from podium import trouble
from podium.errors import ConnectError
from podium.trouble import SharedTrouble, Trouble


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> virtual_time.Clock:
    clock = virtual_time.Clock()
    monkeypatch.setattr(trouble, "time", clock)
    caplog.set_level(logging.INFO)
    return clock


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    lines = [f"{record.levelname} {record.getMessage()}" for record in caplog.records]
    caplog.clear()
    return lines


def test_polls_that_fail_now_and_then_are_told_once_in_ten_seconds(
    clock: virtual_time.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    polls = Trouble("t")
    for _ in range(20):  # twenty failures in 19 s, each followed by a success
        polls.delay_after(ConnectError("refused"))
        polls.over()
        clock.now += 1
    lines = told(caplog)
    assert [line for line in lines if "WARNING" in line] == ["WARNING polling for 't' failed: refused"] * 2
    assert len(lines) == 4


def test_failures_that_were_too_soon_to_be_told_are_told_if_they_last(
    clock: virtual_time.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    polls = Trouble("t")
    polls.delay_after(ConnectError("first"))
    polls.over()
    told(caplog)
    for second in range(1, 61):
        clock.now = 1000.0 + second
        polls.delay_after(ConnectError(f"second {second}"))
    assert told(caplog) == ["WARNING polling for 't' failed: second 10"]
    clock.now += 10
    polls.delay_after(ConnectError("still"))
    assert told(caplog) == ["WARNING polling for 't' is still failing, 61 times in 69 s: still"]
    polls.over()
    assert told(caplog) == ["INFO polling for 't' works again after 61 failures in 69.0 s"]


def test_shared_trouble_that_comes_and_goes_is_told_once_in_ten_seconds(
    clock: virtual_time.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    updates = SharedTrouble(logging.getLogger("podium.x"), "lost %s: %s", "all well")
    for number in range(20):
        updates.failed(f"a{number}", "why")
        updates.failed(f"b{number}", "why")
        updates.worked(f"a{number}")
        (updates.forget if number % 2 else updates.worked)(f"b{number}")
        clock.now += 1
    assert told(caplog) == ["WARNING lost a0: why", "INFO all well", "WARNING lost a10: why", "INFO all well"]
