"""Where children are: asked while they work, block, hold the GIL, and while they cannot answer."""

from __future__ import annotations

import asyncio
import faulthandler
import inspect
import os
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import crash_samples
import samples
from crew_stage import appears, crew_of, result_of, seen
from podium import stacks, testimony
from podium.crew.inquiry import state_of


def _run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def _lines_of(function: Callable[..., Any]) -> range:
    lines, start = inspect.getsourcelines(function)
    return range(start, start + len(lines))


def _is_in(place: str, function: Callable[..., Any]) -> bool:
    found = re.fullmatch(rf"{function.__name__} \(.*samples\.py:(\d+)\)", place)
    return found is not None and int(found[1]) in _lines_of(function)


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_stack_names_the_line_of_each_task_and_nothing_of_podium(tmp_path: Path, method: Any) -> None:
    async def main() -> None:
        async with crew_of(samples.waits_for_file, samples.starts_a_program, method=method) as stage:
            waiting = stage.run(samples.waits_for_file, "a", path=str(tmp_path / "go"), mark=str(tmp_path / "a"))
            starting = stage.run(samples.starts_a_program, "b", mark=str(tmp_path / "b"))
            for mark in ("a", "b"):
                await appears(tmp_path / mark)
            stack = await stage.link.stack()
            assert "[task a]" in stack
            assert "[task b]" in stack
            assert "[main]" in stack
            assert "podium/" not in stack.partition("[main]")[0]
            assert _is_in(stacks.place_in(await stage.link.stack_of_task(waiting)), samples.waits_for_file)
            assert _is_in(stacks.place_in(await stage.link.stack_of_task(starting)), samples.starts_a_program)
            (tmp_path / "go").touch()
            await waiting
            assert "[task a]" not in await stage.link.stack()

    _run(main)


def test_a_child_whose_threads_are_busy_is_asked_by_no_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a signal's handler it would read the stacks of threads that move meanwhile: one of a hundred died of it."""
    sent: list[int] = []

    def kill(pid: int, number: int, kill: Callable[[int, int], None] = os.kill) -> None:
        sent.append(number)
        kill(pid, number)

    monkeypatch.setattr(os, "kill", kill)

    async def main() -> None:
        async with crew_of(samples.calls_until_file, thread_count=4) as stage:
            marks = [tmp_path / str(number) for number in range(4)]
            futures = [
                stage.run(samples.calls_until_file, mark.name, path=str(tmp_path / "go"), mark=str(mark))
                for mark in marks
            ]
            for mark in marks:
                await appears(mark)
            for _ in range(50):
                stack = await stage.link.stack()
                assert [stack.count(f"[task {mark.name}]") for mark in marks] == [1] * 4
            assert testimony.ASK not in sent
            (tmp_path / "go").touch()
            await asyncio.gather(*futures)

    _run(main)


def test_many_questions_at_once_have_one_answer(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.waits_for_file, samples.calls_until_file, thread_count=2) as stage:
            go = tmp_path / "go"
            functions: dict[str, Callable[..., Any]] = {"a": samples.waits_for_file, "b": samples.calls_until_file}
            futures = [
                stage.run(function, name, path=str(go), mark=str(tmp_path / name))
                for name, function in functions.items()
            ]
            for name in functions:
                await appears(tmp_path / name)
            answers = set(await asyncio.gather(*(stage.link.stack() for _ in range(20))))
            (answer,) = answers
            assert [answer.count(f"[{name}]") for name in ("task a", "task b", "main")] == [1, 1, 1]
            go.touch()
            await asyncio.gather(*futures)

    _run(main)


def test_an_answer_that_comes_late_is_none_to_the_next_question() -> None:
    ours, theirs = testimony.Testimony.pair()
    attendance = theirs.open()
    assert attendance is not None
    try:
        start = ours.begin()
        theirs.tell("7")
        assert ours.answer("8", start) is None
        theirs.tell("8")
        for word in ("7", "8"):
            answer = ours.answer(word, start)
            assert answer is not None
            assert [thread.ident for thread in stacks.parse(answer)].count(threading.get_ident()) == 1
        assert ours.answer("8", ours.begin()) is None
    finally:
        faulthandler.unregister(testimony.ASK)
        faulthandler.enable()


def test_a_child_that_cannot_write_its_stacks_minds_its_parent_all_the_same() -> None:
    async def main() -> None:
        async with crew_of(samples.limits_files, samples.tells_threads) as stage:
            await stage.run(samples.limits_files, size=16_384 + 300)
            assert (await stage.link.stack()).partition("\n")[0].startswith(("(the process", "Thread", "Current"))
            assert "podium-lifeline" in result_of(await stage.run(samples.tells_threads))["outputData"]["result"]

    _run(main)


def test_stack_is_told_while_the_gil_is_held(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.holds_the_gil) as stage:
            future = stage.run(samples.holds_the_gil, seconds=5)
            place = ""
            async with asyncio.timeout(4):
                while not _is_in(place, samples.holds_the_gil):
                    place = stacks.place_in(await stage.link.stack_of_task(future))
            assert not future.done()

    _run(main)


def test_stack_of_a_blocked_loop_names_the_coroutine(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.blocks_until_file_async) as stage:
            mark = tmp_path / "mark"
            future = stage.run(samples.blocks_until_file_async, path=str(tmp_path / "go"), mark=str(mark))
            await appears(mark)
            stack = await stage.link.stack()
            assert stacks.place_in(stack) == stacks.place_in(await stage.link.stack_of_task(future))
            assert _is_in(stacks.place_in(stack), samples.waits_for_file)
            assert "blocks_until_file_async" in stack
            (tmp_path / "go").touch()
            await future

    _run(main)


def test_stack_of_a_stopped_child_says_so_and_of_a_dead_one_too() -> None:
    async def main() -> None:
        async with crew_of(samples.returns_none) as stage:
            link = stage.link
            os.kill(link.pid, signal.SIGSTOP)
            threads = [int(folder.name) for folder in Path(f"/proc/{link.pid}/task").iterdir()]
            await seen(lambda: all(state_of(thread) == "T" for thread in threads), "the stop of all threads")
            assert await link.stack() == "(the process is stopped (SIGSTOP))"
            os.kill(link.pid, signal.SIGKILL)
            await seen(lambda: not link.alive, "the end")
            assert (await link.stack()).startswith("(the process ")

    _run(main)


@pytest.mark.parametrize("depth", [0, 90], ids=["short", "long"])
def test_children_run_where_no_file_for_testimony_is_to_be_had(monkeypatch: pytest.MonkeyPatch, depth: int) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(38, "not here")

    monkeypatch.setattr("podium.testimony._new_file", refuse)

    async def main() -> None:
        async with crew_of(samples.tells_process, crash_samples.crashes) as stage:
            assert await stage.link.stack() == "(the process is not up to telling its stack yet)"
            pid = stage.link.pid
            assert result_of(await stage.run(samples.tells_process))["outputData"]["pid"] == pid
            # Standard error is where a fault is told then.
            outcome = await stage.run(crash_samples.crashes, how="SIGSEGV", depth=depth)
            reason = result_of(outcome)["reasonForIncompletion"]
            assert "killed by SIGSEGV in " in reason

    _run(main)
