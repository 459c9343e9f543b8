"""How programs start and end: exit codes, PID 1, terminals that close, start-up that is interrupted, odd user code."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import samples
from fake_server import error_answer
from podium import ConfigError, DeclarationError, StartError, TaskHandler, Worker
from podium.cli.ending import EarlyStop, ExitCode, StoppedEarly
from podium.errors import AnswerError, NoWorkerLeftError
from rig import Rig, until
from stop_stage import TESTS, Running, Stage, alive

WORKERS = """
import os, subprocess, threading, time
from pathlib import Path
from podium import worker_task

@worker_task("work", thread_count=5, poll_interval=20)
def waits_for_file(path: str, mark: str) -> int:
    Path(mark).write_text(str(os.getpid()))
    while not Path(path).exists():
        time.sleep(0.01)
    return os.getpid()
"""
#: What a function may leave running: a thread that keeps its process from ending, and a program.
STARTS_A_THREAD = """
    threading.Thread(target=threading.Event().wait, name="endless", daemon=False).start()
    process = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    Path(f"{mark}.program").write_text(str(process.pid))
    Path(mark)"""


#: A signal that comes when Python could raise nothing, and then a module that takes its time.
LOSES_THE_EXCEPTION = """
import signal, threading

class Ends:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)

Ends()
threading.Event().wait(60)
"""


_SIGNAL = "import signal\n"
#: What modules make of the exception of a signal that comes while they are imported.
MADE_OF_THE_EXCEPTION = {
    "cause": f"""{_SIGNAL}
try:
    signal.raise_signal(signal.SIGTERM)
except BaseException as error:
    raise ImportError("no plug-in") from error
""",
    "exit": f"""{_SIGNAL}
import sys
try:
    signal.raise_signal(signal.SIGTERM)
except BaseException:
    sys.exit(1)
""",
    "nothing": f"""{_SIGNAL}
try:
    signal.raise_signal(signal.SIGTERM)
    from podium import worker_task
except BaseException:
    pass
""",
    "runtime_error": f"""{_SIGNAL}
class Attribute:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGTERM)

class Owner:
    attribute = Attribute()
""",
}
LASTS_AT_THE_END = """
import os, signal, sys

class Last:
    def __del__(self, kill=os.kill, getpid=os.getpid, number=signal.SIGTERM) -> None:
        kill(getpid(), number)

sys.modules["last_of_all"] = Last()
"""
FORKS = """
import multiprocessing, sys, threading
from podium import worker_task

@worker_task("work", isolation="thread")
def work() -> None: ...

def ends_by_a_signal() -> int:
    fork = multiprocessing.get_context("fork")
    begun = fork.Event()
    process = fork.Process(target=lambda: begun.set() or threading.Event().wait(60))
    process.start()
    begun.wait()  # what comes sooner is lost: Python forgets signals that it meets before it knows that it was forked
    process.terminate()
    process.join(10)
    return process.exitcode

before = ends_by_a_signal()

def while_workers_run() -> None:
    while not any(thread.name == "podium-engine" for thread in threading.enumerate()):
        threading.Event().wait(0.05)
    print(f"forked: {before}, {ends_by_a_signal()}", file=sys.stderr, flush=True)

threading.Thread(target=while_workers_run).start()
"""


def catches_sigterm(pid: int) -> bool:
    caught = re.search(r"^SigCgt:\s+([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) & 1 << signal.SIGTERM - 1)


def test_A06_sigterm_during_the_start_ends_it_at_once_and_leaves_nothing(stage: Stage) -> None:
    """Thirty moments from 0 to 1.5 s. Before Python runs podium's first line, the system's own answer is the end."""
    waiting = [number / 20 for number in range(30)]
    while waiting:
        batch = [(stage.podium_run("loading", WORKERS), time.monotonic() + waiting.pop(0)) for _ in waiting[:6]]
        ends = []
        for program, due in sorted(batch, key=lambda entry: entry[1]):
            select.select([], [], [], max(0.0, due - time.monotonic()))
            minded = catches_sigterm(program.process.pid)
            ends.append((program, program.signal(), minded))
        for program, at, minded in ends:
            code, _ = program.end(timeout=10)
            assert time.monotonic() - at < stage.allowed(2)
            assert code == 0 or (not minded and code == -signal.SIGTERM), program.said()
            assert "Traceback" not in program.said()
        for program, _, _ in ends:
            until(lambda program=program: not program.pids(), "the end of all processes", deadline=2)  # type: ignore[misc]


def test_signal_while_modules_are_imported_ends_the_program_at_once(stage: Stage) -> None:
    slow = "import threading\ntry:\n    threading.Event().wait(60)\nexcept BaseException:\n    pass\n" + WORKERS
    for text in (slow, slow.replace("except BaseException", "except Exception")):
        program = stage.podium_run("slow", text)
        until(lambda program=program: catches_sigterm(program.process.pid), "the handler")  # type: ignore[misc]
        select.select([], [], [], 0.3)  # either way it must end: while podium loads, and while the module waits
        at = program.signal()
        assert program.end()[0] == 0, program.said()
        assert time.monotonic() - at < stage.allowed(2)
        assert "Traceback" not in program.said()
    assert stage.queues.polls == []


def test_signal_whose_exception_python_ignores_ends_the_program_all_the_same(stage: Stage) -> None:
    """In a finalizer, or in the callback of a weak reference: an import has some."""
    program = stage.podium_run("finalizer", LOSES_THE_EXCEPTION + WORKERS)
    assert program.end()[0] == 0, program.said()
    assert "ignored" not in program.said()
    assert "Traceback" not in program.said()
    assert stage.queues.polls == []


@pytest.mark.parametrize("made", sorted(MADE_OF_THE_EXCEPTION))
def test_signal_whose_exception_becomes_another_ends_the_program_as_any_other_does(stage: Stage, made: str) -> None:
    program = stage.podium_run(made, MADE_OF_THE_EXCEPTION[made])
    assert program.end()[0] == 0, program.said()
    assert program.said() == "podium: stopped by a signal before any worker ran\n"


def test_signal_in_the_last_moments_of_a_program_does_not_spoil_its_exit_code(stage: Stage) -> None:
    """Python gives up its own handlers before it tears the modules down."""
    program = stage.podium_run("last", LASTS_AT_THE_END + WORKERS)
    until(lambda: stage.queues.polls, "a poll")
    program.signal()
    assert program.end()[0] == 0, program.said()


def test_what_a_program_forks_ends_at_a_signal_though_podium_passes_it_by(stage: Stage) -> None:
    program = stage.podium_run("forks", FORKS)
    program.until_said(f"forked: {-signal.SIGTERM}, {-signal.SIGTERM}")
    program.signal()
    assert program.end()[0] == 0, program.said()


def test_signal_that_had_no_effect_before_workers_ran_is_handed_over_to_what_runs_them() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    early, seen = EarlyStop(), []
    try:
        early.install()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(StoppedEarly):
            early.check()
        signal.signal(signal.SIGTERM, lambda number, _frame: seen.append(number))
        early.hand_over()
    finally:
        early.over()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert seen == [signal.SIGTERM]


def inner_pid(program: Running) -> int:
    """The process that is PID 1 in the namespace that unshare has made."""
    outer = program.process.pid
    return int(until(Path(f"/proc/{outer}/task/{outer}/children").read_text, "the inner process").split()[0])


def zombies(program: Running) -> list[int]:
    """Processes in the namespace of a program that have ended and that nobody has reaped."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            status = (folder / "status").read_text()
            inside = re.search(r"^NSpid:\s+\d+\s+\d+", status, re.MULTILINE)
            if inside and re.search(r"^State:\s+Z", status, re.MULTILINE) and _below(int(folder.name), program):
                found.append(int(folder.name))
    return found


def _below(pid: int, program: Running) -> bool:
    while pid > 1:
        if pid == program.process.pid:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


UNSHARE = ["unshare", "--pid", "--fork", "--kill-child"]


def can_unshare() -> bool:
    with suppress(OSError):
        return subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode == 0
    return False


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="no PID namespaces: unshare is missing, or no root")


@needs_namespaces
@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_A05_first_process_of_a_container_drains_and_reaps(stage: Stage, method: str) -> None:
    program = stage.program(
        before=UNSHARE, function="leaves_orphans", own_child=True, start_method=method, monitor_interval_seconds=0.1,
        grace_seconds=20,
    )  # fmt: skip
    marks = stage.give(5)
    until(lambda: all(mark.exists() for mark in marks), "the tasks running")
    # With spawn and fork, those that have left their process group stay until the end. The program's own child, which
    # has ended too and is not waited for yet, stays in any case: its exit status is not podium's to take.
    stay = 1 if method == "forkserver" else 6
    until(lambda: len(zombies(program)) == stay, "the end of the orphans")
    begun = time.monotonic()
    os.kill(inner_pid(program), signal.SIGTERM)
    program.until_said("waiting for 5 tasks")
    stage.go.touch()
    report = program.report()
    assert time.monotonic() - begun < stage.allowed(5.5)
    assert (report["finished"], report["reason"], report["own"]) == (5, "SIGTERM", 7)
    assert stage.queues.statuses() == ["COMPLETED"] * 5
    assert max(stage.queues.polls) - begun < stage.allowed(1)
    until(lambda: not program.pids(), "the end of all processes", deadline=2)


NOT_JOINING = """
import sys, threading
sys.path.insert(0, {tests!r})
import samples
from podium import Configuration, TaskHandler, Worker
if __name__ == "__main__":
    worker = Worker("work", samples.returns_none)
    TaskHandler([worker], Configuration(server_api_url={url!r}), scan_for_annotated_workers=False).start_processes()
    print("started", flush=True)
    threading.Event().wait()
"""


@needs_namespaces
def test_A05_first_process_that_does_not_join_ends_too_though_the_kernel_drops_its_signal(stage: Stage) -> None:
    path = stage.folder / "program.py"
    path.write_text(NOT_JOINING.format(tests=str(TESTS), url=stage.queues.url))
    program = stage.start([str(path)], before=UNSHARE)
    assert program.process.stdout is not None
    program.process.stdout.readline()
    os.kill(inner_pid(program), signal.SIGTERM)
    assert program.end()[0] == 128 + signal.SIGTERM


ANOTHER_THREAD = NOT_JOINING.replace(
    "    threading.Event().wait()",
    """    import signal
    threading.Timer(0.1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM)).start()
    threading.Event().wait()""",
)


def test_signal_that_another_thread_gets_is_minded_at_once(stage: Stage) -> None:
    """Python runs handlers in the main thread only, which sleeps here for ever."""
    path = stage.folder / "program.py"
    path.write_text(ANOTHER_THREAD.format(tests=str(TESTS), url=stage.queues.url))
    program = stage.start([str(path)])
    code, out = program.end(timeout=10)
    assert (code, out) == (-signal.SIGTERM, "started\n")
    assert len(stage.queues.polls) < 100


def test_A15_module_that_fails_to_import_ends_the_program_with_one_traceback(stage: Stage) -> None:
    begun = time.monotonic()
    text = "def broken():\n    return 1 / 0\nbroken()\n"
    program = stage.podium_run("broken", text, "--drain-report", "report.json")
    code, out = program.end()
    assert time.monotonic() - begun < 10
    assert (code, out) == (ExitCode.NOT_STARTED, "")
    said = program.said()
    assert said.count("Traceback") == 1
    assert said.count("ZeroDivisionError: division by zero") == 2  # in the traceback, and in podium's last line
    assert re.search(r'Traceback \(most recent call last\):\n  File ".*broken.py", line 3, in <module>\n', said)
    assert said.splitlines()[-1].startswith("podium: module 'broken'")
    assert not (stage.folder / "report.json").exists()


def test_A15_module_that_fails_in_the_child_only_is_told_once(stage: Stage) -> None:
    text = WORKERS + "import os\nif os.environ.setdefault('FIRST', str(os.getpid())) != str(os.getpid()): broken()\n"
    program = stage.podium_run("fussy", text)
    assert program.end()[0] == ExitCode.NOT_STARTED
    assert program.said().count("Traceback") == 1
    assert program.said().count("NameError") == 2
    until(lambda: not program.pids(), "the end of all processes", deadline=2)


def test_exit_codes_tell_what_was_wrong() -> None:
    assert [ExitCode.of(error) for error in (ConfigError("x"), DeclarationError("x"))] == [2, 2]
    assert [ExitCode.of(error) for error in (StartError("x"), NoWorkerLeftError("x"), AnswerError("x"))] == [3, 5, 1]


def test_command_that_cannot_work_is_exit_code_2(stage: Stage) -> None:
    (stage.folder / "taken").mkdir()
    programs = [
        stage.podium_run("empty", ""),
        stage.podium_run("loading", WORKERS, "--drain-report", "taken"),
        stage.podium_run("loading", WORKERS, "--drain-report", "missing/report.json"),
    ]
    ends = ["no worker is declared in empty", "it is no file", "there is no folder"]
    for program, end in zip(programs, ends, strict=True):
        assert program.end() == (2, "")
        assert end in program.said()


def test_death_of_every_child_for_good_ends_the_program_with_a_code_of_its_own(stage: Stage) -> None:
    text = (
        WORKERS + "import podium.cli.run as run\nrun.TaskHandler.__init__.__kwdefaults__['restart_max_attempts'] = 1\n"
    )
    program = stage.podium_run("loading", text, "--drain-report", "report.json")
    for number in (1, 2):
        marks = [stage.folder / f"mark-{number}"]
        stage.queues.give("work", path=str(stage.go), mark=str(marks[0]))
        until(lambda marks=marks: marks[0].exists() and marks[0].read_text(), "the task running")  # type: ignore[misc]
        os.kill(int(marks[0].read_text()), signal.SIGKILL)
        # A task that comes before the death is known is handed to the dead, and fails without having run.
        until(lambda number=number: stage.queues.statuses() == ["FAILED"] * number, "the failure")  # type: ignore[misc]
    assert program.end()[0] == ExitCode.NO_WORKER_LEFT
    assert "no worker is left that could run a task" in program.said()
    assert program.said().splitlines()[-1].startswith("podium: every worker process has died for good")
    assert stage.queues.statuses() == ["FAILED", "FAILED"]
    report = json.loads((stage.folder / "report.json").read_text())
    assert report["reason"] == "no worker is left"
    until(lambda: not program.pids(), "the end of all processes", deadline=2)


@pytest.mark.parametrize("target", ["report.json", "-"])
def test_drain_report_of_the_command(stage: Stage, target: str) -> None:
    old = stage.folder / "report.json"
    old.write_text("of yesterday")
    program = stage.podium_run("loading", WORKERS, "--grace-seconds", "0.3", "--drain-report", target)
    stage.give_running(2)
    assert old.exists() == (target == "-")
    program.signal()
    code, out = program.end()
    assert code == 0
    report = json.loads(out if target == "-" else old.read_text())
    assert (report["handed_back"], report["lost"], report["reason"]) == (2, 0, "SIGTERM")
    assert [path.name for path in stage.folder.glob("*report*")] == ["report.json"]


def test_A08_results_that_the_server_does_not_take_are_on_disk_when_the_program_has_ended(stage: Stage) -> None:
    arguments = ["--drain-report", "-", "--grace-seconds", "20"]
    program = stage.podium_run("loading", WORKERS, *arguments)
    stage.give_running(2)
    stage.queues.answer_to_updates = error_answer(503, "down")
    at = program.signal()
    program.until_said("waiting for 2 tasks")
    stage.go.touch()
    code, out = program.end()
    assert time.monotonic() - at < 20
    report = json.loads(out)
    assert code == ExitCode.DRAINED
    assert (report["spooled"], report["finished"], report["lost"]) == (2, 0, 0)
    stage.queues.answer_to_updates = None
    following = stage.podium_run("loading", WORKERS)
    until(lambda: stage.queues.statuses() == ["COMPLETED"] * 2, "the results")
    following.signal()
    assert following.end()[0] == ExitCode.DRAINED


def test_A18_hangup_and_closed_output_stop_nothing(stage: Stage) -> None:
    """A terminal that is closed sends SIGHUP, and fails every write from then on."""
    ours, theirs = pty.openpty()
    program = stage.podium_run("loading", WORKERS, out=theirs, preexec_fn=lambda: _take_terminal(theirs))
    os.close(theirs)
    first = stage.give_running(1)[0]
    os.close(ours)
    second = stage.give_running(2, "work")[-1]
    assert program.process.poll() is None
    stage.go.touch()
    until(lambda: stage.queues.statuses().count("COMPLETED") == 3, "the results")
    assert first.exists()
    assert second.exists()
    program.signal()
    assert program.end()[0] == 0


def _take_terminal(fd: int) -> None:
    import fcntl
    import termios

    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)


def test_A18_output_whose_reader_is_gone_and_output_that_is_closed_from_the_start(stage: Stage) -> None:
    ours, theirs = os.pipe()
    gone = stage.podium_run("gone", WORKERS.replace('"work"', '"gone"'), out=theirs)
    os.close(theirs)
    os.close(ours)
    closed = stage.podium_run("closed", WORKERS.replace('"work"', '"closed"'), preexec_fn=lambda: os.closerange(0, 3))
    for name in ("gone", "closed"):
        stage.give_running(1, name)
    stage.go.touch()
    until(lambda: stage.queues.statuses() == ["COMPLETED"] * 2, "the results")
    for program in (gone, closed):
        program.signal(signal.SIGHUP)
        program.signal()
        assert program.end()[0] == 0


@pytest.mark.parametrize("own", [signal.SIG_IGN, lambda *_: None], ids=["nohup", "handler"])
def test_A18_what_the_program_does_at_a_hangup_is_left_as_it_is(stage: Stage, own: Any) -> None:
    before = signal.signal(signal.SIGHUP, own)
    rig = Rig(stage.queues.url)
    try:
        with rig.running(rig.worker(samples.returns_none), isolation="thread"):
            assert signal.getsignal(signal.SIGHUP) is own
        assert signal.getsignal(signal.SIGHUP) is own
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with rig.running(rig.worker(samples.returns_none), isolation="thread"):
            os.kill(os.getpid(), signal.SIGHUP)
            assert callable(signal.getsignal(signal.SIGHUP))
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


RACES = """
import json, logging, os, random, signal, sys, threading, time
settings = json.loads(sys.argv[1])
sys.path.insert(0, settings["tests"])
import samples
from podium import Configuration, TaskHandler, Worker

def main():
    logging.basicConfig(level="INFO")
    chance = random.Random(settings["seed"])
    configuration = Configuration(server_api_url=settings["url"])
    for number in range(settings["rounds"]):
        isolation = chance.choice(["process", "thread"])
        workers = [Worker(f"race{n}", samples.returns_none, poll_interval=10) for n in range(chance.randint(1, 3))]
        handler = TaskHandler(
            workers, configuration, scan_for_annotated_workers=False, isolation=isolation,
            start_method=chance.choice(["forkserver", "spawn", "fork"]), grace_seconds=1,
        )
        stoppers = [chance.choice(["stop", "signal", "start"]) for _ in range(chance.randint(1, 3))]
        threads = [
            threading.Timer(chance.uniform(0, 0.5), act, (handler, kind)) for kind in stoppers
        ]
        begun = time.monotonic()
        signal.signal(signal.SIGTERM, lambda *_: None)  # a signal may come when nothing runs any more
        for thread in threads:
            thread.start()
        handler.start_processes()
        for thread in threads:
            thread.join()
        handler.stop_processes()
        took = time.monotonic() - begun
        report = handler.drain_report
        assert report is not None and report.lost == report.abandoned == 0, report
        print(number, isolation, stoppers, round(took, 2), flush=True)
        assert took < 10, took

def act(handler, kind):
    if kind == "stop":
        handler.stop_processes()
    elif kind == "start":
        handler.start_processes()
    else:
        os.kill(os.getpid(), signal.SIGTERM)

if __name__ == "__main__":
    main()
"""


def races(stage: Stage, rounds: int, seed: int) -> Running:
    path = stage.folder / f"races{seed}.py"
    path.write_text(RACES)
    settings = {"tests": str(TESTS), "url": stage.queues.url, "rounds": rounds, "seed": seed}
    return stage.start([str(path), json.dumps(settings)])


def check_races(stage: Stage, rounds: int, seeds: range) -> None:
    for program in [races(stage, rounds, seed) for seed in seeds]:
        code, out = program.end(timeout=rounds * 10)
        assert code == 0, f"{out}\n{program.said()[-3000:]}"
        assert len(out.splitlines()) == rounds
        assert "Traceback" not in program.said()
        until(lambda program=program: not program.pids(), "the end of all processes", deadline=2)  # type: ignore[misc]


def test_A19_random_starts_and_stops_neither_hang_nor_leave_anything(stage: Stage) -> None:
    check_races(stage, 10, range(2))


@pytest.mark.soak
def test_A19_two_hundred_random_starts_and_stops(stage: Stage) -> None:
    check_races(stage, 100, range(100, 102))


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_A20_threads_and_programs_of_the_user_s_code_hold_up_no_stop(stage: Stage, isolation: str) -> None:
    text = WORKERS.replace("    Path(mark)", STARTS_A_THREAD)
    program = stage.podium_run("loading", text, "--isolation", isolation, "--grace-seconds", "0.5")
    mark = stage.give_running(1)[0]
    started = int(mark.with_name(f"{mark.name}.program").read_text())
    assert alive(started)
    at = program.signal()
    code, _ = program.end()
    assert time.monotonic() - at < stage.allowed(0.5 + 2)
    if isolation == "process":
        assert code == ExitCode.DRAINED
        until(lambda: not program.pids(), "the end of all processes", deadline=2)
        assert len(stage.queues.given_back()) == 1
    else:  # the thread is this process's, and so is the program that it has started
        assert code == ExitCode.LOST
        assert "do not end: endless" in program.said()
        os.kill(started, signal.SIGKILL)


# the handler inside a program


def test_start_by_two_threads_at_once_starts_once(stage: Stage) -> None:
    import threading

    rig = Rig(stage.queues.url)
    handler = TaskHandler([rig.worker(samples.returns_none)], rig.configuration, scan_for_annotated_workers=False)
    both = threading.Barrier(2)

    def start() -> None:
        both.wait()
        handler.start_processes()

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(handler.get_worker_status()) == 1
    engines = [thread for thread in threading.enumerate() if thread.name == "podium-engine"]
    assert len(engines) == 1
    report = handler.stop_processes()
    assert report is not None
    assert (report.reason, report.clean) == ("stop_processes()", True)
    assert handler.drain_report is report
    assert handler.stop_processes() is None


def test_forked_copy_of_the_program_has_no_handler_to_stop_and_may_ask(stage: Stage) -> None:
    rig = Rig(stage.queues.url)
    with rig.running(rig.worker(samples.returns_none), isolation="thread") as handler:
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            seen: list[object] = [handler.is_healthy(), handler.get_worker_status(), handler.stop_processes()]
            try:
                handler.join_processes()
            except StartError:
                seen.append("nothing runs")
            os.write(theirs, json.dumps(seen).encode())
            os._exit(0)
        os.close(theirs)
        with os.fdopen(ours) as pipe:
            assert json.load(pipe) == [False, [], None, "nothing runs"]
        assert os.waitpid(pid, 0)[1] == 0
        assert handler.is_healthy()


def test_join_in_a_listener_is_refused_at_once(stage: Stage) -> None:
    refused: list[str] = []

    class Joins:
        def on_poll_completed(self, _event: object) -> None:
            try:
                handler.join_processes()
            except StartError as error:
                refused.append(str(error))

    rig = Rig(stage.queues.url)
    worker = rig.worker(samples.returns_none)
    with rig.running(worker, isolation="thread", event_listeners=[Joins()]) as handler:
        until(lambda: refused, "the refusal")
        begun = time.monotonic()
    assert time.monotonic() - begun < stage.allowed(2)
    assert "join_processes() in a listener" in refused[0]


def test_program_learns_that_no_worker_is_left(stage: Stage) -> None:
    rig = Rig(stage.queues.url)
    with rig.running(rig.worker(samples.returns_none), restart_on_failure=False) as handler:
        os.kill(handler.get_worker_status()[0]["pid"], signal.SIGKILL)
        with pytest.raises(NoWorkerLeftError, match="died for good"):
            handler.join_processes()
        assert not handler.is_healthy()
        assert handler.drain_report is not None
        assert handler.drain_report.reason == "no worker is left"


def test_handler_that_starts_again_forgets_the_old_report(stage: Stage) -> None:
    rig = Rig(stage.queues.url)
    handler = TaskHandler(
        [Worker("again", samples.returns_none)], rig.configuration, scan_for_annotated_workers=False,
        isolation="thread",
    )  # fmt: skip
    assert handler.drain_report is None
    for _ in range(2):
        handler.start_processes()
        assert handler.drain_report is None
        assert handler.stop_processes(grace=0) is handler.drain_report is not None
