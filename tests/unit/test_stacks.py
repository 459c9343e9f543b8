"""Reading what faulthandler writes, of several versions of Python."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import traceback
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import podium
from podium.stacks import Frame, ThreadStack, awaiting, from_traceback, parse, place_in, text_of, thread_in, told

OWN = Path(podium.__file__).parent
LIBRARY = Path(os.__file__).parent
INSTALLED = LIBRARY / "site-packages" / "requests" / "api.py"

POOL_THREAD = f"""Thread 0x00007f0000000001 (most recent call first):
  File "{LIBRARY}/ssl.py", line 9 in read
  File "{INSTALLED}", line 59 in get
  File "/app/orders.py", line 12 in fetch
  File "/app/orders.py", line ??? in work
  File "{OWN}/execution.py", line 260 in _run_plain
  File "{OWN}/pool.py", line 150 in _work
  File "{LIBRARY}/threading.py", line 982 in run
"""
IDLE = f"""Thread 0x00007f0000000002 [lifeline] (most recent call first):
  File "{OWN}/member.py", line 260 in watch
  File "{LIBRARY}/threading.py", line 982 in run
"""
MAIN = f"""Current thread 0x00007f0000000003 (most recent call first):
  File "{LIBRARY}/asyncio/runners.py", line 118 in run
  File "{OWN}/member.py", line 160 in main
  File "<string>", line 1 in <module>
"""
TEXT = f"{POOL_THREAD}\n{IDLE}\n{MAIN}"


def test_place_is_the_innermost_call_of_the_users_own_code() -> None:
    assert place_in(TEXT, 0x00007F0000000001) == "fetch (/app/orders.py:12)"


def test_place_in_an_installed_package_is_told_if_nothing_of_the_users_is_there() -> None:
    text = "\n".join(line for line in POOL_THREAD.split("\n") if "/app/" not in line)
    assert place_in(text) == f"get ({INSTALLED}:59)"


def test_line_that_is_not_known_is_left_out() -> None:
    assert str(Frame("/app/x.py", 0, "f")) == "f (/app/x.py)"


def test_main_thread_is_the_last_one_and_is_nowhere_if_only_the_loop_runs() -> None:
    main = thread_in(TEXT)
    assert main is not None
    assert main.ident == 0x00007F0000000003
    assert main.is_current
    assert place_in(TEXT) == ""


@pytest.mark.parametrize("text", ["", "no stack at all", '  File "/app/x.py", line 1 in f'])
def test_text_without_threads_tells_nothing(text: str) -> None:
    assert parse(text) == []
    assert place_in(text) == place_in(text, 5) == told(text, {}) == ""


def test_told_leaves_out_podium_and_idle_threads_and_can_be_read_again() -> None:
    text = told(TEXT, {0x00007F0000000001: "task t"})
    assert text.splitlines()[0] == "Thread 0x00007f0000000001 [task t] (most recent call first):"
    assert "podium" not in text.replace(str(LIBRARY), "")
    assert [thread.ident for thread in parse(text)] == [0x00007F0000000001]
    assert place_in(text) == "fetch (/app/orders.py:12)"


def test_named_thread_and_a_process_without_any_user_code_are_still_told() -> None:
    assert "[main]" in told(TEXT, {0x00007F0000000003: "main"})
    assert "runners.py" in told(f"{IDLE}\n{MAIN}", {})


def test_words_of_a_fatal_error_around_the_stacks_are_passed_over() -> None:
    text = f"Fatal Python error: Segmentation fault\n\n{MAIN}\nExtension modules: a.b, c (total: 2)\n"
    assert [len(thread.frames) for thread in parse(text)] == [3]


def test_what_this_python_writes_is_read(tmp_path: Path) -> None:
    with (tmp_path / "stack").open("w+") as file:
        faulthandler.dump_traceback(file, all_threads=True)
        text = Path(file.name).read_text()
    thread = thread_in(text, threading.get_ident())
    assert thread is not None
    assert thread.place is not None
    assert (thread.frames[0].function, thread.frames[0].file) == (sys._getframe().f_code.co_name, __file__)


async def _innermost(future: asyncio.Future[None]) -> None:
    await future


async def _numbers(future: asyncio.Future[None]) -> AsyncIterator[int]:
    await _innermost(future)
    yield 1


async def _iterates(future: asyncio.Future[None]) -> None:
    async for _ in _numbers(future):
        pass


async def _outermost(future: asyncio.Future[None]) -> None:
    await _innermost(future)


def _functions_of(coroutine_function: object) -> list[str]:
    async def test() -> list[str]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(coroutine_function(future))  # type: ignore[operator]
        await asyncio.sleep(0)
        frames = awaiting(task.get_coro())
        future.set_result(None)
        await task
        return [frame.function for frame in frames]

    return asyncio.run(test())


def test_coroutine_that_waits_is_where_its_innermost_call_waits() -> None:
    assert _functions_of(_outermost) == ["_innermost", "_outermost"]
    assert _functions_of(_iterates)[-1] == "_iterates"  # what an asynchronous generator awaits is not always shown
    assert awaiting(None) == []


def test_traceback_is_read_with_the_innermost_call_first() -> None:
    def inner() -> None:
        raise LookupError("inner")

    def outer() -> None:
        try:
            inner()
        except LookupError as error:
            raise ValueError("outer") from error

    with pytest.raises(ValueError, match="outer") as caught:
        outer()
    stack = from_traceback("".join(traceback.format_exception(caught.value)))
    assert [frame.function for frame in stack.frames][::2] == ["outer", "inner"]
    assert stack.place is not None
    assert stack.place.file == __file__
    assert from_traceback("ValueError: no traceback").place is None


def test_text_of_a_thread_is_read_back() -> None:
    thread = ThreadStack(5, frames=[Frame("/app/a.py", 3, "f"), Frame(f"{OWN}/execution.py", 1, "_run_plain")])
    assert place_in(text_of(thread)) == "f (/app/a.py:3)"
    assert "execution.py" not in text_of(thread)
