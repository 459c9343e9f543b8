"""Functions that tests run as workers: at the top level of a module, where child processes can find them."""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import functools
import logging
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pydantic

from podium import (
    Configuration,
    NonRetryableException,
    Task,
    TaskInProgress,
    TaskResult,
    TaskResultStatus,
    get_task_context,
    worker_task,
)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Point(NamedTuple):
    x: int
    y: int = 7


@dataclass
class Item:
    sku: str
    quantity: int = 1


@dataclass
class Order:
    order_id: str
    items: list[Item]
    placed: datetime | None = None
    tags: list[str] = field(default_factory=list)


class Customer(pydantic.BaseModel):
    name: str
    age: int = 0


# what functions return


def returns_dict(a: int, b: str = "x") -> dict[str, Any]:
    return {"a": a, "b": b}


def returns_none() -> None:
    return None


def returns_scalar(a: int) -> int:
    return a + 1


def returns_list() -> list[int]:
    return [1, 2]


def returns_dataclass(order: Order) -> Order:
    return order


async def returns_dataclass_async(order: Order) -> Order:
    return order


def returns_model(customer: Customer) -> Customer:
    return customer


def returns_rich(when: datetime, wait: timedelta, price: Decimal, key: UUID, colour: Colour, data: bytes) -> Any:
    return {
        "when": when, "wait": wait, "price": price, "key": key, "colour": colour, "data": data,
        "point": Point(1), "path": Path("a/b"), "set": {3},
        "types": [type(value).__name__ for value in (when, wait, price, key, colour, data)],
    }  # fmt: skip


def returns_result() -> TaskResult:
    return TaskResult(output_data={"made": "by hand"}).log("a line of the result")


async def returns_result_async() -> TaskResult:
    return TaskResult(output_data={"made": "by hand"}).log("a line of the result")


def returns_failed_result() -> TaskResult:
    return TaskResult.failed("not today")


def returns_in_progress() -> TaskInProgress | dict[str, Any]:
    context = get_task_context()
    if context.get_poll_count() == 1:
        return TaskInProgress(callback_after_seconds=1, output={"seen": [1]})
    return {"before": context.get_task().output_data, "polls": context.get_poll_count()}


async def returns_in_progress_async() -> TaskInProgress | dict[str, Any]:
    return returns_in_progress()


def returns_awaitable(a: int) -> Awaitable[dict[str, Any]]:
    get_task_context().add_log("from the function")

    async def later() -> dict[str, Any]:
        await asyncio.sleep(0)
        get_task_context().add_log("from the coroutine")
        return {"a": a, "thread": threading.current_thread().name}

    return later()


def returns_failing_awaitable() -> Awaitable[None]:
    async def later() -> None:
        raise ValueError("later")

    return later()


def returns_awaitable_in_progress() -> Awaitable[Any]:
    async def later() -> Any:
        return returns_in_progress()

    return later()


def returns_nan() -> dict[str, Any]:
    return {"items": [{"n": float("nan")}]}


def returns_cycle() -> dict[str, Any]:
    loop: dict[str, Any] = {}
    loop["again"] = loop
    return loop


def returns_lock() -> dict[str, Any]:
    return {"lock": threading.Lock()}


async def returns_lock_async() -> dict[str, Any]:
    return {"lock": threading.Lock()}


def returns_enum_inside() -> dict[str, Any]:
    return {"colour": Colour.BLUE}


# what functions raise


def raises_value_error() -> None:
    get_task_context().add_log("before the failure")
    get_task_context().set_output({"partial": 1})
    raise ValueError("no luck")


async def raises_value_error_async() -> None:
    raises_value_error()


def raises_terminal() -> None:
    raise NonRetryableException("never again")


async def raises_terminal_async() -> None:
    raise NonRetryableException("never again")


def raises_without_message() -> None:
    raise KeyError


BASE_EXCEPTIONS: dict[str, type[BaseException]] = {
    "SystemExit": SystemExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "BaseException": BaseException,
    "StopIteration": StopIteration,
}


def raises_named(name: str) -> None:
    raise BASE_EXCEPTIONS[name]


async def raises_named_async(name: str) -> None:
    raise BASE_EXCEPTIONS[name]


def recurses() -> int:
    return recurses() + 1


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def raises_mute() -> None:
    raise _MuteError


def raises_surrogate() -> None:
    raise ValueError("bad \ud800 text")


# the context


def sees_context(a: int = 0) -> dict[str, Any]:
    context = get_task_context()
    return {
        "task_id": context.get_task_id(),
        "workflow_id": context.get_workflow_instance_id(),
        "retry_count": context.get_retry_count(),
        "poll_count": context.get_poll_count(),
        "name": context.get_task_def_name(),
        "type": context.get_workflow_task_type(),
        "input": context.get_input(),
        "same_task": context.get_task().task_id == context.get_task_id(),
    }


async def sees_context_async(a: int = 0) -> dict[str, Any]:
    await asyncio.sleep(0)
    return sees_context(a)


def context_in_threads() -> dict[str, Any]:
    seen: list[str] = []
    thread = threading.Thread(
        target=contextvars.copy_context().run, args=(lambda: seen.append(get_task_context().get_task_id()),)
    )
    thread.start()
    thread.join()
    return {"thread": seen[0] == get_task_context().get_task_id()}


async def context_in_tasks() -> dict[str, Any]:
    async def inner() -> str:
        await asyncio.sleep(0)
        return get_task_context().get_task_id()

    own = get_task_context().get_task_id()
    in_task = await asyncio.create_task(inner())
    in_thread = await asyncio.to_thread(lambda: get_task_context().get_task_id())
    return {"task": in_task == own, "thread": in_thread == own}


def logs_lines(count: int) -> dict[str, Any]:
    for number in range(count):
        get_task_context().add_log(f"line {number}")
    return {"lines": count}


def sets_output() -> dict[str, Any]:
    get_task_context().set_output({"from": "context", "only": "context"})
    return {"from": "function"}


def fails_first(times: int) -> dict[str, Any]:
    if get_task_context().get_retry_count() < times:
        raise RuntimeError(f"attempt {get_task_context().get_retry_count()}")
    return {"attempts": get_task_context().get_retry_count() + 1}


def answers_in_progress_by_result() -> TaskResult:
    context = get_task_context()
    if context.get_poll_count() > 1:
        return TaskResult(output_data={"polls": context.get_poll_count()})
    context.set_callback_after(1)
    return TaskResult(status=TaskResultStatus.IN_PROGRESS)


# the raw task


def takes_task(task: Task) -> dict[str, Any]:
    return {"input": task.input_data, "id": task.task_id}


async def takes_task_async(task: Task) -> dict[str, Any]:
    return {"input": task.input_data, "id": task.task_id}


def takes_task_among_others(a: int, task: Task, *, b: str = "b") -> dict[str, Any]:
    return {"a": a, "b": b, "id": task.task_id}


# processes


def tells_process() -> dict[str, Any]:
    return {"pid": os.getpid(), "parent": os.getppid(), "thread": threading.current_thread().name}


def waits_for_file(path: str, mark: str | None = None) -> dict[str, Any]:
    """Run until a file appears, so that a test decides when the task ends; ``mark`` is made at the start."""
    if mark is not None:
        Path(mark).write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.01)
    return {"pid": os.getpid()}


def calls_until_file(path: str, mark: str) -> int:
    """Be in other functions all the time, until a file appears."""
    Path(mark).write_text(str(os.getpid()))
    calls = 0
    while not Path(path).exists():
        calls += sum(sorted((number % 7 for number in range(50)), key=lambda number: -number))
        time.sleep(0.0002)
    return calls


def limits_files(size: int) -> None:
    """Let this process write no file that is larger; Python ignores the signal that comes with it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def tells_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate()]


async def waits_for_file_async(path: str, mark: str | None = None) -> dict[str, Any]:
    if mark is not None:
        Path(mark).write_text(str(os.getpid()))
    while not Path(path).exists():
        await asyncio.sleep(0.01)
    return {"pid": os.getpid()}


async def blocks_until_file_async(path: str, mark: str | None = None) -> dict[str, Any]:
    """Hold up the event loop, as a coroutine must not."""
    return waits_for_file(path, mark)


async def cleans_up(mark: str) -> dict[str, Any]:
    """Wait for ever; write to the mark what ended that."""
    Path(mark).write_text("running")
    try:
        await asyncio.Event().wait()
    finally:
        Path(mark).write_text("cleaned up")
    return {}


async def exits_in_a_subtask() -> None:
    async def inner() -> None:
        sys.exit(3)

    await asyncio.gather(inner())


def starts_a_program(mark: str) -> dict[str, Any]:
    """Start a program, note its process id, and wait for ever."""
    process = subprocess.Popen(["sleep", "60"])
    Path(mark).write_text(str(process.pid))
    threading.Event().wait()
    return {}


def leaves_orphans(path: str, mark: str) -> dict[str, Any]:
    """Leave programs behind that end by themselves, one of them outside the process group."""
    subprocess.run(["sh", "-c", "sleep 0.2 & setsid sleep 0.2 &"], check=True)
    return waits_for_file(path, mark)


def _waits_for_ever(running: Any) -> None:
    running.set()
    threading.Event().wait()


def terminates_its_fork() -> dict[str, Any]:
    """Fork as multiprocessing does it, and end the copy as multiprocessing does that."""
    fork = multiprocessing.get_context("fork")
    running = fork.Event()
    process = fork.Process(target=_waits_for_ever, args=(running,))
    process.start()
    running.wait(10)  # Python drops signals that arrive while it forks
    process.terminate()
    process.join(10)
    return {"exitcode": process.exitcode}


def dies_once(by: str) -> dict[str, Any]:
    """Kill the own process on the first attempt."""
    if get_task_context().get_retry_count() == 0:
        os.kill(os.getpid(), getattr(signal, by))
        time.sleep(30)
    return {"survived": True}


def exits_hard_once() -> dict[str, Any]:
    if get_task_context().get_retry_count() == 0:
        os._exit(7)
    return {"survived": True}


def holds_the_gil(seconds: int) -> dict[str, Any]:
    """Sleep inside a C call that does not release the GIL."""
    ctypes.PyDLL(None).sleep(seconds)
    return {"held": seconds}


def writes_log(text: str) -> None:
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        extra = {"order_id": 77, "lock": threading.Lock(), "pair": (1, Colour.RED)}
        logging.getLogger("samples.log").exception("%s 100%%", text, extra=extra)


class Counter:
    def __init__(self) -> None:
        self.calls = 0
        self.lock = threading.Lock()

    def count(self) -> None:
        with self.lock:
            self.calls += 1


def _doubling(function: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> int:
        return 2 * function(*args, **kwargs)

    return wrapper


@_doubling
def wrapped(a: int) -> int:
    return a + 1


@_doubling
@worker_task("declared_below_a_wrapper")
def wrapped_above(a: int) -> int:
    return a + 1


ALL = [
    value
    for name, value in list(globals().items())
    if callable(value) and getattr(value, "__module__", "") == __name__ and name[0].islower()
]


# bad data


def returns_input(value: Any) -> dict[str, Any]:
    return {"value": value}


def takes_text(text: str) -> int:
    return len(text)


def returns_half_a_character() -> dict[str, Any]:
    return {"deep": ["\ud800"]}


def exhausts_memory() -> bytes:
    return bytes(2**60)


# secrets and control characters


def takes_colour(colour: Colour) -> str:
    return colour.value


def uses_credentials() -> str:
    settings = Configuration().authentication_settings
    return settings.key_id if settings else "none"


def shouts(text: str) -> None:
    logging.getLogger("samples").warning("a warning of the function: %s", text)
    raise ValueError(text)
