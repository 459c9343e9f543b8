"""Networks that are slow, servers that ask for patience, names and clocks that change."""

from __future__ import annotations

import os
import resource
import subprocess
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

import load_program
from bad_network import bad_network
from certificates import Authority, server_context
from checker import check
from event_log import Kind
from fake_server import Answer, FakeServer, Request, json_answer
from podium import Client, Configuration
from rig import until
from task_server import POLL_PATH, TaskServer
from toxic_proxy import Bandwidth, Latency, Slicer, ToxicProxy


def test_B15_slow_and_choppy_network_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    with bad_network(response_timeout=5) as network:
        network.proxy.add(Latency(0.3, jitter=0.2, seed=1))
        network.proxy.add(Bandwidth(100_000))
        network.proxy.add(Slicer(7))
        network.server.add("t", 40, text="x" * 1000)
        with network.running(network.working(), slots=8):
            network.server.wait_for_end(60)
        assert network.server.statuses() == {"COMPLETED": 40}
        assert network.server.duplicates == 0
        assert network.heard.poll_failures == []
        assert network.heard.update_failures == []
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


# B10


def in_seconds(wait: int) -> str:
    return str(wait)


def as_a_date(wait: int) -> str:
    return formatdate(time.time() + wait, usegmt=True)


class Busy:
    """Answers one request with a wish for patience; then lets the server answer. Notes when requests come."""

    def __init__(self, server: TaskServer, status: int, wish: Callable[[int], str], wait: int) -> None:
        self.times: list[float] = []
        self._server, self._status, self._wish, self._wait = server, status, wish, wait

    def __call__(self, request: Request) -> Answer:
        self.times.append(time.monotonic())
        if len(self.times) == 1:
            return Answer(status=self._status, headers={"Retry-After": self._wish(self._wait)})
        return self._server.answer(request)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("wish", [in_seconds, as_a_date])
def test_B10_retry_after_of_a_poll_is_obeyed(wish: Callable[[int], str], status: int) -> None:
    with bad_network() as network:
        busy = Busy(network.server, status, wish, 3)
        network.server.on("GET", f"{POLL_PATH}t", busy)
        network.server.add("t")
        with network.running(network.working()):
            network.server.wait_for_end(10)
        # A date has whole seconds only: a wish of 3 s may be one of 2 s by the time it is read.
        assert (1.9 if wish is as_a_date else 2.9) < busy.times[1] - busy.times[0] < 3 * 1.2 + 0.5


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("wish", [in_seconds, as_a_date])
def test_B10_retry_after_of_an_update_is_obeyed(wish: Callable[[int], str], status: int) -> None:
    with bad_network(update_v2=False) as network:
        busy = Busy(network.server, status, wish, 3)
        network.server.on("POST", "/api/tasks", busy)
        network.server.add("t")
        with network.running(network.working(), update_retry_delays=(0.5, 0.5, 0.5)):
            network.server.wait_for_end(15)
        assert (1.9 if wish is as_a_date else 2.9) * 0.8 < busy.times[1] - busy.times[0] < 3 * 1.2 + 0.5
        assert network.server.duplicates == 0


# B16

#: A mount namespace of its own: what /etc/hosts says is then ours to change, for that program alone.
ALONE = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c",
         'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"')  # fmt: skip
NAME = "conductor.podium-test.invalid"


def can_be_alone(hosts: Path, resolver: Path) -> str | None:
    """Return what keeps a program from having a hosts file of its own here; None if nothing does."""
    try:
        done = subprocess.run(
            [*ALONE, str(hosts), str(resolver), "true"], capture_output=True, text=True, timeout=20, check=False
        )
    except OSError as error:
        return str(error)
    return done.stderr.strip() or None if done.returncode else None


def test_B16_name_that_does_not_resolve_for_a_while_and_then_means_another_address(tmp_path: Path) -> None:
    hosts, resolver, notes = tmp_path / "hosts", tmp_path / "resolv.conf", tmp_path / "notes"
    hosts.write_text("")
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")  # nobody answers there
    if problem := can_be_alone(hosts, resolver):
        pytest.skip(f"no mount namespace without privileges on this machine: {problem}")
    with TaskServer() as server, ToxicProxy(server.port) as first:
        with ToxicProxy(server.port, host="127.0.0.2", port=first.port) as second:
            server.add("t", notes=str(notes))
            hosts.write_text(f"127.0.0.1 {NAME}\n")
            options = {"url": f"http://{NAME}:{first.port}/api", "name": "t", "worker": {"thread_count": 2}}
            program = load_program.start(options, prefix=(*ALONE, str(hosts), str(resolver)))
            try:
                server.wait_for_end(15)
                hosts.write_text("")
                first.down()
                server.add("t", notes=str(notes))
                time.sleep(3)  # the length of the failure, not a wait for something
                assert server.statuses() == {"COMPLETED": 1, "SCHEDULED": 1}
                hosts.write_text(f"127.0.0.2 {NAME}\n")
                begun = time.monotonic()
                server.wait_for_end(10)
                assert time.monotonic() - begun < 10
            finally:
                program.terminate()
                _, errors = program.communicate(timeout=20)
            assert second.accepted > 0
        assert program.returncode == 0
        assert errors.count("\n") <= 6
        assert "does not resolve" in errors or "refused" in errors


# B18


def test_B18_http2_is_not_offered_so_there_is_no_goaway(tmp_path: Path) -> None:
    """The server would choose HTTP/2 whenever a client names it; it then could not read the first request."""
    authority = Authority(tmp_path)
    context = server_context(authority.issue())
    context.set_alpn_protocols(["h2"])
    with FakeServer(tls=context) as server:
        server.on("GET", "/api/tasks/poll/batch/t", json_answer([]))
        client = Client(Configuration(server_api_url=server.url, ssl_ca_cert=authority.cert))
        assert client.poll_tasks("t", worker_id="w") == []
        assert server.requests[0].target.startswith("/api/tasks/poll/batch/t?")


# B24


def test_B24_steps_of_the_wall_clock_delay_neither_polls_nor_heartbeats(monkeypatch: pytest.MonkeyPatch) -> None:
    real, offset = time.time, 0.0
    monkeypatch.setattr(time, "time", lambda: real() + offset)
    with bad_network(response_timeout=2) as network:
        network.server.add("t")  # a long one: its lease has to be kept over all steps
        go = threading.Event()
        first = network.working(go=go)

        def function() -> None:
            if network.log.count(Kind.STARTED) == 0:
                first()
            else:
                network.working()()

        def reported(count: int) -> bool:
            return network.log.count(Kind.RESULT) >= count

        with network.running(function, slots=4):
            until(lambda: network.log.count(Kind.STARTED) == 1, "the long task")
            for step in (-3600.0, 0.0, 3600.0, -3600.0, 3600.0, 0.0):
                offset = step
                begun = time.monotonic()
                done = network.log.count(Kind.RESULT)
                network.server.add("t")
                until(partial(reported, done + 1), "a short task", deadline=5)
                assert time.monotonic() - begun < 1
                time.sleep(0.5)  # the steps come while polls and heartbeats are due
            go.set()
            network.server.wait_for_end(10)
        beats = [event.at for event in network.log.of(Kind.HEARTBEAT)]
        assert len(beats) >= 3
        assert max(later - earlier for earlier, later in pairwise(beats)) < 2 * 0.6 + 0.3


# B25


def limited(limit: int, url: str) -> subprocess.Popen[str]:
    options = {"url": url, "name": "t", "worker": {"thread_count": 8}, "handler": {"grace_seconds": 2}}
    return load_program.start(options, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_B25_sixty_four_file_descriptors_are_enough(tmp_path: Path) -> None:
    with TaskServer(response_timeout=2) as server:
        server.add("t", 50, notes=str(tmp_path / "notes"), seconds=0.01)
        program = limited(64, server.url)
        try:
            server.wait_for_end(20)
            before = cpu_seconds(program.pid)
            time.sleep(1)  # over which a busy loop would use a second
            assert cpu_seconds(program.pid) - before < 0.7
        finally:
            program.terminate()
            _, errors = program.communicate(timeout=20)
        assert (program.returncode, errors) == (0, "")
        check(server.log)


def test_B25_too_few_file_descriptors_are_told_and_end_the_start() -> None:
    with TaskServer() as server:
        program = limited(12, server.url)
        _, errors = program.communicate(timeout=20)
        assert program.returncode not in {0, None}
        assert "Too many open files" in errors
        assert server.requests == []
