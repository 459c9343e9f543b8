from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from podium import MetricsCollector
from podium.metrics import processes
from podium.metrics.processes import ProcessWatch, usage_of

MEMORY = "worker_process_resident_memory_bytes"
CPU = "worker_process_cpu_seconds"

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system has no /proc")


@contextmanager
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until its input ends."""
    code = "import sys; sys.stdout.write('.'); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        try:
            yield process
        finally:
            process.kill()


def test_own_usage_is_what_the_system_says() -> None:
    before = time.process_time()
    usage = usage_of(os.getpid())
    assert usage is not None
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    assert usage.memory == pytest.approx(pages * os.sysconf("SC_PAGE_SIZE"), rel=0.1)
    assert before - 0.1 <= usage.cpu <= time.process_time() + 0.1


def test_name_with_blanks_and_parentheses_does_not_shift_the_fields(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    numbers = " ".join(map(str, range(4, 53)))  # each field holds its own number
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (a) R (b 1 2) S {numbers}\n")
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    usage = usage_of(7)
    assert usage is not None
    assert usage.cpu == (14 + 15) / os.sysconf("SC_CLK_TCK")
    assert usage.memory == 24 * os.sysconf("SC_PAGE_SIZE")


def test_without_a_source_no_process_is_shown() -> None:
    assert ProcessWatch().usages() == {}
    assert MEMORY not in MetricsCollector().get_metrics()


def test_children_are_shown_by_title_beside_this_process() -> None:
    collector = MetricsCollector()
    with child() as first, child() as second:
        collector.watch_processes(lambda: [("greet", first.pid), ("price (2)", second.pid)])
        metrics = collector.get_metrics()
        assert set(metrics[MEMORY]) == set(metrics[CPU]) == {("podium",), ("greet",), ("price (2)",)}
        assert all(memory > 100_000 for memory in metrics[MEMORY].values())
        text = collector.render()[0].decode()
    assert f'{MEMORY}{{process="greet"}} ' in text
    assert f'{CPU}{{process="podium"}} ' in text
    assert "pid" not in text


def test_restarted_child_shows_its_new_values_and_a_dead_one_none() -> None:
    collector = MetricsCollector()
    pids: list[tuple[str, int]] = []
    collector.watch_processes(lambda: pids)
    with child() as first:
        pids[:] = [("greet", first.pid)]
        assert ("greet",) in collector.get_metrics()[MEMORY]
        first.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, first.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
        assert ("greet",) not in collector.get_metrics()[MEMORY]
    assert ("greet",) not in collector.get_metrics()[MEMORY]
    with child() as second:
        pids[:] = [("greet", second.pid)]
        assert collector.get_metrics()[MEMORY]["greet",] > 0


def test_processes_of_one_title_are_added_up() -> None:
    collector = MetricsCollector()
    with child() as first, child() as second:
        alone = usage_of(first.pid)
        assert alone is not None
        collector.watch_processes(lambda: [("greet", first.pid), ("greet", second.pid)])
        assert collector.get_metrics()[MEMORY]["greet",] > 1.2 * alone.memory


def test_sources_add_up_until_each_is_ended() -> None:
    watch = ProcessWatch()
    own = os.getpid()

    def source() -> list[tuple[str, int]]:
        return [("again", own)]

    end_first, end_second = watch.add(source), watch.add(source)
    assert watch.usages()["again"].memory > 1.5 * watch.usages()["podium"].memory
    end_first()
    end_first()
    assert watch.usages()["again"].memory < 1.5 * watch.usages()["podium"].memory
    end_second()
    assert watch.usages() == {}


def test_failing_source_is_logged_once_and_costs_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    collector = MetricsCollector()

    def fails() -> list[tuple[str, int]]:
        raise RuntimeError("dictionary changed size during iteration")

    collector.watch_processes(fails)
    collector.watch_processes(lambda: [("well", os.getpid())])
    collector.increment_task_poll("greet")
    with caplog.at_level(logging.INFO, "podium"):
        for _ in range(3):
            assert set(collector.get_metrics()[MEMORY]) == {("podium",), ("well",)}
    assert collector.get_metrics()["task_poll_total"] == {("greet",): 1}
    assert len(caplog.records) == 1


def test_system_without_proc_shows_no_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    collector = MetricsCollector()
    collector.watch_processes(lambda: [("greet", os.getpid())])
    assert MEMORY not in collector.get_metrics()
