"""Children that have served long enough: replaced under load, with nothing lost and no gap."""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import os
import re
import signal
import time
from collections import Counter
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
from podium import DeclarationError, MetricsCollector, TaskHandler, Worker
from podium.crew import place
from podium.crew.recycling import NEVER, Recycling
from podium.polled import Interrupted, read_task
from rig import Rig, until
from task_server import TaskServer


def _run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


def _under_load(server: TaskServer, worker: Worker, tasks: int, until_recycled: int, **options: Any) -> dict[str, Any]:
    """Run that many tasks of 20 ms, and more until so many children were recycled; return the worker's status."""
    with Rig(server.url).running(worker, monitor_interval_seconds=0.1, **options) as handler:
        name = worker.task_definition_name
        server.add(name, tasks, seconds=0.02)

        def recycled() -> bool:
            if sum(attempt.status == "SCHEDULED" for attempt in list(server.attempts.values())) < 20:
                server.add(name, 20, seconds=0.02)
            return bool(handler.get_worker_status()[0]["recycle_count"] >= until_recycled)

        until(recycled, "the replacements")
        server.wait_for_end(30)
        until(lambda: handler.get_worker_status()[0]["running"] == 0, "the last report")
        (status,) = handler.get_worker_status()
    return status


def _longest_gap(server: TaskServer) -> float:
    """Return the longest time without a task that was handed out, while some waited."""
    given = [event.at for event in server.log.of(Kind.GIVEN)]
    return max(after - before for before, after in itertools.pairwise(given))


def _per_child(server: TaskServer) -> Counter[int]:
    return Counter(attempt.output["pid"] for attempt in server.attempts.values())


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_max_tasks_replaces_a_child_under_load_without_loss_or_gap(
    method: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with TaskServer() as server, caplog.at_level(logging.INFO):
        worker = Worker("recycled", crash_samples.runs_or_crashes, thread_count=4, poll_interval=5, max_tasks=50)
        status = _under_load(server, worker, 200, until_recycled=3, start_method=method)
        assert server.statuses() == {"COMPLETED": len(server.attempts)}
        assert status["restart_count"] == 0
        assert _longest_gap(server) < 1
        per_child = _per_child(server)
        assert len(per_child) >= 4
        # All but the last have run what they may, and what came until the successor could run tasks.
        assert all(count >= 50 for count in list(per_child.values())[:-1]), per_child
        if method == "forkserver":
            assert all(count < 100 for count in per_child.values()), per_child
    told = [text for text in caplog.messages if "is replaced by" in text]
    assert len(told) >= status["recycle_count"]
    assert re.fullmatch(
        r"recycled: worker process \d+ is replaced by \d+: it has run 50 tasks \(max_tasks=50\)", told[0]
    )
    assert not [text for text in caplog.messages if "worker process" in text and text not in told]
    check(server.log, slots=4)


def test_max_age_replaces_children_one_after_the_other() -> None:
    with TaskServer() as server:
        worker = Worker(
            "ageing", crash_samples.runs_or_crashes, thread_count=2, poll_interval=5, processes=2, max_age_seconds=1
        )
        begun = time.monotonic()
        status = _under_load(server, worker, 100, until_recycled=4)
        assert time.monotonic() - begun > 1.8  # two generations
        assert server.statuses() == {"COMPLETED": len(server.attempts)}
        assert len(_per_child(server)) >= 6
        assert status["restart_count"] == 0
        assert _longest_gap(server) < 1


@pytest.mark.parametrize("monitored", [True, False])
def test_max_rss_replaces_a_child_that_keeps_too_much_and_gives_its_memory_back(
    monitored: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.plan.RSS_INTERVAL", 0.1)
    with TaskServer() as server, caplog.at_level(logging.INFO):
        rig = Rig(server.url)
        worker = rig.worker(crash_samples.takes_memory, max_rss_mb=300, thread_count=1)
        with rig.running(worker, monitor_interval_seconds=0.1, monitor_processes=monitored) as handler:
            for number in range(4):  # 100 MB each
                server.add(worker.task_definition_name, megabytes=100)
                server.wait_for_end(10)
                assert handler.get_worker_status()[0]["recycle_count"] == 0 or number >= 2
            until(lambda: handler.get_worker_status()[0]["recycle_count"] == 1, "the replacement")
            server.add(worker.task_definition_name, megabytes=1)
            server.wait_for_end(10)
            until(lambda: len(handler.get_worker_status()[0]["pids"]) == 1, "the end of the old process")
            pid = handler.get_worker_status()[0]["pid"]
            statm = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            assert statm < 100e6
    (told,) = [text for text in caplog.messages if "is replaced by" in text]
    assert re.search(r": it has [34]\d\d MB of memory resident \(max_rss_mb=300\)$", told)


def test_child_is_never_replaced_in_the_middle_of_a_task(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.waits_for_file, samples.tells_process, recycling=Recycling(max_tasks=1)) as stage:
            old = stage.link
            waiting = stage.run(samples.waits_for_file, "a", path=str(tmp_path / "go"), mark=str(tmp_path / "m"))
            await appears(tmp_path / "m")
            await seen(lambda: stage.crew.members[0].recycles == 1, "the replacement")
            assert stage.crew.alive
            assert stage.link is not old
            assert old in stage.crew.links
            assert stage.crew.free(0) == 4
            assert not waiting.done()
            (tmp_path / "go").touch()
            assert result_of(await waiting)["outputData"] == {"pid": old.pid}
            await seen(lambda: old not in stage.crew.links, "its end")
            assert not Path(f"/proc/{old.pid}").exists()

    _run(main)


def test_child_goes_on_until_its_successor_can_run_tasks() -> None:
    async def main() -> None:
        async with crew_of(samples.tells_process, recycling=Recycling(max_tasks=3), thread_count=1) as stage:
            launch, may_start = stage.launcher.launch, asyncio.Event()

            async def slow(functions: Any) -> Any:
                await may_start.wait()
                return await launch(functions)

            stage.launcher.launch = slow  # type: ignore[method-assign]
            old = stage.link
            ran_in = [result_of(await stage.run(samples.tells_process))["outputData"]["pid"] for _ in range(10)]
            assert ran_in == [old.pid] * 10
            may_start.set()
            await seen(lambda: stage.link is not old, "the successor")
            assert result_of(await stage.run(samples.tells_process))["outputData"]["pid"] == stage.link.pid

    _run(main)


def test_old_child_that_dies_with_its_last_task_fails_it_and_counts_as_no_restart(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.waits_for_file, recycling=Recycling(max_tasks=1)) as stage:
            old = stage.link
            waiting = stage.run(samples.waits_for_file, "a", path="/never", mark=str(tmp_path / "m"))
            await appears(tmp_path / "m")
            await seen(lambda: stage.link is not old, "the replacement")
            os.kill(old.pid, signal.SIGKILL)
            assert (await waiting).status == "FAILED"
            assert stage.restarts == 0
            assert stage.crew.alive

    _run(main)


def test_child_that_dies_while_its_successor_starts_is_mourned_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with crew_of(samples.waits_for_file, recycling=Recycling(max_tasks=2)) as stage:
            launch, may_start = stage.launcher.launch, asyncio.Event()

            async def slow(functions: Any) -> Any:
                await may_start.wait()
                return await launch(functions)

            stage.launcher.launch = slow  # type: ignore[method-assign]
            old = stage.link
            both = [stage.run(samples.waits_for_file, name, path="/never", mark=str(tmp_path / name)) for name in "ab"]
            await appears(tmp_path / "b")
            os.kill(old.pid, signal.SIGKILL)
            async with asyncio.timeout(2):
                assert [(await each).status for each in both] == ["FAILED"] * 2
            assert not stage.crew.alive
            may_start.set()
            await seen(lambda: stage.crew.alive, "the successor")
            assert stage.restarts == 1
            assert stage.crew.members[0].recycles == 0

    _run(main)


@pytest.mark.parametrize("turns", range(6))
def test_stop_while_a_successor_comes_leaves_no_process(turns: int) -> None:
    async def main() -> list[int]:
        async with crew_of(samples.tells_process, recycling=Recycling(max_tasks=1)) as stage:
            launch, children = stage.launcher.launch, []

            async def noting(functions: Any) -> Any:
                children.append(await launch(functions))
                return children[-1]

            stage.launcher.launch = noting  # type: ignore[method-assign]
            old = stage.link.pid
            await stage.run(samples.tells_process)
            (child,) = await seen(lambda: children, "the successor")
            member = stage.crew.members[0]
            await seen(lambda: (link := member._coming) is None or link._ready.done(), "its readiness")
            for _ in range(turns):
                await asyncio.sleep(0)
        return [old, child.pid]

    pids = asyncio.run(main())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    gc.collect()  # what is open is an error of the test


def test_child_goes_on_while_no_successor_can_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(place, "RETRY_SECONDS", 0.1)

    async def main() -> None:
        async with crew_of(samples.tells_process, recycling=Recycling(max_tasks=1)) as stage:
            launch, refusals = stage.launcher.launch, iter(range(2))

            async def refusing(functions: Any) -> Any:
                if next(refusals, None) is not None:
                    raise OSError(11, "no process to be had")
                return await launch(functions)

            stage.launcher.launch = refusing  # type: ignore[method-assign]
            old = stage.link.pid
            await stage.run(samples.tells_process)
            await seen(lambda: "could not be replaced" in caplog.text, "the complaint")
            assert result_of(await stage.run(samples.tells_process))["outputData"]["pid"] == old
            await seen(lambda: stage.crew.members[0].recycles == 1, "the replacement")
            assert result_of(await stage.run(samples.tells_process))["outputData"]["pid"] != old

    _run(main)
    assert re.search(r"although it has run 1 tasks \(max_tasks=1\): .*no process to be had", caplog.text)


def test_child_whose_successor_cannot_be_had_is_spared_although_tasks_and_memory_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with crew_of(samples.tells_process, recycling=Recycling(max_tasks=1)) as stage:
            attempts = 0

            async def refusing(functions: Any) -> Any:
                nonlocal attempts
                attempts += 1
                raise OSError(11, f"no process to be had for {functions}")

            stage.launcher.launch = refusing  # type: ignore[method-assign]
            for _ in range(20):
                await stage.run(samples.tells_process)
            await seen(lambda: "could not be replaced" in caplog.text, "the complaint")
            for _ in range(20):
                await stage.run(samples.tells_process)
            assert attempts == 1

    _run(main)


def test_limit_of_memory_that_no_child_can_keep_is_told_and_does_not_replace_without_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podium.crew.link.RETRY_SECONDS", 1.0)

    async def main() -> None:
        async with crew_of(samples.tells_process, recycling=Recycling(max_rss_mb=1)) as stage:
            begun, old = time.monotonic(), stage.link
            await seen(lambda: stage.crew.members[0].recycles == 1, "the replacement")  # a beat comes each 0.2 s
            assert time.monotonic() - begun > 0.9
            assert stage.link is not old

    _run(main)
    (told,) = [text for text in caplog.messages if "raise max_rss_mb" in text]
    assert re.match(r"stage: max_rss_mb=1 is less than a worker process needs before its first task \(\d+ MB\)", told)


def test_replacements_are_counted_in_the_metrics_apart_from_restarts() -> None:
    collector = MetricsCollector()
    with TaskServer() as server:
        worker = Worker("counted", crash_samples.runs_or_crashes, thread_count=2, poll_interval=5, max_tasks=10)
        _under_load(server, worker, 30, until_recycled=1, event_listeners=[collector])
        text = collector.render()[0].decode()
    assert re.search(r'worker_recycle_total\{taskType="counted"\} [1-9]', text)
    assert 'worker_restart_total{taskType="counted"}' not in text


@pytest.mark.parametrize("option", ["max_tasks", "max_rss_mb", "max_age_seconds"])
def test_limits_of_children_are_refused_where_there_are_none(option: str) -> None:
    handler = TaskHandler(
        workers=[Worker("w", samples.returns_none, isolation="thread", **{option: 9})],
        scan_for_annotated_workers=False,
    )
    with pytest.raises(DeclarationError, match=rf"'w': {option}=9 is about child processes"):
        handler.start_processes()


@pytest.mark.parametrize("where", ["retiring", "alone"])
def test_eviction_finds_a_task_in_a_child_that_retires_and_in_one_of_its_own(where: str, tmp_path: Path) -> None:
    recycling = Recycling(max_tasks=1) if where == "retiring" else NEVER

    async def main() -> None:
        async with crew_of(samples.waits_for_file, samples.tells_process, recycling=recycling) as stage:
            if where == "alone":
                stage.crew._suspects.accuse(read_task(task_json("a", workflowInstanceId="w")))
            future = stage.run(samples.waits_for_file, "a", path="/never", mark=str(tmp_path / "m"))
            pid = int(await appears(tmp_path / "m"))
            await seen(lambda: pid not in {link.pid for link in stage.crew._links()}, "another place")
            stack = await stage.crew.evict(future, "it is overdue")
            assert "waits_for_file" in stack
            assert isinstance(future.exception(), Interrupted)
            await seen(lambda: pid not in {link.pid for link in stage.crew.links}, "its end")
            assert stage.crew.alive
            assert stage.restarts == 0

    _run(main)
