"""A program that runs one worker, for tests that kill it.

    python spool_program.py URL GO MARKS [BYTES]

SLOTS in the environment is how many tasks run at once (10).

Each task of the type "t" writes its id to the file MARKS, runs until the file GO exists, and returns. BYTES is the
largest file that the program and its children may write. It says "ready" and the process ids of its children when its
worker runs, and "ended" at the end.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

from podium import Configuration, TaskHandler, Worker, get_task_context

SLOTS = int(os.environ.get("SLOTS", "10"))


def work() -> dict[str, str]:
    task_id = get_task_context().get_task_id()
    with Path(sys.argv[3]).open("a") as file:
        file.write(f"{task_id}\n")
    while not Path(sys.argv[2]).exists():
        time.sleep(0.001 * SLOTS)
    return {"of": task_id, "text": "x" * 100}


def main() -> None:
    if len(sys.argv) > 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
    handler = TaskHandler(
        Worker("t", work, thread_count=SLOTS, poll_interval=50, lease_extend_enabled=True),
        Configuration(server_api_url=sys.argv[1]), scan_for_annotated_workers=False, grace_seconds=3,
    )  # fmt: skip
    with handler:
        handler.start_processes()
        print("ready", *handler.get_worker_status()[0]["pids"], flush=True)
        handler.join_processes()
    print("ended", flush=True)


if __name__ == "__main__":
    main()
