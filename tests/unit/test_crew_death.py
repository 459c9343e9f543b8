"""What is said of a dead child, and how it is known that memory was wanting."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from podium.crew.death import Death, OomKills, fault_in

STACK = (
    'Current thread 0x0000000000000007 [failed here] (most recent call first):\n  File "/app/x.py", line 3 in crash\n'
)


@pytest.mark.parametrize(
    ("death", "reason"),
    [
        (Death(exit_code=7), "exited with code 7"),
        (Death(exit_code=7, peak_memory=10**9), "exited with code 7"),
        (Death(exit_code=None), "ended in an unknown way"),
        (Death(exit_code=-9), "killed by SIGKILL (perhaps out of memory)"),
        (
            Death(exit_code=-9, peak_memory=3_940_000_000),
            "killed by SIGKILL (peak memory 3.9 GB; perhaps out of memory)",
        ),
        (Death(exit_code=-9, peak_memory=45_600_000, was_oom=False), "killed by SIGKILL (peak memory 46 MB)"),
        (
            Death(exit_code=-9, peak_memory=10**9, was_oom=True),
            "killed by the kernel for want of memory (SIGKILL) (peak memory 1.0 GB)",
        ),
        (
            Death(exit_code=-9, killed_for="it was silent for 35 s", was_oom=True),
            "killed by SIGKILL by podium: it was silent for 35 s",
        ),
        (
            Death(exit_code=-11, stack=STACK, thread_id=7, peak_memory=10**8),
            "killed by SIGSEGV in crash (/app/x.py:3) (peak memory 100 MB)",
        ),
        (
            Death(exit_code=-6, errors="terminate called\n  what(): no\x1b[31m"),
            "killed by SIGABRT; its standard error ends with: what(): no\\x1b[31m",
        ),
        (Death(exit_code=-signal.SIGRTMIN), "killed by SIGRTMIN"),
    ],
)
def test_reason_has_the_essence_first(death: Death, reason: str) -> None:
    assert death.reason == f"worker process {reason}"


def test_reason_is_no_longer_than_a_server_keeps() -> None:
    death = Death(exit_code=1, killed_for="y" * 600, errors="\x1b" * 600)
    assert len(death.reason) == 500
    assert death.reason.startswith("worker process exited with code 1 by podium: yyy")


def test_details_have_everything() -> None:
    assert Death(exit_code=0).details == []
    memory, stack, errors = Death(exit_code=-11, peak_memory=2_000_000, stack=STACK, errors="a\nb").details
    assert memory == "peak memory of the worker process: 2 MB"
    assert stack.endswith(STACK)
    assert errors == "the end of what the worker process wrote to standard error:\na\nb"


FATAL = (
    'Thread 0x0000000000000001 (most recent call first):\n  File "/app/x.py", line 9 in asked_before\n\n'
    "Fatal Python error: Segmentation fault\n\n"
    'Thread 0x0000000000000006 (most recent call first):\n  File "/app/x.py", line 1 in other\n\n'
    'Current thread 0x0000000000000007 (most recent call first):\n  File "/app/x.py", line 3 in crash\n'
)


def test_stack_of_a_fault_is_the_last_one_and_names_the_thread() -> None:
    stack, thread_id = fault_in(FATAL, -signal.SIGSEGV)
    assert thread_id == 7
    assert "asked_before" not in stack
    assert "other" in stack
    assert "[failed here]" in stack


@pytest.mark.parametrize("exit_code", [0, 1, None, -signal.SIGKILL, -signal.SIGTERM])
def test_end_without_a_fault_has_no_stack(exit_code: int | None) -> None:
    assert fault_in(FATAL, exit_code) == ("", 0)
    assert fault_in("", -signal.SIGSEGV) == ("", 0)


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "groups").mkdir()
    return tmp_path / "groups"


@pytest.mark.parametrize(
    ("listed", "counter"),
    [
        ("0::/app.slice/x\n", "app.slice/x/memory.events"),
        ("0::/\n", "memory.events"),
        ("0::/../elsewhere\n", "memory.events"),
        ("9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n", "memory/docker/abc/memory.oom_control"),
        ("4:memory:/docker/abc\n", "memory/memory.oom_control"),
    ],
)
def test_count_of_kills_is_found_in_both_versions_of_control_groups(groups: Path, listed: str, counter: str) -> None:
    proc, file = groups.parent / "proc", groups / counter
    (proc / "self/cgroup").write_text(listed)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("low 0\noom 5\noom_kill 3\n")
    kills = OomKills(proc, groups)
    kills.look()
    assert kills.happened() is False
    file.write_text("low 0\noom 7\noom_kill 4\n")
    assert kills.happened() is True


def test_kill_counts_for_those_that_die_with_it_and_not_for_later_ones(
    groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    (groups.parent / "proc/self/cgroup").write_text("0::/\n")
    counter = groups / "memory.events"
    counter.write_text("oom_kill 3\n")
    kills = OomKills(groups.parent / "proc", groups)
    kills.look()
    counter.write_text("oom_kill 5\n")
    assert [kills.happened(), kills.happened()] == [True, True]
    now += 10
    assert kills.happened() is False
    counter.write_text("oom_kill 6\n")  # of another process of the group
    kills.look()
    now += 10
    assert kills.happened() is False


def test_nothing_is_known_without_a_count(groups: Path) -> None:
    kills = OomKills(groups.parent / "proc", groups)  # no such file
    kills.look()
    assert kills.happened() is None
    (groups.parent / "proc/self/cgroup").write_text("nonsense\n0::/\n")
    kills = OomKills(groups.parent / "proc", groups)
    kills.look()
    assert kills.happened() is None
    (groups / "memory.events").write_text("oom_kill 1\n")
    assert kills.happened() is None  # nor whether it has risen
    assert kills.happened() is False
