"""Results that wait while the server is away: real processes, real disks, real signals."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from bad_network import BadNetwork, bad_network
from event_log import Kind
from fake_server import Answer, FakeServer, Gate, Request, json_answer, text_answer
from podium import Configuration, MetricsCollector, TaskHandler, Worker
from podium.spool import BAD, LOCK, Spool
from podium.spoolfile import Record, encode_record, new_name
from rig import until

TESTS = Path(__file__).parent.parent


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for waiting results, of this process and of programs that it starts."""
    monkeypatch.setenv("CONDUCTOR_SPOOL_DIR", str(tmp_path / "spool"))
    return tmp_path / "spool"


def waiting(spool: Path) -> list[Path]:
    return list(spool.glob("results-*/*.json"))


class Program:
    """A running ``spool_program.py``."""

    def __init__(self, url: str, folder: Path, *arguments: str) -> None:
        self.go, self.marks = folder / "go", folder / "marks"
        self.process = subprocess.Popen(
            [sys.executable, str(TESTS / "spool_program.py"), url, str(self.go), str(self.marks), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.children = [int(word) for word in self.process.stdout.readline().split()[1:]]
        self._said = ""

    def runs(self, count: int) -> list[str]:
        """Wait for so many executions; return the ids of their tasks."""
        until(lambda: self.marks.exists() and len(self.marks.read_text().split()) >= count, f"{count} tasks running")
        return self.marks.read_text().split()

    def wait_for_line(self, part: str) -> None:
        """Return when it has written a line with that text to standard error."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._said += line
            if part in line:
                return
        raise AssertionError(f"it has ended without {part!r}: {self._said}")

    def end(self, timeout: float = 20) -> tuple[int, str]:
        """Wait for the end; return exit code and standard error."""
        _, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, self._said + err

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def network() -> Iterator[BadNetwork]:
    with bad_network(response_timeout=60) as network:
        yield network


@pytest.fixture
def programs() -> Iterator[list[Program]]:
    started: list[Program] = []
    yield started
    for program in started:
        program.kill()


def with_results_waiting(network: BadNetwork, folder: Path, spool: Path, programs: list[Program]) -> Program:
    """Start a program, and take the server away while its ten tasks run; return when their results are on disk."""
    network.server.add("t", 10)
    program = Program(network.proxy.url, folder)
    programs.append(program)
    program.runs(10)
    network.proxy.down()
    program.go.touch()
    until(lambda: len(waiting(spool)) == 10, "ten results on disk")
    return program


def accepted(network: BadNetwork) -> list[str]:
    return [event.task for event in network.log.of(Kind.RESULT) if event.accepted]


# outages


def test_B01_ten_results_survive_an_outage_of_ten_seconds_and_hold_no_slot(
    network: BadNetwork, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()
    network.server.add("t", 10)
    with network.running(network.working(go=go), slots=10) as handler:
        until(lambda: network.log.count(Kind.STARTED) == 10, "ten tasks running")
        network.proxy.down()
        down = time.monotonic()
        go.set()
        until(lambda: len(waiting(spool)) == 10, "ten results on disk", deadline=3)
        until(lambda: handler.get_worker_status()[0]["running"] == 0, "free slots", deadline=1)
        until(lambda: time.monotonic() - down > 10, "the end of the outage")
        network.proxy.up()
        network.server.wait_for_end(3)
        until(lambda: not waiting(spool), "an empty spool", deadline=3)
    assert network.server.statuses() == {"COMPLETED": 10}
    assert len([record for record in caplog.records if record.levelno >= logging.INFO]) <= 20


def test_S08_waiting_results_are_for_nobody_else(
    network: BadNetwork, spool: Path, tmp_path: Path, programs: list[Program]
) -> None:
    program = with_results_waiting(network, tmp_path, spool, programs)
    for path in [spool, *spool.rglob("*")]:
        state = path.lstat()
        assert stat.S_IMODE(state.st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert state.st_uid == os.geteuid()
        assert "t-" not in path.name  # no server's text: the tasks are t-1, t-2 ...
    for path in waiting(spool):
        json.loads(path.read_text())
    program.kill()


def test_B02_child_that_is_killed_in_an_outage_takes_no_result_along(
    network: BadNetwork, spool: Path, tmp_path: Path, programs: list[Program]
) -> None:
    program = with_results_waiting(network, tmp_path, spool, programs)
    for child in program.children:
        os.kill(child, signal.SIGKILL)
    network.proxy.up()
    network.server.wait_for_end(3)
    assert network.server.statuses() == {"COMPLETED": 10}
    assert len(program.runs(10)) == len(set(program.runs(10))) == 10


def test_B03_next_start_delivers_what_a_killed_program_has_left(
    network: BadNetwork, spool: Path, tmp_path: Path, programs: list[Program]
) -> None:
    first = with_results_waiting(network, tmp_path, spool, programs)
    first.kill()
    network.proxy.up()
    second = Program(network.proxy.url, tmp_path)
    programs.append(second)
    network.server.wait_for_end(3)
    assert network.server.statuses() == {"COMPLETED": 10}
    assert len(second.runs(10)) == 10  # none was run twice
    until(lambda: not waiting(spool), "an empty spool", deadline=3)
    second.process.terminate()
    assert second.end()[0] == 0
    assert [path.name for path in spool.iterdir()] == [LOCK]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_B01_B02_B03_thousand_results_survive_ten_minutes_without_a_server_though_all_processes_are_killed(
    spool: Path, tmp_path: Path, programs: list[Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    """PODIUM_SOAK_OUTAGE says how many seconds the server is away (600)."""
    outage = float(os.environ.get("PODIUM_SOAK_OUTAGE", "600"))
    monkeypatch.setenv("SLOTS", "1000")
    # The server hears no heartbeat meanwhile: its response timeout has to be longer, as the default of an hour is.
    with bad_network(response_timeout=3600) as network:
        network.server.add("t", 1000)
        first = Program(network.proxy.url, tmp_path)
        programs.append(first)
        first.runs(1000)
        network.proxy.down()
        down = time.monotonic()
        first.go.touch()
        until(lambda: len(waiting(spool)) == 1000, "a thousand results on disk")
        until(lambda: time.monotonic() - down > outage / 3, "the first third", deadline=outage)
        for child in first.children:
            os.kill(child, signal.SIGKILL)
        until(lambda: time.monotonic() - down > outage * 2 / 3, "the second third", deadline=outage)
        first.kill()
        second = Program(network.proxy.url, tmp_path)
        programs.append(second)
        until(lambda: time.monotonic() - down > outage, "the end of the outage", deadline=outage)
        network.proxy.up()
        up = time.monotonic()
        network.server.wait_for_end(60)
        times = [event.at - up for event in network.log.of(Kind.RESULT) if event.accepted]
        print(f"\n1000 results after {outage:.0f} s: {min(times):.2f} to {max(times):.2f} s after the server's return")
        assert network.server.statuses() == {"COMPLETED": 1000}
        assert len(second.runs(1000)) == 1000  # none was run twice
        assert min(times) <= 3
        assert max(times) <= 10
        until(lambda: not waiting(spool), "an empty spool", deadline=10)


def test_A08_terminated_program_leaves_its_results_on_disk_for_the_next(
    network: BadNetwork, spool: Path, tmp_path: Path, programs: list[Program]
) -> None:
    first = with_results_waiting(network, tmp_path, spool, programs)
    begun = time.monotonic()
    first.process.terminate()
    code, err = first.end(timeout=3 + 2)
    assert code == 0
    assert time.monotonic() - begun <= 3 + 2
    assert "left on disk for the next start, or podium spool resend: 10 results" in err
    assert len(waiting(spool)) == 10
    network.proxy.up()
    second = Program(network.proxy.url, tmp_path)
    programs.append(second)
    network.server.wait_for_end(3)
    assert network.server.statuses() == {"COMPLETED": 10}
    assert len(second.runs(10)) == 10


def test_E04_two_programs_share_a_spool_and_nothing_is_sent_twice(
    network: BadNetwork, spool: Path, tmp_path: Path, programs: list[Program]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    network.server.add("t", 20)
    both = [Program(network.proxy.url, tmp_path / name) for name in ("a", "b")]
    programs += both
    for program in both:
        program.runs(10)
    network.proxy.down()
    for program in both:
        program.go.touch()
    until(lambda: len(waiting(spool)) == 20, "twenty results on disk")
    assert len(list(spool.glob("results-*"))) == 2
    both[0].kill()
    network.proxy.up()
    until(lambda: len(accepted(network)) == 10, "the results of the living", deadline=3)
    successor = Program(network.proxy.url, tmp_path / "a")
    programs.append(successor)
    network.server.wait_for_end(5)
    assert network.server.statuses() == {"COMPLETED": 20}
    assert network.server.duplicates == 0


# the disk


@pytest.mark.parametrize("obstacle", ["a file stands there", "others may write to it", "it is a link"])
def test_E01_unusable_folder_costs_one_warning_and_no_result(
    network: BadNetwork, spool: Path, caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    if obstacle == "a file stands there":
        spool.touch()
    elif obstacle == "it is a link":
        (spool.parent / "real").mkdir(mode=0o700)
        spool.symlink_to(spool.parent / "real")
    else:
        spool.mkdir()
        spool.chmod(0o777)
    go, collector = threading.Event(), MetricsCollector()
    network.server.add("t", 10)
    listeners = [network.heard, collector]
    with network.running(network.working(go=go), slots=10, event_listeners=listeners) as handler:
        until(lambda: network.log.count(Kind.STARTED) == 10, "ten tasks running")
        network.proxy.down()
        go.set()
        until(lambda: handler.get_worker_status()[0]["running"] == 0, "free slots", deadline=3)
        assert handler.is_healthy()
        assert collector.get_metrics()["task_results_waiting"] == {(): 10}
        network.proxy.up()
        network.server.wait_for_end(3)
    assert network.server.statuses() == {"COMPLETED": 10}
    assert len([line for line in caplog.messages if "will wait in memory" in line]) == 1
    assert collector.get_metrics()["result_spool_error_total"] == {(): 1}
    assert collector.get_metrics()["task_results_waiting"] == {(): 0}


def test_E01_file_size_limit_costs_one_warning_and_no_result(
    network: BadNetwork, spool: Path, tmp_path: Path, programs: list[Program]
) -> None:
    network.server.add("t", 10)
    program = Program(network.proxy.url, tmp_path, "400")  # bytes: a mark of each task, and no record
    programs.append(program)
    program.runs(10)
    network.proxy.down()
    program.go.touch()
    program.wait_for_line("wait in memory")
    network.server.add("t", 1)
    network.proxy.up()
    network.server.wait_for_end(5)
    program.process.terminate()
    code, err = program.end()
    assert code == 0
    assert len(re.findall(r"wait in memory.*File too large", err)) == 1
    assert network.server.statuses() == {"COMPLETED": 11}
    assert not list(spool.rglob("*.tmp"))


KILLED_AT_EACH_STEP = """
import os, signal, sys
from pathlib import Path
import msgspec
from podium import spoolfile
from podium.spool import Spool
from podium.spoolfile import Record

def record(number):
    body = msgspec.Raw(msgspec.json.encode({"n": number, "text": "x" * 5000}))
    return Record(
        task_id=f"t{number}", workflow_id="w", task_type="t", worker_id="me", status="COMPLETED", response_timeout=0,
        server="http://s/api", host="here", created=0.0, attempts=1, problem="", body=body,
    )

def die_at(step):
    \"\"\"Let the process be killed before, or in the middle of, the given system call of a write.\"\"\"
    count = 0
    def counted(name):
        real = getattr(os, name)
        def call(*args, **kwargs):
            nonlocal count
            count += 1
            if count == step:
                if name == "write":
                    real(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "write":  # in pieces, as a full pipe or a signal makes it
                return real(args[0], bytes(args[1])[:1000])
            return real(*args, **kwargs)
        return call
    for name in ("open", "write", "fsync", "close", "rename"):
        setattr(os, name, counted(name))

real_write = os.write
path = Path(sys.argv[1])
found_whole = returned = ended = 0
for run in range(200):
    step = run % 14 + 1
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        spool = Spool(path, "http://s/api", "here")
        spool.open()
        die_at(step)
        spool.save(record(run))
        real_write(write, b"saved")
        os._exit(0)
    os.close(write)
    saved = os.read(read, 5) == b"saved"
    os.close(read)
    os.waitpid(pid, 0)
    spool = Spool(path, "http://s/api", "here")
    spool.open()
    takeover = spool.take_over()
    assert takeover.bad == [], takeover.bad
    for found in takeover.found:
        assert spool.load(found.name) == record(run), run
        spool.remove_all([found.name])
    assert len(takeover.found) <= 1
    assert len(takeover.found) == 1 or not saved, (run, step)
    found_whole += len(takeover.found)
    returned += saved
    spool.close()
    assert [p.name for p in path.iterdir()] == ["lock"], list(path.rglob("*"))
print(found_whole, returned)
"""


def test_E02_killed_at_any_step_of_a_write_leaves_a_whole_record_or_none(tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    program.write_text(KILLED_AT_EACH_STEP)
    result = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "spool")], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    found, returned = map(int, result.stdout.split())
    assert 0 < returned < found < 200  # some were killed after the record was whole, and some before


def test_E03_ten_thousand_records_are_each_read_and_sent_once_and_the_bad_ones_set_aside(
    server: FakeServer, spool: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: set[str] = set()

    def take(request: Request) -> Answer:
        reported.add(request.json["taskId"])
        return text_answer("id")

    server.on("POST", "/api/tasks", take)
    server.on("GET", "/api/tasks/poll/batch/t", json_answer([]))
    server.otherwise(json_answer({"taskId": "x", "workflowInstanceId": "w", "status": "IN_PROGRESS"}))
    left = Spool(spool, server.url)
    left.open()
    assert left._own is not None
    folder = left._own.path
    for number in range(10_000):
        body = {"taskId": f"t{number}", "workflowInstanceId": "w", "status": "COMPLETED", "outputData": {"n": number}}
        record = Record(
            task_id=f"t{number}", workflow_id="w", task_type="t", worker_id="me", status="COMPLETED",
            response_timeout=0, server=server.url, host=left.host, created=time.time(), attempts=1, problem="refused",
            body=msgspec.Raw(json.dumps(body).encode()),
        )  # fmt: skip
        (folder / new_name(record.task_id)).write_bytes(encode_record(record))
    whole = next(iter(folder.glob("*.json"))).read_bytes()
    (folder / "garbage.json").write_bytes(os.urandom(500))
    (folder / "truncated.json").write_bytes(whole[:100])
    (folder / "newer.json").write_text('{"podium_spool": 2}')
    (folder / "link.json").symlink_to("/etc/passwd")
    (folder / "torn.tmp").write_bytes(whole[:50])
    os.close(left._lock)  # as its process has died
    read: list[str] = []

    def load(spool: Spool, name: str, load: Callable[[Spool, str], Record] = Spool.load) -> Record:
        read.append(name)
        return load(spool, name)

    monkeypatch.setattr(Spool, "load", load)
    worker = Worker("t", lambda: None, thread_count=1)
    handler = TaskHandler(
        worker, Configuration(server_api_url=server.url), scan_for_annotated_workers=False, isolation="thread"
    )  # fmt: skip
    with handler:
        handler.start_processes()
        until(lambda: len(reported) == 10_000, "all of them")
        until(lambda: not waiting(spool), "an empty spool")
    assert len(server.to("/api/tasks")) == 10_000
    assert len({request.path for request in server.requests if request.path.startswith("/api/tasks/t")}) == 10_000
    assert sum(request.path.startswith("/api/tasks/t") for request in server.requests) == 10_000  # one look at each
    assert len(read) == len(set(read)) == 10_000
    assert len(list((spool / BAD).iterdir())) == 4
    (told,) = [line for line in caplog.messages if "set aside" in line]
    assert "and 3 more" in told


# a server that is slow


class Slow(Gate):
    """Lets an answer through after some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def passed(self) -> None:
        await asyncio.sleep(self._seconds)


def test_D11_slow_server_slows_polling_and_nothing_piles_up() -> None:
    with ExitStack() as stack:
        network = stack.enter_context(bad_network())
        network.server.add("t", 60)
        in_hand: list[int] = []

        def slowly(request: Request) -> Answer:
            answer = network.server.answer(request)
            in_hand.append(network.log.count(Kind.GIVEN) - network.log.count(Kind.RESULT))
            return Answer(status=answer.status, body=answer.body, headers=answer.headers, gate=Slow(3.0))

        network.server.on("POST", "/api/tasks", slowly)
        network.server.on("POST", "/api/tasks/update-v2", slowly)
        begun = time.monotonic()
        with network.running(network.working(), slots=20):
            network.server.wait_for_end(30)
            seconds = time.monotonic() - begun
        assert max(in_hand) <= 20
        assert 5.5 < seconds < 12  # three rounds of twenty, at three seconds each, the last one's answer not counted
        assert network.server.duplicates == 0
