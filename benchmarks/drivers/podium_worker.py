"""A worker with podium whose tasks do nothing. What a driver is told, and by which variables: benchmarks/README.md."""

from __future__ import annotations

import os
import signal
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

from podium import Configuration, TaskHandler, worker_task


def work(order_id: str, amount: float) -> dict[str, bool]:
    """Do nothing."""
    return {"ok": True}


async def work_async(order_id: str, amount: float) -> dict[str, bool]:
    """Do nothing."""
    return {"ok": True}


def echo(payload: str) -> dict[str, str]:
    """Return what came in."""
    return {"payload": payload}


FUNCTIONS: dict[str, Callable[..., Any]] = {"def": work, "async": work_async, "echo": echo}


def declare() -> None:
    """Declare a worker for each task type."""
    env = os.environ
    group = int(env.get("BENCH_GROUP", "0"))
    for number, name in enumerate(env["BENCH_TASK_TYPES"].split(",")):
        worker_task(
            name,
            thread_count=int(env["BENCH_CONCURRENCY"]),
            poll_timeout=int(env.get("BENCH_POLL_TIMEOUT_MS", "1000")),
            isolation="thread" if env.get("BENCH_ISOLATION") == "thread" else "process",
            group=f"group-{number // group}" if group else None,
        )(FUNCTIONS[env["BENCH_STYLE"]])


def wait_for_the_end() -> None:
    """Wait until told to stop: by an answer to a request or, where none is asked for, by SIGTERM."""
    if url := os.environ.get("BENCH_DONE_URL"):
        with urllib.request.urlopen(url) as answer:
            answer.read()
        return
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    stop.wait()


def main() -> None:
    """Work until told to stop."""
    declare()
    with TaskHandler(configuration=Configuration(server_api_url=os.environ["CONDUCTOR_SERVER_URL"])) as handler:
        handler.start_processes()
        wait_for_the_end()


if __name__ == "__main__":
    main()
