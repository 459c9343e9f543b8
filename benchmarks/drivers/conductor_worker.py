"""A worker with conductor-python 2.0.0 whose tasks do nothing.

thread_count is also how many tasks it polls for. Its long poll is fixed at 100 ms. 10 ms between two empty polls keep
the time short in which nothing is polled for; its default is 100 ms. Annotations are not postponed here: it takes the
texts that they are then for types, and fails every task.
"""

import logging
import os
import urllib.request
from typing import Any

from conductor.client.automator.task_handler import TaskHandler
from conductor.client.configuration.configuration import Configuration
from conductor.client.worker.worker import Worker


def work(order_id: str, amount: float) -> dict[str, Any]:
    """Do nothing."""
    return {"ok": True}


async def work_async(order_id: str, amount: float) -> dict[str, Any]:
    """Do nothing."""
    return {"ok": True}


FUNCTIONS = {"def": work, "async": work_async}


def main() -> None:
    """Work until told to stop."""
    env = os.environ
    workers = [
        Worker(
            task_definition_name=name,
            execute_function=FUNCTIONS[env["BENCH_STYLE"]],
            thread_count=int(env["BENCH_CONCURRENCY"]),
            poll_interval=10.0,
        )
        for name in env["BENCH_TASK_TYPES"].split(",")
    ]
    configuration = Configuration(server_api_url=env["CONDUCTOR_SERVER_URL"], log_level=logging.WARNING)
    with TaskHandler(workers=workers, configuration=configuration, scan_for_annotated_workers=False) as handler:
        handler.start_processes()
        with urllib.request.urlopen(env["BENCH_DONE_URL"]) as answer:
            answer.read()


if __name__ == "__main__":
    main()
