"""podium's driver, sampled: each process writes the stack of whichever thread has just used CPU time, again and again.

The kernel sends SIGPROF to a thread that is running, and faulthandler writes its stack then and there: the interpreter
is not slowed down, and what waits is not seen. The stacks are left in the folder BENCH_STACKS, a file for each process.

As a program this is the driver; it lets the children import it as a module too, which is how they come to be sampled.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path
from typing import Final

from benchmarks.drivers import podium_worker
from podium import Configuration, TaskHandler

#: Seconds of CPU time between two samples. The kernel rounds it up to its own tick, 4 ms for most.
INTERVAL: Final = 0.001


def sample() -> None:
    """Begin to sample this process."""
    target = Path(os.environ["BENCH_STACKS"], f"{os.getpid()}.txt").open("w")  # noqa: SIM115 - until the process ends
    faulthandler.register(signal.SIGPROF, file=target, all_threads=False)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)


def main() -> None:
    """Work until told to stop."""
    podium_worker.declare()
    sample()
    configuration = Configuration(server_api_url=os.environ["CONDUCTOR_SERVER_URL"])
    with TaskHandler(configuration=configuration, import_modules=["benchmarks.drivers.sampled_worker"]) as handler:
        handler.start_processes()
        podium_worker.wait_for_the_end()


if __name__ == "__main__":
    main()
else:
    os.register_at_fork(after_in_child=sample)
