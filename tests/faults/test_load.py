"""Many workers, long idleness, bursts, slow servers: what they cost in time, memory, file descriptors and threads."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import load_program
import samples
from bad_network import bad_network
from checker import check
from event_log import Kind
from podium import Configuration, TaskHandler, Worker
from rig import unique, until
from task_server import POLL_PATH, TaskServer
from toxic_proxy import UPDATE, Latency

# D08


def seconds_until_all_poll(workers: int, **options: Any) -> float:
    with TaskServer() as server:
        names = [unique("w") for _ in range(workers)]
        all_workers = [Worker(name, samples.returns_none, poll_interval=500, poll_timeout=1000) for name in names]
        configuration = Configuration(server_api_url=server.url)
        begun = time.monotonic()
        with TaskHandler(all_workers, configuration, scan_for_annotated_workers=False, **options) as handler:
            handler.start_processes()
            until(lambda: {request.path for request in list(server.requests)} >= {POLL_PATH + name for name in names},
                  "a poll of each", deadline=60)  # fmt: skip
            taken = time.monotonic() - begun
            assert len({pid for entry in handler.get_worker_status() for pid in entry["pids"]}) == (
                1 if "group" in options else workers
            )
        return taken


@pytest.mark.parametrize("options", [{}, {"group": "all"}], ids=["a process each", "one group"])
def test_D08_fifty_workers_all_poll_soon(options: dict[str, Any]) -> None:
    # 3 s is the aim on an idle machine, which the benchmarks measure; tests share theirs.
    assert seconds_until_all_poll(50, **options) < 12


@pytest.mark.soak
def test_D08_two_hundred_workers_all_poll_soon() -> None:
    taken = seconds_until_all_poll(200)
    print(f"\nD08: 200 workers, a process each, all poll after {taken:.1f} s")
    assert taken < 16


# D10


class Usage(NamedTuple):
    """What a process holds."""

    kilobytes: int
    descriptors: int
    threads: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return cls(int(status["VmRSS"].split()[0]), descriptors, int(status["Threads"]))


@contextmanager
def running(server: TaskServer, **worker: Any) -> Iterator[subprocess.Popen[str]]:
    program = load_program.start({"url": server.url, "name": "t", "worker": {"thread_count": 20} | worker})
    try:
        yield program
        program.send_signal(signal.SIGTERM)
        _, errors = program.communicate(timeout=20)
        said = [line for line in errors.splitlines() if "is at capacity" not in line]  # a burst is more than fits
        assert (program.returncode, said) == (0, [])
    finally:
        program.kill()
        program.communicate()


def burst(server: TaskServer, count: int, notes: Path) -> None:
    server.add("t", count, notes=str(notes))
    server.wait_for_end(60)


def idle_and_burst(polls: int, tasks: int, notes: Path) -> tuple[Usage, Usage]:
    """Return what the program holds after a first burst, and after so many empty polls and a second one."""
    with TaskServer() as server:
        with running(server, poll_interval=1) as program:
            burst(server, tasks, notes)
            before = Usage.of(program.pid)
            aim = server.log.count(Kind.POLL) + polls
            until(lambda: server.log.count(Kind.POLL) >= aim, "idle polls", deadline=3600)
            burst(server, tasks, notes)
            after = Usage.of(program.pid)
        check(server.log)
        return before, after


def test_D10_idleness_and_bursts_leave_nothing_behind(tmp_path: Path) -> None:
    # 3,000 polls are what an idle worker sends in five minutes at the default pace.
    before, after = idle_and_burst(3000, 1000, tmp_path / "notes")
    assert after.kilobytes - before.kilobytes < 5 * 1024
    assert after.descriptors <= before.descriptors + 2
    assert after.threads <= before.threads + 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_D10_four_hours_of_idle_polls_and_a_burst(tmp_path: Path) -> None:
    before, after = idle_and_burst(144_000, 10_000, tmp_path / "notes")
    print(f"\nD10: {before} before, {after} after 144,000 idle polls and 10,000 tasks")
    assert after.kilobytes - before.kilobytes < 5 * 1024
    assert after.descriptors <= before.descriptors + 2
    assert after.threads <= before.threads + 1


# D11


def test_D11_slow_server_slows_the_polls_down_and_not_the_memory_up() -> None:
    """Every update takes 1 s: what has been taken and not been acknowledged stays bounded by the slots."""
    slots = 20
    with bad_network(response_timeout=10) as network:
        network.proxy.add(Latency(0.5, requests=UPDATE))
        network.server.add("t", 100)
        with network.running(network.working(), slots=slots):
            network.server.wait_for_end(30)
        in_hand = most = 0
        for event in network.log.events:
            in_hand += (event.kind is Kind.GIVEN) - (event.kind is Kind.RESULT and event.accepted)
            most = max(most, in_hand)
        assert most <= 2 * slots
        assert network.server.statuses() == {"COMPLETED": 100}
        assert network.server.duplicates == 0


# B26 stands in tests/unit/test_runner_idle.py: an hour passes there in virtual time.
