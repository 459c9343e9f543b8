"""Whole programs: signals, exits, main guards, and what is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import samples
from fake_server import Answer, FakeServer, Fault
from podium import ConfigError, DeclarationError, StartError, TaskHandler
from rig import Rig, until

TESTS = Path(__file__).parent.parent

PROGRAM = """
    import os, sys, threading
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    import samples
    from podium import Configuration, TaskHandler, Worker

    def main():
        workers = [Worker({name!r}, samples.waits_for_file, thread_count=4, poll_interval=20)]
        handler = TaskHandler(
            workers, Configuration(server_api_url={url!r}), scan_for_annotated_workers=False, grace_seconds={grace},
            {options}
        )
        with handler:
            handler.start_processes()
            print("pids", *handler.get_worker_status()[0]["pids"], flush=True)
            {wait}
        print("ended", flush=True)

    if __name__ == "__main__":
        main()
"""


class Program:
    """A running script."""

    def __init__(self, path: Path, text: str, **fields: Any) -> None:
        path.write_text(textwrap.dedent(text).format(tests=str(TESTS), **fields))
        self.process = subprocess.Popen(
            [sys.executable, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.children = [int(word) for word in self.process.stdout.readline().split()[1:]]

    def end(self, timeout: float = 20) -> tuple[int, str, str]:
        """Wait for the end; return exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=timeout)
        return self.process.returncode, out, err


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie that nobody has reaped yet does not."""
    try:
        return not re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except FileNotFoundError:
        return False


@pytest.fixture
def launch(rig: Rig, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(
        wait: str = "handler.join_processes()", grace: float = 10, options: str = "", text: str = PROGRAM
    ) -> Program:
        rig.define(samples.waits_for_file, retry_count=1)
        program = Program(
            tmp_path / "program.py", text,
            name=rig.name_of(samples.waits_for_file), url=rig.url, grace=grace, wait=wait, options=options,
        )  # fmt: skip
        started.append(program)
        return program

    yield start
    for program in started:
        program.process.kill()
        program.process.communicate()


def running_tasks(rig: Rig, tmp_path: Path, count: int = 2) -> tuple[Path, list[str]]:
    """Start tasks and wait until they run; return the file that lets them end, and the workflows."""
    go = tmp_path / "go"
    marks = [tmp_path / f"mark{number}" for number in range(count)]
    ids = [rig.start(samples.waits_for_file, path=str(go), mark=str(mark)) for mark in marks]
    until(lambda: all(mark.exists() for mark in marks), "tasks running")
    return go, ids


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_defect_03_signal_lets_running_tasks_finish_and_reports_them(
    rig: Rig, launch: Callable[..., Program], tmp_path: Path, number: signal.Signals
) -> None:
    program = launch()
    go, ids = running_tasks(rig, tmp_path)
    program.process.send_signal(number)
    late = rig.start(samples.waits_for_file, path=str(go))
    go.touch()
    code, out, err = program.end()
    assert (code, out, err) == (0, "ended\n", "")
    assert [rig.last_task(workflow_id).status for workflow_id in ids] == ["COMPLETED"] * 2
    # What came after the signal was never taken, or was given back: it waits, without a retry.
    task = rig.task(late)
    assert task.status == "SCHEDULED" or task.poll_count == 1
    assert task.retry_count == 0
    assert not any(map(alive, program.children))


def test_defect_04_no_child_outlives_a_terminated_parent(
    rig: Rig, launch: Callable[..., Program], tmp_path: Path
) -> None:
    program = launch(grace=0.2)
    _, ids = running_tasks(rig, tmp_path)
    program.process.terminate()
    assert program.end()[0] == 0
    assert not any(map(alive, program.children))
    # Their code is dead, so the tasks are back in the queue at once, and it cost them nothing.
    for workflow_id in ids:
        task = rig.task(workflow_id)
        assert (task.status, task.retry_count) == ("SCHEDULED", 0)


def test_signal_ends_a_program_that_does_not_join(rig: Rig, launch: Callable[..., Program], tmp_path: Path) -> None:
    program = launch(wait="threading.Event().wait()")
    go, ids = running_tasks(rig, tmp_path)
    program.process.terminate()
    go.touch()
    assert program.end()[0] == -signal.SIGTERM
    assert [rig.last_task(workflow_id).status for workflow_id in ids] == ["COMPLETED"] * 2
    assert not any(map(alive, program.children))


def test_program_that_ends_without_stopping_gives_its_tasks_back(
    rig: Rig, launch: Callable[..., Program], tmp_path: Path
) -> None:
    program = launch(wait="sys.stdin.readline()", text=PROGRAM.replace("with handler:", "if handler:"))
    _, ids = running_tasks(rig, tmp_path, count=1)
    assert program.process.stdin is not None
    program.process.stdin.write("end\n")
    program.process.stdin.flush()
    assert program.end() == (0, "ended\n", "")
    assert rig.task(ids[0]).status == "SCHEDULED"
    assert not any(map(alive, program.children))


def test_one_signal_stops_every_handler_of_the_program(
    rig: Rig, launch: Callable[..., Program], tmp_path: Path
) -> None:
    second = """handler.start_processes()
            second = TaskHandler([], Configuration(server_api_url={url!r}), scan_for_annotated_workers=False)
            second.workers = [Worker("of_the_second", samples.returns_none)]
            second.start_processes()"""
    text = PROGRAM.replace("handler.start_processes()", second)
    program = launch(text=text, wait="second.join_processes(); handler.join_processes()")
    program.process.terminate()
    assert program.end(timeout=10) == (0, "ended\n", "")


STARTING = """
    import sys
    sys.path.insert(0, {tests!r})
    import samples
    from podium import Configuration, TaskHandler, Worker

    if __name__ == "__main__":
        workers = [Worker("starting", samples.returns_none, register_task_def=True)]
        configuration = Configuration(server_api_url={url!r})
        with TaskHandler(workers, configuration, scan_for_annotated_workers=False, grace_seconds=1) as handler:
            handler.start_processes()
            handler.join_processes()
        print("ended", flush=True)
"""


def test_signal_during_the_start_ends_it_without_waiting_for_the_server(tmp_path: Path) -> None:
    with FakeServer() as server:
        server.on("GET", "/api/metadata/taskdefs/starting", Answer(fault=Fault.SILENCE))
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(STARTING).format(tests=str(TESTS), url=server.url))
        process = subprocess.Popen(
            [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        server.wait_for(1)
        process.terminate()
        out, err = process.communicate(timeout=8)  # the request alone would take 60 s
    assert (process.returncode, out, err) == (0, "ended\n", "")
    assert [request.method for request in server.requests] == ["GET"]  # and nothing was polled


def test_defect_06_join_goes_on_when_a_child_dies_and_is_restarted(
    rig: Rig, launch: Callable[..., Program], tmp_path: Path
) -> None:
    program = launch()
    go, ids = running_tasks(rig, tmp_path, count=1)
    os.kill(program.children[0], signal.SIGKILL)
    go.touch()
    assert rig.last_task(ids[0]).status == "COMPLETED"  # by the child's successor
    assert program.process.poll() is None
    program.process.terminate()
    assert program.end()[0] == 0


# scripts


def run_script(tmp_path: Path, text: str, **fields: Any) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text).format(**fields))
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=30, check=False)


SCRIPT = """
    import sys
    from podium import Configuration, TaskHandler, worker_task

    @worker_task("script_task")
    def work(a: int) -> int:
        return a

    def main():
        with TaskHandler(configuration=Configuration(server_api_url={url!r}), start_method={method!r}) as handler:
            handler.start_processes()
            print("healthy", handler.is_healthy())
    {guard}main()
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_workers_declared_in_the_main_script(server_url: str, tmp_path: Path, method: str) -> None:
    result = run_script(tmp_path, SCRIPT, url=server_url, method=method, guard='if __name__ == "__main__": ')
    assert (result.stdout, result.stderr) == ("healthy True\n", "")


def test_defect_49_continuous_integration_changes_no_output(
    server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = run_script(tmp_path, SCRIPT, url=server_url, method="forkserver", guard='if __name__ == "__main__": ')
    assert (result.stdout, result.stderr) == ("healthy True\n", "")


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_script_without_a_main_guard_gets_one_error_that_names_the_fix(
    server_url: str, tmp_path: Path, method: str
) -> None:
    result = run_script(tmp_path, SCRIPT, url=server_url, method=method, guard="")
    assert result.returncode == 1
    assert result.stderr.count("Error") == result.stderr.count("StartError:")
    assert 'if __name__ == "__main__":' in result.stderr.splitlines()[-1]
    assert "healthy" not in result.stdout


def test_program_from_standard_input_is_refused_with_the_fix(server_url: str) -> None:
    text = textwrap.dedent(SCRIPT).format(url=server_url, method="forkserver", guard="")
    result = subprocess.run(
        [sys.executable], input=text, capture_output=True, text=True, timeout=30, check=False
    )  # fmt: skip
    assert result.returncode == 1
    assert "interactive session or in a program read from standard input" in result.stderr.splitlines()[-1]


def test_defect_25_import_error_is_raised_and_nothing_hangs(server_url: str, tmp_path: Path) -> None:
    (tmp_path / "broken_module.py").write_text("import no_such_thing")
    result = run_script(
        tmp_path,
        """
        from podium import Configuration, TaskHandler
        TaskHandler(configuration=Configuration(server_api_url={url!r}), import_modules=["broken_module"])
        """,
        url=server_url,
    )
    assert result.returncode == 1
    assert "broken_module" in result.stderr.splitlines()[-1]
    assert "no_such_thing" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_module_that_fails_only_in_the_child_is_a_clear_error(server_url: str, tmp_path: Path, method: str) -> None:
    (tmp_path / "fussy.py").write_text(
        textwrap.dedent("""
        import os
        if os.environ.get("PARENT") != str(os.getpid()):
            raise RuntimeError("not in a child, please")
        from podium import worker_task
        @worker_task("fussy")
        def work(): ...
        """)
    )
    result = run_script(
        tmp_path,
        """
        import os
        from podium import Configuration, TaskHandler
        if __name__ == "__main__":
            os.environ["PARENT"] = str(os.getpid())
            handler = TaskHandler(
                configuration=Configuration(server_api_url={url!r}), import_modules=["fussy"], start_method={method!r}
            )
            handler.start_processes()
        """,
        url=server_url,
        method=method,
    )
    assert result.returncode == 1
    assert "RuntimeError: not in a child, please" in result.stderr
    assert "podium.errors.StartError" in result.stderr


# the handler inside a program


def test_defect_26_handler_can_be_started_again(rig: Rig) -> None:
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none)) as handler:
        assert rig.run(samples.returns_none).status == "COMPLETED"
        handler.stop_processes()
        assert not handler.is_healthy()
        handler.start_processes()
        handler.start_processes()  # running already: nothing to do
        assert rig.run(samples.returns_none).status == "COMPLETED"
    handler.stop_processes()  # stopped already


def test_defect_27_thread_mode_stops_and_leaves_nothing(rig: Rig) -> None:
    rig.define(samples.returns_none, samples.sees_context_async)
    workers = [rig.worker(samples.returns_none), rig.worker(samples.sees_context_async)]
    handlers = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    before = {thread.name for thread in threading.enumerate()}
    with rig.running(*workers, isolation="thread"):
        rig.run(samples.returns_none)
        rig.run(samples.sees_context_async)
    until(lambda: {thread.name for thread in threading.enumerate()} <= before, "the threads' end", deadline=5)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == handlers


def test_defect_29_worker_found_twice_runs_once_and_the_list_is_left_alone(rig: Rig) -> None:
    worker = rig.worker(samples.returns_none)
    given = [worker, worker]
    handler = TaskHandler(given, rig.configuration, scan_for_annotated_workers=False)
    assert [found.function for found in handler.workers] == [worker.function]
    assert given == [worker, worker]


def test_single_worker_is_accepted_as_it_is(rig: Rig) -> None:
    worker = rig.worker(samples.returns_none)
    handler = TaskHandler(worker, rig.configuration, scan_for_annotated_workers=False)
    assert [found.function for found in handler.workers] == [worker.function]


def test_zero_workers_is_a_loud_error_with_a_hint(rig: Rig) -> None:
    handler = TaskHandler([], rig.configuration, scan_for_annotated_workers=False)
    with pytest.raises(DeclarationError, match="import_modules"):
        handler.start_processes()


def test_join_without_start_is_an_error(rig: Rig) -> None:
    with pytest.raises(StartError, match="no worker is running"):
        TaskHandler([], rig.configuration).join_processes()


def test_unknown_name_to_pause_is_an_error_that_lists_the_known(rig: Rig) -> None:
    with (
        rig.running(rig.worker(samples.returns_none), isolation="thread") as handler,
        pytest.raises(DeclarationError, match=rig.name_of(samples.returns_none)),
    ):
        handler.set_paused("nobody", paused=True)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("isolation", "fiber"),
        ("start_method", "clone"),
        ("processes", 0),
        ("grace_seconds", -1),
        ("metrics_settings", 1),
        ("grace_seconds", "x"),
        ("restart_backoff_seconds", -1),
        ("restart_max_attempts", -3),
        ("update_retry_delays", ["x", -1]),
        ("event_listeners", [dict]),
        ("event_listeners", [object()]),
        ("event_listeners", 5),
    ],
)
def test_handler_option_out_of_range_is_refused(rig: Rig, option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=option):
        TaskHandler([], rig.configuration, **{option: value})


def test_configuration_must_be_one() -> None:
    with pytest.raises(ConfigError, match="a Configuration"):
        TaskHandler([], "http://localhost:8080/api")  # type: ignore[arg-type]


def test_workers_must_be_workers(rig: Rig) -> None:
    with pytest.raises(DeclarationError, match="expected Worker objects"):
        TaskHandler(samples.returns_none, rig.configuration)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_client_works_before_during_and_after_a_handler(rig: Rig, method: Any) -> None:
    rig.define(samples.returns_none)
    with rig.running(rig.worker(samples.returns_none), start_method=method):
        during = rig.start(samples.returns_none)
        assert rig.last_task(during).status == "COMPLETED"
    assert rig.client.get_workflow(during).status == "COMPLETED"


def test_defect_46_leases_are_kept_while_a_stop_waits(
    rig: Rig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.define(samples.waits_for_file, response_timeout_seconds=1)
    go, mark = tmp_path / "go", tmp_path / "mark"
    with rig.running(rig.worker(samples.waits_for_file, lease_extend_enabled=True)) as handler:
        workflow_id = rig.start(samples.waits_for_file, path=str(go), mark=str(mark))
        until(mark.exists, "the task running")
        stopping = threading.Thread(target=handler.stop_processes, args=(60.0,))
        stopping.start()
        until(lambda: not handler.get_worker_status()[0]["polling"], "the end of polling")
        handler.print_summary()
        assert capsys.readouterr().out.endswith(" stopping\n")
        stopped_at = time.time() * 1000
        until(lambda: rig.task(workflow_id).update_time > stopped_at + 1500, "a lease that outlasts its timeout")
        go.touch()
        assert rig.last_task(workflow_id).status == "COMPLETED"
        stopping.join(20)
        assert not stopping.is_alive()
