"""A child whose loop cannot turn is told apart from one whose functions merely take long."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import crew_stage
import log_samples
import samples
from lone_crew import INTERVAL, Crew, crew_of, task, until
from podium.crew.link import ChildLink
from podium.crew.place import Member
from podium.crew.process import ProcessCrew
from podium.crew.thread import ThreadCrew

#: Much longer than the interval, so that a busy machine does not look like silence.
SILENCE = 1.0


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)


def silent_for(crew: Crew) -> float:
    assert crew.silent_for is not None
    return crew.silent_for


@pytest.fixture
def lags(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Every lag that was noted, in order."""
    noted: list[float] = []
    for place in (ChildLink, ThreadCrew):
        each = property(lambda _self: noted[-1], lambda _self, lag: noted.append(lag))
        monkeypatch.setattr(place, "lag", each, raising=False)
    return noted


BOTH = pytest.mark.parametrize("isolation", ["process", "thread"])


@BOTH
def test_busy_plain_function_is_no_silence(isolation: str, tmp_path: Path) -> None:
    async def test() -> None:
        async with crew_of(samples.waits_for_file, isolation) as crew:
            outcome = crew.run(0, task(path=str(tmp_path / "go"), mark=str(tmp_path / "mark")))
            await until((tmp_path / "mark").exists, "the task")
            loop = asyncio.get_running_loop()
            end, longest = loop.time() + 2 * SILENCE, 0.0
            while loop.time() < end:
                longest = max(longest, silent_for(crew))
                await asyncio.sleep(INTERVAL)
            assert longest < SILENCE
            assert not outcome.done()
            (tmp_path / "go").touch()
            assert (await outcome).status == "COMPLETED"

    run(test())


@BOTH
def test_coroutine_that_blocks_the_loop_is_silence_and_its_end_is_heard(
    isolation: str, tmp_path: Path, lags: list[float]
) -> None:
    async def test() -> None:
        async with crew_of(log_samples.blocks_the_loop, isolation) as crew:
            outcome = crew.run(0, task(path=str(tmp_path / "go"), mark=str(tmp_path / "mark")))
            await until((tmp_path / "mark").exists, "the task")
            await until(lambda: silent_for(crew) > SILENCE, "the silence")
            (tmp_path / "go").touch()
            await until(lambda: silent_for(crew) < SILENCE, "the end of the silence")
            assert (await outcome).status == "COMPLETED"
            await until(lambda: max(lags) > SILENCE / 2, "the beat that came late")
            await until(lambda: lags[-1] < SILENCE / 2, "beats that are in time again")

    run(test())


def test_outcome_of_a_plain_function_is_no_sign_of_life_of_the_loop(tmp_path: Path) -> None:
    async def test() -> None:
        functions = (samples.blocks_until_file_async, samples.waits_for_file)
        async with crew_stage.crew_of(*functions) as stage:
            block, wait = (tmp_path / "block", tmp_path / "wait")
            plain = stage.run(samples.waits_for_file, path=str(wait), mark=str(tmp_path / "plain"))
            await until((tmp_path / "plain").exists, "the plain function")
            blocking = stage.run(samples.blocks_until_file_async, path=str(block), mark=str(tmp_path / "blocking"))
            await until((tmp_path / "blocking").exists, "the coroutine")
            await until(lambda: silent_for(stage.crew) > SILENCE, "the silence")
            heard = stage.link.last_heard
            wait.touch()
            assert (await plain).status == "COMPLETED"  # it does not wait for the loop either
            assert stage.link.last_heard == heard
            assert not blocking.done()
            block.touch()
            assert (await blocking).status == "COMPLETED"
            await until(lambda: silent_for(stage.crew) < SILENCE, "the end of the silence")

    run(test())


def test_stopped_child_is_silent_until_it_goes_on(lags: list[float]) -> None:
    async def test() -> None:
        async with crew_of(samples.returns_none, "process") as crew:
            assert isinstance(crew, ProcessCrew)
            (member,) = crew.members
            link = member.link
            assert link is not None
            os.kill(link.pid, signal.SIGSTOP)
            try:
                await until(lambda: silent_for(crew) > SILENCE, "the silence")
                assert crew.alive
            finally:
                os.kill(link.pid, signal.SIGCONT)
            await until(lambda: silent_for(crew) < SILENCE, "the next beat")
            await until(lambda: max(lags) > SILENCE / 2, "the beat that came late")
            assert member.link is link

    run(test())


def test_parent_that_was_held_up_does_not_take_its_children_for_silent() -> None:
    async def test() -> None:
        async with crew_of(samples.returns_none, "process") as crew:
            end = time.monotonic() + SILENCE + 0.5
            while time.monotonic() < end:  # the engine's loop cannot read what the child says meanwhile
                pass
            assert silent_for(crew) < SILENCE

    run(test())


def test_beats_cease_with_the_child_and_begin_with_the_next() -> None:
    async def test() -> None:
        async with crew_of(samples.returns_none, "process") as crew:
            assert isinstance(crew, ProcessCrew)
            (member,) = crew.members
            assert isinstance(member, Member)
            first = member.link
            assert first is not None
            os.kill(first.pid, signal.SIGKILL)
            await first.exited
            assert crew.silent_for is None
            await until(
                lambda: member.link not in (None, first), "the successor"
            )  # the dead one has its place for a moment
            second = member.link
            assert second is not None
            heard = second.last_heard
            await until(lambda: second.last_heard > heard, "its beat")

    run(test())


@BOTH
def test_interval_of_zero_is_no_beat(isolation: str) -> None:
    async def test() -> None:
        async with crew_of(samples.returns_none, isolation, 0.0) as crew:
            assert crew.silent_for is None
            assert (await crew.run(0, task())).status == "COMPLETED"

    run(test())
