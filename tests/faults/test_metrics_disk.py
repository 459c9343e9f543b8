"""A metrics file that cannot be written is the metrics' trouble, and nobody else's."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import pytest

import samples
from podium import ConfigError, DeclarationError, MetricsCollector, MetricsSettings, Worker
from podium.metrics import textfile
from rig import Rig, until
from task_server import TaskServer


def settings(folder: Path) -> MetricsSettings:
    return MetricsSettings(directory=folder, update_interval=0.02)


def no_space(*_: Any, **__: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def completed(server: TaskServer, rig: Rig, count: int) -> None:
    server.add(rig.name_of(samples.returns_none), count)
    server.wait_for_end(10)


def test_E05_folder_that_is_removed_while_workers_run_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    with TaskServer() as server:
        rig = Rig(server.url)
        with rig.running(rig.worker(samples.returns_none), isolation="thread", metrics_settings=settings(folder)):
            completed(server, rig, 3)
            shutil.rmtree(folder)
            completed(server, rig, 3)
            until((folder / "metrics.prom").exists, "the file", 5)
        assert server.statuses() == {"COMPLETED": 6}
    assert b"task_execution_started_total{" in (folder / "metrics.prom").read_bytes()
    assert [path.name for path in folder.iterdir()] == ["metrics.prom"]


def test_E05_full_disk_is_one_warning_and_costs_no_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with TaskServer() as server:
        rig = Rig(server.url)
        with (
            caplog.at_level(logging.INFO, "podium"),
            rig.running(
                rig.worker(samples.returns_none), isolation="thread", metrics_settings=settings(tmp_path)
            ) as handler,
        ):
            with monkeypatch.context() as full:
                full.setattr(tempfile, "NamedTemporaryFile", no_space)
                completed(server, rig, 5)
                until(lambda: "No space left" in caplog.text, "the warning", 5)
                completed(server, rig, 5)
                assert handler.is_healthy()
                assert handler.is_alive()
            until(lambda: "is written again" in caplog.text, "the file", 5)
        assert server.statuses() == {"COMPLETED": 10}
    assert sum("cannot be written" in message for message in caplog.messages) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.prom"]


@pytest.mark.parametrize("name", ["../../x", "..", "a/../../x", "/etc/x"])
def test_E05_names_lead_to_no_other_file(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b" / "metrics"
    collector = MetricsCollector()
    collector.increment_task_poll(name)  # as whoever counts by hand may
    file = textfile.TextFile(folder / "metrics.prom", 3600, lambda: collector.render()[0])
    assert file.write()
    assert f'taskType="{name}"'.encode() in file.path.read_bytes()
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["metrics.prom"]
    with pytest.raises(ConfigError, match="without a folder"):
        MetricsSettings(directory=folder, file_name=name)
    if "/" in name:
        with pytest.raises(DeclarationError, match="are not possible"):
            Worker(name, samples.returns_none)
