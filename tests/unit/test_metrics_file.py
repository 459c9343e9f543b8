"""The metrics file: whole, current, and nothing beside it."""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

from podium import MetricsCollector, MetricsSettings, StartError
from podium.metrics.exporter import MetricsExporter
from podium.metrics.textfile import TextFile
from rig import until


def exporter_of(collector: MetricsCollector, directory: Path, **settings: Any) -> MetricsExporter:
    options: dict[str, Any] = {"directory": directory, "update_interval": 0.01}
    chosen = MetricsSettings(**(options | settings))
    return MetricsExporter(chosen, collector, {"/health": lambda: (True, {})})


@contextmanager
def exporting(collector: MetricsCollector, directory: Path, **settings: Any) -> Iterator[Path]:
    exporter = exporter_of(collector, directory, **settings)
    exporter.start()
    try:
        assert exporter.file_path is not None
        yield exporter.file_path
    finally:
        exporter.stop()
        assert exporter.file_path is None


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_file_follows_the_numbers_and_has_the_last_ones_at_the_end(tmp_path: Path) -> None:
    collector = MetricsCollector()
    folder = tmp_path / "made" / "on the way"
    with exporting(collector, folder) as path:
        assert path.read_bytes() == b""  # written at once
        collector.increment_task_poll("greet")
        until(lambda: b'task_poll_total{taskType="greet"} 1.0\n' in path.read_bytes(), "the first poll")
    with exporting(collector, folder, update_interval=3600) as path:
        collector.increment_task_poll("greet")
    assert path.read_bytes() == collector.render()[0]
    assert b'task_poll_total{taskType="greet"} 2.0\n' in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert names_in(folder) == ["metrics.prom"]


def test_file_and_http_at_once(tmp_path: Path) -> None:
    exporter = exporter_of(MetricsCollector(), tmp_path, http_port=0)
    exporter.start()
    assert exporter.port
    assert exporter.file_path == tmp_path / "metrics.prom"
    exporter.stop()


def test_unchanged_text_is_not_written_again_unless_the_file_is_gone(tmp_path: Path) -> None:
    text = [b"a"]
    file = TextFile(tmp_path / "m.prom", 3600, lambda: text[0])
    assert file.write()
    first = file.path.stat().st_ino, file.path.stat().st_mtime_ns
    assert not file.write()
    assert (file.path.stat().st_ino, file.path.stat().st_mtime_ns) == first
    text[0] = b"b"
    assert file.write()
    assert file.path.read_bytes() == b"b"
    file.path.unlink()
    assert file.write()
    tmp_path.joinpath("m.prom").unlink()
    tmp_path.rmdir()
    assert file.write()
    assert file.path.read_bytes() == b"b"


def test_S08_file_is_for_all_to_read_and_a_link_in_its_place_is_replaced_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    folder = tmp_path / "metrics"
    folder.mkdir()
    path = folder / "m.prom"
    path.symlink_to(precious)
    (folder / ".m.prom.old.tmp").symlink_to(precious)
    os.utime(folder / ".m.prom.old.tmp", (0, 0), follow_symlinks=False)
    os.utime(precious, (0, 0))
    before = os.umask(0)
    try:
        file = TextFile(path, 60, lambda: b"a 1\n")
        file.start()
        file.stop()
    finally:
        os.umask(before)
    assert precious.read_text() == "mine"
    assert [(entry.name, entry.is_symlink()) for entry in folder.iterdir()] == [("m.prom", False)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert path.read_bytes() == b"a 1\n"


def test_reader_never_sees_half_of_it(tmp_path: Path) -> None:
    count = iter(range(10_000_000))
    file = TextFile(tmp_path / "m.prom", 1e-6, lambda: b"%d\n" % next(count) * 20_000)
    file.start()
    try:
        seen: set[bytes] = set()
        end = time.monotonic() + 20
        while len(seen) < 20 and time.monotonic() < end:
            lines = file.path.read_bytes().splitlines()
            assert len(lines) == 20_000
            assert len(set(lines)) == 1
            seen.add(lines[0])
        assert len(seen) == 20
    finally:
        file.stop()
    assert names_in(tmp_path) == ["m.prom"]


def test_folder_that_cannot_be_written_to_is_an_error_at_start(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    exporter = exporter_of(MetricsCollector(), blocked, http_port=0)
    with pytest.raises(StartError, match=r"file/metrics.prom cannot be written: .*MetricsSettings\(directory=\.\.\.\)"):
        exporter.start()
    assert exporter.port is None
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("podium-metrics")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder_is_an_error_at_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StartError, match="Permission denied"):
            exporter_of(MetricsCollector(), tmp_path).start()
    finally:
        tmp_path.chmod(0o700)
    assert names_in(tmp_path) == []


def test_name_that_is_a_folder_is_an_error_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "metrics.prom").mkdir()
    with pytest.raises(StartError, match=r"metrics\.prom cannot be written"):
        exporter_of(MetricsCollector(), tmp_path).start()
    assert names_in(tmp_path) == ["metrics.prom"]


def test_failing_disk_is_logged_once_and_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    collector = MetricsCollector()
    folder, aside = tmp_path / "m", tmp_path / "aside"
    with caplog.at_level(logging.INFO, "podium"), exporting(collector, folder) as path:
        folder.rename(aside)
        folder.write_text("a file is in the way of the folder")
        until(lambda: "cannot be written" in caplog.text, "the failure is logged")
        tries = _tries(collector)
        until(lambda: len(tries) > 3, "it is tried again")
        folder.unlink()
        aside.rename(folder)
        until(lambda: "is written again" in caplog.text, "it is written again")
        assert path.read_bytes() == collector.render()[0]
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING", "INFO"]
    assert names_in(folder) == ["metrics.prom"]


def _tries(collector: MetricsCollector) -> list[int]:
    """Note every rendering from now on."""
    tries: list[int] = []

    class Notes:
        def collect(self) -> list[Any]:
            tries.append(1)
            return []

        def describe(self) -> list[Any]:
            return []

    collector.registry.register(Notes())
    return tries


def test_failure_in_the_middle_leaves_the_old_file_and_no_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = TextFile(tmp_path / "m.prom", 3600, iter([b"old", b"new", b"new"]).__next__)
    file.write()

    def no_space(*_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", no_space)
        with pytest.raises(OSError, match="No space"):
            file.write()
    assert file.path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["m.prom"]
    assert file.write()


def test_what_a_killed_program_left_is_removed_at_start_and_nothing_else(tmp_path: Path) -> None:
    others = {".m.prom.fresh.tmp", ".other.prom.old.tmp", "m.prom.old.tmp", "x.prom"}
    for name in {".m.prom.old.tmp", *others}:
        (tmp_path / name).write_text("x")
        age = 0 if name == ".m.prom.fresh.tmp" else 3600  # one may be another program's at this moment
        os.utime(tmp_path / name, (time.time() - age, time.time() - age))
    with exporting(MetricsCollector(), tmp_path, file_name="m.prom"):
        assert set(names_in(tmp_path)) == others | {"m.prom"}


def test_writer_takes_a_small_part_of_a_core_however_short_the_interval(tmp_path: Path) -> None:
    calls = 0

    def render() -> bytes:
        nonlocal calls
        calls += 1
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return b"%d" % calls

    file = TextFile(tmp_path / "m.prom", 1e-6, render)
    begun = time.monotonic()
    file.start()
    until(lambda: calls >= 4, "some renderings")
    elapsed = time.monotonic() - begun
    file.stop()
    assert elapsed > 2 * 0.4  # each 20 ms of work are followed by 20 times as long a pause
