"""What children write to standard error: it arrives unchanged, and nobody waits for ever for one who does not read."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import crash_samples
import samples
from crew_stage import appears, crew_of, seen

PATIENCE = 0.3


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podium.crew.logs.SEND_SECONDS", PATIENCE)
    monkeypatch.setattr("podium.crew.streams.SEND_SECONDS", PATIENCE)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A pipe that stands for this process's standard error: the ends to read and to write."""
    ends = os.pipe()
    monkeypatch.setattr("podium.crew.logs._STDERR", ends[1])
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def _run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_everything_arrives_unchanged_and_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any
) -> None:
    """More than all the buffers on the way hold: the child waits for the reader."""
    monkeypatch.setattr("podium.crew.logs._ERRORS_LIMIT", 20_000)
    line = "0123456789" * 20

    async def main() -> None:
        async with crew_of(crash_samples.writes_errors, method=method) as stage:
            outcome = await stage.run(crash_samples.writes_errors, text=line, times=5000)
            assert outcome.status == "COMPLETED"

    with (tmp_path / "stderr").open("wb") as file:
        monkeypatch.setattr("podium.crew.logs._STDERR", file.fileno())
        _run(main)
    assert (tmp_path / "stderr").read_text() == f"{line}\n" * 5000


def test_child_does_not_wait_for_ever_for_a_reader_and_what_is_dropped_is_told(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    size = 3_000_000

    async def main() -> None:
        async with crew_of(crash_samples.writes_errors) as stage:
            begun = time.monotonic()
            async with asyncio.timeout(15):
                await stage.run(crash_samples.writes_errors, text="x" * (size - 1))
            assert time.monotonic() - begun >= PATIENCE
            assert not [text for text in caplog.messages if "dropped" in text]
            await seen(lambda: stage.logs._errors_dropped, "what is dropped")
            os.set_blocking(pipe[0], False)
            got = bytearray(_all_of(pipe[0]))
            await stage.run(crash_samples.writes_errors, text="at last")

            def come() -> bool:
                got.extend(_all_of(pipe[0]))
                return got.endswith(b"at last\n")

            await seen(come, "what comes now")
            (told,) = await seen(lambda: [text for text in caplog.messages if "dropped" in text], "the count")
            dropped = size - (len(got) - len(b"at last\n"))
            assert told.startswith(f"{dropped} bytes that worker processes wrote to standard error were dropped")

    _run(main)


def _all_of(fd: int) -> bytes:
    found = b""
    try:
        while data := os.read(fd, 1 << 20):
            found += data
    except BlockingIOError:
        pass
    return found


@pytest.mark.parametrize("which", ["reader", "both"])
def test_A18_worker_goes_on_without_a_standard_error(
    pipe: tuple[int, int], which: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.close(pipe[0])
    if which == "both":
        monkeypatch.setattr("podium.crew.logs._STDERR", 9999)  # nobody opens so many files here

    async def main() -> None:
        async with crew_of(crash_samples.writes_errors, samples.returns_none) as stage:
            for _ in range(3):
                outcome = await stage.run(crash_samples.writes_errors, text="x" * 1000, times=500)
                assert outcome.status == "COMPLETED"
            assert (await stage.run(samples.returns_none)).status == "COMPLETED"
            assert stage.crew.alive

    _run(main)
    assert caplog.messages == []


PROGRAM = """
import asyncio, os, sys
import crash_samples
from crew_stage import crew_of

async def main():
    async with crew_of(crash_samples.writes_errors, method=sys.argv[1]) as stage:
        outcome = await stage.run(crash_samples.writes_errors, text="not for a socket", times=100)
        print(outcome.status, os.readlink(f"/proc/{stage.link.pid}/fd/2")[:5], flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_program_that_was_started_without_a_standard_error_does_not_take_a_connection_for_it(method: str) -> None:
    program = ["/bin/sh", "-c", 'exec "$0" -c "$1" "$2" 2>&-', sys.executable, PROGRAM, method]
    tests = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, *sys.path])}
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, timeout=30, env=environment, check=True)
    assert done.stdout == "COMPLETED pipe:\n"


def test_what_a_dead_child_has_left_behind_can_still_write(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[0], False)
    mark = tmp_path / "mark"

    async def main() -> None:
        async with crew_of(crash_samples.leaves_a_writer) as stage:
            assert (await stage.run(crash_samples.leaves_a_writer, mark=str(mark))).status == "FAILED"
            await seen(lambda: stage.crew.alive, "the next child")
            mark.touch()
            await seen(lambda: Path(f"{mark}.done").exists(), "its end")
            await seen(lambda: _all_of(pipe[0]) == b"from beyond\n", "its words")

    _run(main)


def test_idle_children_cause_no_turn_of_the_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from podium.crew.streams import ErrorStream, RecordStream

    turns: list[str] = []
    for stream in (ErrorStream, RecordStream):
        monkeypatch.setattr(stream, "_on_readable", lambda self: turns.append(type(self).__name__))

    async def main() -> None:
        async with crew_of(samples.waits_for_file, processes=2) as stage:
            future = stage.run(samples.waits_for_file, path=str(tmp_path / "go"), mark=str(tmp_path / "mark"))
            await appears(tmp_path / "mark")
            (tmp_path / "go").touch()
            await future
            assert turns == []

    _run(main)
