"""Children that die: what their tasks are told, who dies with them, and how soon the next one works."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import crash_samples
import samples
from checker import check
from crew_stage import appears, crew_of, result_of, seen
from engine_fakes import task_json
from event_log import Kind
from podium.crew.alone import MOST_AT_ONCE
from podium.crew.forkserver import Forked
from podium.crew.launch import ForkServerLauncher
from podium.crew.place import RestartPolicy
from podium.polled import Interrupted, read_task
from rig import Rig, until
from task_server import Attempt, TaskServer

METHODS: list[Any] = ["forkserver", "spawn", "fork"]


def _run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def _failed(server: TaskServer) -> list[Attempt]:
    return [attempt for attempt in server.attempts.values() if attempt.status.startswith("FAILED")]


@pytest.mark.parametrize("method", METHODS)
def test_A10_child_that_is_killed_is_reported_and_replaced_at_once(tmp_path: Path, method: Any) -> None:
    with TaskServer() as server:
        rig = Rig(server.url)
        with rig.running(rig.worker(samples.waits_for_file, thread_count=5), start_method=method) as handler:
            name = rig.name_of(samples.waits_for_file)
            for number in range(5):
                server.add(name, path=str(tmp_path / "never"), mark=str(tmp_path / f"mark{number}"))
            until(lambda: len(list(tmp_path.glob("mark*"))) == 5, "five tasks running")
            (status,) = handler.get_worker_status()
            killed = time.monotonic()
            os.kill(status["pid"], signal.SIGKILL)
            server.wait_for_end(5)
            reports = [event.at for event in server.log.of(Kind.RESULT)]
            assert max(reports) - killed < 2
            assert [attempt.status for attempt in server.attempts.values()] == ["FAILED"] * 5
            for attempt in _failed(server):
                assert attempt.reason.startswith("worker process killed by SIGKILL"), attempt.reason
            polls = until(lambda: [e.at for e in server.log.of(Kind.POLL) if e.at > max(reports)], "a poll", deadline=5)
            assert polls[0] - killed < 1.5
            assert handler.is_healthy()
            assert handler.get_worker_status()[0]["restart_count"] == 1
    check(server.log)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by", ["SIGSEGV", "SIGABRT"])
def test_A11_fault_in_user_code_is_reported_with_its_name_and_place(
    by: str, method: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with TaskServer() as server:
        rig = Rig(server.url)
        with rig.running(rig.worker(crash_samples.crashes), start_method=method):
            server.add(rig.name_of(crash_samples.crashes), how=by)
            server.wait_for_end(5)
    (attempt,) = server.attempts.values()
    assert attempt.status == "FAILED"
    assert attempt.reason.startswith(f"worker process killed by {by} in end_process ({crash_samples.__file__}:")
    (record,) = [record.getMessage() for record in caplog.records if record.name == "podium.crew.place"]
    assert "where the worker process was:" in record
    assert "in crashes" in record
    assert "[failed here]" in record
    update = next(r.json for r in server.requests if r.path.startswith("/api/tasks") and b"FAILED" in r.body)
    lines = [line["log"] for line in update["logs"]]
    assert lines[0] == attempt.reason
    assert any("where the worker process was:" in line and "in crashes" in line for line in lines)


def test_A11_fault_of_a_coroutine_is_told_and_only_the_failed_thread_is_suspected(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.waits_for_file, crash_samples.crashes_async) as stage:
            innocent = stage.run(samples.waits_for_file, "a", path=str(tmp_path / "never"), mark=str(tmp_path / "m"))
            await appears(tmp_path / "m")
            guilty = stage.run(crash_samples.crashes_async, "b", how="SIGSEGV")
            for outcome in (await innocent, await guilty):
                assert "SIGSEGV in end_process" in result_of(outcome)["reasonForIncompletion"]
            await seen(lambda: stage.crew.alive, "the next child")
            (tmp_path / "never").touch()
            again = stage.run(samples.waits_for_file, "a", path=str(tmp_path / "never"))
            assert result_of(await again)["outputData"] == {"pid": stage.link.pid}  # among the others

    _run(main)


def test_end_of_standard_error_is_in_reason_and_log_and_passes_through(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    words = "x" * 5000 + "\nterminate called after throwing\x1b[31m\n  what():  out of cheese\n"

    async def main() -> None:
        async with crew_of(crash_samples.crashes) as stage:
            result = result_of(await stage.run(crash_samples.crashes, how="7", words=words))
            reason = "worker process exited with code 7; its standard error ends with: what():  out of cheese"
            assert result["reasonForIncompletion"] == reason
            tail = next(line["log"] for line in result["logs"] if "standard error:" in line["log"])
            assert len(tail) < 2200
            assert "terminate called" in tail
            await seen(lambda: stage.crew.alive, "the next child")

    _run(main)
    assert words in capfd.readouterr().err
    assert "terminate called after throwing\\x1b[31m\n" in caplog.text


@pytest.mark.parametrize("retries", [1, 4])
def test_A12_poison_task_ends_and_takes_no_neighbour_along(retries: int) -> None:
    """With 5 attempts the third death is the last; with 2 the server has enough first."""
    with TaskServer(retries=retries) as server:
        rig = Rig(server.url)
        with rig.running(rig.worker(crash_samples.runs_or_crashes, thread_count=4)) as handler:
            name = rig.name_of(crash_samples.runs_or_crashes)
            server.add(name, poison=True)
            server.add(name, 4, seconds=0.05)
            server.wait_for_end(20)
            assert handler.get_worker_status()[0]["restart_count"] == 1  # of the only death in company
    poison = [attempt for attempt in server.attempts.values() if attempt.inputs.get("poison")]
    assert [attempt.status for attempt in poison] == [
        *["FAILED"] * min(retries, 2), "FAILED" if retries == 1 else "FAILED_WITH_TERMINAL_ERROR",
    ]  # fmt: skip
    assert poison[0].reason == "worker process exited with code 9"
    if retries == 4:
        assert poison[-1].reason == (
            "worker process exited with code 9; 3 worker processes died with this task, so it is not retried "
            "(max_crashes=3)"
        )
    healthy = [attempt for attempt in server.attempts.values() if not attempt.inputs.get("poison")]
    last = {attempt.origin: attempt.status for attempt in healthy}  # by task, as its last attempt ended
    assert list(last.values()) == ["COMPLETED"] * 4
    assert all(attempt.retry_count <= 1 for attempt in healthy)
    check(server.log, slots=4)


def test_A12_poison_without_a_limit_of_its_own_ends_after_the_retries_of_the_server() -> None:
    with TaskServer(retries=4) as server:
        rig = Rig(server.url)
        with rig.running(rig.worker(crash_samples.runs_or_crashes, thread_count=4, max_crashes=0)) as handler:
            name = rig.name_of(crash_samples.runs_or_crashes)
            server.add(name, poison=True)
            server.add(name, 4, seconds=0.05)
            server.wait_for_end(20)
            assert handler.get_worker_status()[0]["restart_count"] == 1
    assert [a.status for a in server.attempts.values() if a.inputs.get("poison")] == ["FAILED"] * 5
    last = {a.origin: a.status for a in server.attempts.values() if not a.inputs.get("poison")}
    assert list(last.values()) == ["COMPLETED"] * 4


def test_suspect_runs_alone_while_others_go_on_and_is_acquitted_by_its_child_s_survival(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.waits_for_file, samples.tells_process) as stage:
            first = stage.run(samples.waits_for_file, "a", path=str(tmp_path / "go"), mark=str(tmp_path / "m1"))
            await appears(tmp_path / "m1")
            os.kill(stage.link.pid, signal.SIGKILL)
            assert (await first).status == "FAILED"
            await seen(lambda: stage.crew.alive, "the next child")
            again = stage.run(samples.waits_for_file, "a", path=str(tmp_path / "go"), mark=str(tmp_path / "m2"))
            pid = int(await appears(tmp_path / "m2"))
            assert pid != stage.link.pid
            assert [link.pid for link in stage.crew.links] == [stage.link.pid, pid]
            assert stage.crew.free(0) == 4  # it takes no slot of the others
            other = stage.run(samples.tells_process, "b")
            assert result_of(await other)["outputData"]["pid"] == stage.link.pid
            (tmp_path / "go").touch()
            assert result_of(await again)["outputData"] == {"pid": pid}
            await seen(lambda: len(stage.crew.links) == 1, "the end of its process")
            third = stage.run(samples.tells_process, "a")
            assert result_of(await third)["outputData"]["pid"] == stage.link.pid

    _run(main)


def test_stop_interrupts_a_suspect_and_those_that_wait_for_room(tmp_path: Path) -> None:
    async def main() -> None:
        futures, count = [], MOST_AT_ONCE + 2
        async with crew_of(samples.waits_for_file, thread_count=count) as stage:
            for _ in range(2):
                for number in range(count):
                    mark = tmp_path / f"m{number}"
                    mark.unlink(missing_ok=True)
                    futures.append(stage.run(samples.waits_for_file, f"t{number}", path="/never", mark=str(mark)))
                await seen(lambda: len(list(tmp_path.glob("m*"))) >= MOST_AT_ONCE, "they run")
                if len(futures) == count:
                    await seen(lambda: len(list(tmp_path.glob("m*"))) == count, "all run")
                    os.kill(stage.link.pid, signal.SIGKILL)
                    assert [(await future).status for future in futures] == ["FAILED"] * count
                    await seen(lambda: stage.crew.alive, "the next child")
            pids = [link.pid for link in stage.crew.links]
            assert len(pids) == 1 + MOST_AT_ONCE
        assert [type(future.exception()) for future in futures[count:]] == [Interrupted] * count
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    _run(main)


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("winds_down", [True, False])
def test_stop_while_the_process_of_a_suspect_ends_leaves_nothing_open(winds_down: bool, turns: int) -> None:
    async def main() -> list[int]:
        async with crew_of(samples.tells_process) as stage:
            stage.crew._suspects.accuse(read_task(task_json("t", workflowInstanceId="w")))
            assert (await stage.run(samples.tells_process)).status == "COMPLETED"
            pids = [link.pid for link in stage.crew.links]
            assert len(pids) == 2
            for _ in range(turns):
                await asyncio.sleep(0)
            if winds_down:
                stage.crew.wind_down()
        return pids

    pids = asyncio.run(main())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    gc.collect()  # what is open is an error of the test


@pytest.mark.parametrize("method", METHODS)
def test_A13_memory_beyond_the_limit_is_a_failure_of_its_task_alone(method: Any) -> None:
    async def main() -> None:
        async with crew_of(crash_samples.takes_memory, samples.tells_process, method=method) as stage:
            pid = stage.link.pid
            result = result_of(await stage.run(crash_samples.takes_memory, megabytes=4000, limit=3000))
            assert (result["status"], result["reasonForIncompletion"]) == ("FAILED", "MemoryError")
            assert result_of(await stage.run(samples.tells_process))["outputData"]["pid"] == pid

    _run(main)


@pytest.mark.parametrize("method", METHODS)
def test_peak_memory_of_a_killed_child_is_its_own(tmp_path: Path, method: Any) -> None:
    ballast = bytearray(200 * 1024 * 1024)  # of this process, from which children are started

    async def main() -> None:
        async with crew_of(crash_samples.takes_memory, crash_samples.crashes, method=method) as stage:
            await stage.run(crash_samples.takes_memory, megabytes=100)
            await seen(lambda: stage.link.memory > 100e6, "its beat")
            result = result_of(await stage.run(crash_samples.crashes, "b", how="SIGKILL"))
            peak = int(result["reasonForIncompletion"].partition("peak memory ")[2].split()[0])
            assert 100 < peak < 200 or method == "fork"  # which has this process's memory, too

    _run(main)
    assert ballast


def test_child_that_cannot_import_its_module_any_more_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import importlib

    from podium import Worker

    module = tmp_path / "breaks_later.py"
    good = "import os\ndef work():\n    return {'pid': os.getpid()}\n"
    module.write_text(good)
    monkeypatch.syspath_prepend(str(tmp_path))
    work = importlib.import_module("breaks_later").work
    with TaskServer() as server, caplog.at_level(logging.INFO):
        rig = Rig(server.url)
        with rig.running(Worker("breaks", work), start_method="spawn", restart_backoff_seconds=0.05) as handler:
            module.write_text("import os\nprint('on the way')\nos.abort()\n")
            os.kill(handler.get_worker_status()[0]["pid"], signal.SIGKILL)
            until(lambda: "could not be restarted" in caplog.text, "the complaint")
            module.write_text(good + "#")
            server.add("breaks")
            server.wait_for_end(20)
    told = [r.getMessage() for r in caplog.records if "could not be restarted" in r.getMessage()]
    assert len(told) == 1
    assert "while it was starting, the worker process killed by SIGABRT in <module> (" in told[0]
    assert f"{module}:3)" in told[0]
    assert "runs again" in caplog.text


@pytest.mark.parametrize(("method", "what"), [("spawn", "subprocess.Popen"), ("fork", "os.fork")])
def test_child_that_cannot_be_started_leaves_nothing_open(
    method: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise BlockingIOError(11, "no process to be had")

    async def main() -> None:
        async with crew_of(samples.returns_none, method=method) as stage:
            with monkeypatch.context() as context:
                context.setattr(what, refuse)
                before = len(list(Path("/proc/self/fd").iterdir()))
                for _ in range(5):
                    with pytest.raises(BlockingIOError):
                        await stage.launcher.launch([samples.returns_none])
                assert len(list(Path("/proc/self/fd").iterdir())) == before

    _run(main)


def test_fork_that_fails_in_the_fork_server_costs_no_other_child(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A container's limit of processes is reached just when a dead child is to be replaced."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "short_of_processes.py").write_text(
        "import os\nfrom pathlib import Path\nreal, full = os.fork, Path(__file__).with_name('full')\n"
        "def fork():\n    if full.exists():\n        raise BlockingIOError(11, 'no process to be had')\n"
        "    return real()\n"
        "os.fork = fork\n"
        "def tells_process():\n    return {'pid': os.getpid()}\n"
    )
    module = importlib.import_module("short_of_processes")
    monkeypatch.setattr(os, "fork", module.real)

    async def main() -> None:
        policy = RestartPolicy(backoff_seconds=0.1)
        async with crew_of(module.tells_process, processes=2, policy=policy) as stage:
            kept, lost = [member.link for member in stage.crew.members]
            assert kept is not None
            assert lost is not None
            before = len(list(Path("/proc/self/fd").iterdir()))
            (tmp_path / "full").touch()
            os.kill(lost.pid, signal.SIGKILL)
            await seen(lambda: "cannot be started: Resource temporarily unavailable" in caplog.text, "the complaint")
            assert result_of(await stage.run(module.tells_process))["outputData"] == {"pid": kept.pid}
            (tmp_path / "full").unlink()
            await seen(lambda: stage.crew.alive, "the successor")
            assert stage.crew.members[0].link is kept
            assert stage.crew.members[0].restarts == 0
            assert len(list(Path("/proc/self/fd").iterdir())) == before

    _run(main)


def test_fork_server_that_could_not_be_replaced_at_first_is_replaced_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(24, "no descriptor to be had")

    async def main() -> None:
        async with crew_of(samples.tells_process, policy=RestartPolicy(backoff_seconds=0.05)) as stage:
            before = len(list(Path("/proc/self/fd").iterdir()))
            with monkeypatch.context() as context:
                context.setattr(subprocess, "Popen", refuse)
                assert stage.launcher._process is not None  # type: ignore[attr-defined]
                stage.launcher._process.kill()  # type: ignore[attr-defined]
                await seen(lambda: stage.restarts >= 3, "attempts that fail")
            await seen(lambda: stage.crew.alive, "the successor")
            assert result_of(await stage.run(samples.tells_process))["outputData"]["pid"] == stage.link.pid
            assert len(list(Path("/proc/self/fd").iterdir())) == before

    _run(main)


def test_deaths_alone_are_in_the_log_with_all_that_is_known(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with crew_of(crash_samples.crashes) as stage:
            for number in range(3):
                outcome = await stage.run(crash_samples.crashes, "p", how="SIGSEGV", words=f"attempt {number}\n")
                await seen(lambda: stage.crew.alive, "the next child")
            assert outcome.status == "FAILED_WITH_TERMINAL_ERROR"
            assert stage.restarts == 1

    _run(main)
    (alone,) = [record.getMessage() for record in caplog.records if record.name == "podium.crew.alone"]
    assert alone.startswith("stage (alone): worker process killed by SIGSEGV; pid ")
    assert "it held 1 tasks: p\n" in alone
    assert "in end_process" in alone
    assert alone.endswith("attempt 1")  # the third is the same again


@pytest.mark.parametrize("turns", range(4))
def test_child_that_comes_when_nobody_wants_it_any_more_ends(turns: int) -> None:
    """Stopped between the fork server's word that it is there, and the moment when whoever asked for it hears that."""

    async def main() -> int:
        async with crew_of(samples.returns_none) as stage:
            launcher, pids = stage.launcher, []
            assert isinstance(launcher, ForkServerLauncher)
            asking = asyncio.create_task(launcher.launch([]))
            handle = launcher._handle

            def handling(frame: Any) -> None:
                handle(frame)
                if isinstance(frame, Forked):
                    pids.append(frame.pid)
                    if turns == 0:
                        asking.cancel()

            launcher._handle = handling  # type: ignore[method-assign]
            await seen(lambda: pids, "the child")
            for _ in range(turns - 1):
                await asyncio.sleep(0)
            asking.cancel()
            (answer,) = await asyncio.gather(asking, return_exceptions=True)
            if not isinstance(answer, BaseException):  # it was heard in time
                answer.ends.close()
            await seen(lambda: not Path(f"/proc/{pids[0]}").exists(), "its end")
        return pids[0]

    assert asyncio.run(main())
    gc.collect()  # what is open is an error of the test
