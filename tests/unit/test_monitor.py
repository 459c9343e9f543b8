"""What the monitor says of workers, and what it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from podium.monitor import Monitor, Monitoring

if TYPE_CHECKING:
    import pytest


class IdleRunner:
    """A runner as the monitor sees it."""

    worker = SimpleNamespace(task_definition_name="w")
    overdue = 0.0
    task_ids: tuple[str, ...] = ()


def monitor(**options: Any) -> Any:
    return Monitor(cast("Any", SimpleNamespace()), Monitoring(**options))


def test_worker_does_not_work_again_while_its_process_is_down(caplog: pytest.LogCaptureFixture) -> None:
    runner, crew = IdleRunner(), SimpleNamespace(alive=True, silent_for=99.0)
    looks = monitor()
    looks._look_at(runner, crew)
    assert "is silent for 99 s" in caplog.text
    caplog.clear()
    crew.alive, crew.silent_for = False, None  # killed; its successor is not there yet
    looks._look_at(runner, crew)
    assert caplog.messages == []
    crew.alive, crew.silent_for = True, 0.0
    looks._look_at(runner, crew)
    looks._look_at(runner, crew)
    assert caplog.messages == ["worker 'w': works again"]


def test_no_restart_is_promised_where_there_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """What runs in the threads of this process cannot be ended."""
    crew = SimpleNamespace(alive=True, silent_for=99.0)
    monitor(restart_stuck=True)._look_at(IdleRunner(), crew)
    (message,) = caplog.messages
    assert "the thread crew is silent for 99 s" in message
    assert "it is restarted" not in message
