"""Results on disk: the format, the folders, and who may touch them."""

from __future__ import annotations

import json
import os
import resource
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from podium import spool as spool_module
from podium.config import Configuration
from podium.spool import BAD, LOCK, SUPERSEDED, Spool, Takeover, default_folder, spool_of
from podium.spoolfile import (
    BadRecordError,
    Folder,
    Record,
    SpoolError,
    decode_record,
    encode_record,
    new_name,
)

SERVER = "http://conductor:8080/api"


def record(task_id: str = "t", **fields: Any) -> Record:
    body = json.dumps({"taskId": task_id, "outputData": {"ü": [1, None, "x" * 50]}}).encode()
    values: dict[str, Any] = {
        "task_id": task_id, "workflow_id": "w", "task_type": "type", "worker_id": "me", "status": "COMPLETED",
        "response_timeout": 60, "server": SERVER, "host": "here", "created": 1.5, "attempts": 1,
        "problem": "refused", "body": msgspec.Raw(body),
    }  # fmt: skip
    return Record(**(values | fields))


@contextmanager
def opened(path: Path, server: str = SERVER, host: str = "here") -> Iterator[Spool]:
    spool = Spool(path, server, host)
    spool.open()
    try:
        yield spool
    finally:
        spool.close()


def killed(path: Path, *records: Record, server: str = SERVER, host: str = "here") -> Path:
    """Leave records as a process does that was killed; return their folder."""
    spool = Spool(path, server, host)
    spool.open()
    for each in records:
        spool.save(each)
    assert spool._own is not None
    os.close(spool._lock)
    return spool._own.path


def taken_over(path: Path) -> Takeover:
    with opened(path) as spool:
        takeover = spool.take_over()
        for found in takeover.found:
            spool.remove_all([found.name])
    return takeover


def modes(path: Path) -> dict[str, int]:
    return {p.name: stat.S_IMODE(p.lstat().st_mode) for p in [path, *path.rglob("*")]}


# the format


def test_record_comes_back_as_it_went() -> None:
    assert decode_record(encode_record(record())) == record()
    assert bytes(decode_record(encode_record(record())).body) == bytes(record().body)


def test_S10_record_is_json_with_version_and_checksum() -> None:
    document = json.loads(encode_record(record()))
    assert document["podium_spool"] == 1
    assert len(document["sha256"]) == 64
    assert document["record"]["body"]["outputData"]["ü"][0] == 1


def test_E03_no_flipped_byte_and_no_cut_goes_unnoticed() -> None:
    data = encode_record(record())
    for place in range(len(data) - 1):
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        with pytest.raises(BadRecordError):
            decode_record(flipped)
        with pytest.raises(BadRecordError):
            decode_record(data[:place])


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "not a record"), (b"\0" * 100, "not a record"), (b"[1]", "not a record"), (b"null", "not a record"),
        (b'{"podium_spool":2,"anything":1}', "version 2, and this podium knows 1"),
        (b"[" * 100_000, "not a record"), (b"cposix\nsystem\n(S'true'\ntR.", "not a record"),
        (b'{"podium_spool":1,"sha256":"00","record":{}}', "its checksum does not fit"),
    ],
)  # fmt: skip
def test_S10_E03_what_is_no_record_is_refused_with_its_fault(data: bytes, fault: str) -> None:
    with pytest.raises(BadRecordError, match=fault):
        decode_record(data)


def test_S08_name_is_a_hash_and_new_each_time() -> None:
    names = {new_name("../../etc/passwd\0") for _ in range(100)}
    assert len(names) == 100
    assert all(len(name) == 45 and name.removesuffix(".json").isalnum() for name in names)


# the folders


def test_S08_files_are_ours_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "spool") as spool:
        spool.save(record())
        spool.keep_superseded(record("late"), None)
        for name, mode in modes(tmp_path / "spool").items():
            assert mode == (0o600 if name == LOCK or name.endswith(".json") else 0o700), name


def test_folder_of_a_process_goes_with_it_unless_something_waits(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        name = spool.save(record())
        assert spool.load(name) == record()
        spool.remove_all([name])
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    with opened(tmp_path) as spool:
        spool.save(record())
    assert len(list(tmp_path.glob("results-*/*.json"))) == 1


def test_S08_name_of_the_server_and_of_the_host_are_not_in_the_names(tmp_path: Path) -> None:
    killed(tmp_path, record("task-7"), server="http://secret-host/api", host="secret-host")
    assert not any("secret" in path.name or "task" in path.name for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_S08_folder_that_others_may_write_to_is_refused_with_the_fix(tmp_path: Path, mode: int) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(mode)
    with pytest.raises(SpoolError, match=r"others may write to it \(mode 07..\): chmod go-w"):
        Spool(tmp_path / "spool", SERVER).open()


def test_S08_link_is_not_followed_as_a_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to(tmp_path / "real")
    with pytest.raises(SpoolError, match="it is a link: name the folder itself"):
        Spool(tmp_path / "spool", SERVER).open()


def test_S08_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(SpoolError, match="belongs to user"):
        Spool(tmp_path, SERVER).open()


@pytest.mark.parametrize("obstacle", ["a file", "a file below"])
def test_E01_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "spool").touch()
    path = tmp_path / "spool" if obstacle == "a file" else tmp_path / "spool" / "below"
    with pytest.raises((SpoolError, OSError), match="spool"):
        Spool(path, SERVER).open()


def test_E01_write_that_the_system_refuses_leaves_nothing(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with opened(tmp_path) as spool:
        large = record(body=msgspec.Raw(json.dumps({"a": "x" * 100_000}).encode()))
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                spool.save(large)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


# taking over


def test_next_start_finds_what_a_killed_process_has_left(tmp_path: Path) -> None:
    folder = killed(tmp_path, record("a"), record("b"))
    (folder / "torn.tmp").write_bytes(encode_record(record("c"))[:30])
    takeover = taken_over(tmp_path)
    assert {found.record.task_id for found in takeover.found} == {"a", "b"}
    assert takeover.bad == []
    assert not folder.exists()
    assert taken_over(tmp_path).found == []


def test_what_was_taken_over_survives_the_next_kill_too(tmp_path: Path) -> None:
    killed(tmp_path, record("a"))
    spool = Spool(tmp_path, SERVER, "here")
    spool.open()
    (found,) = spool.take_over().found
    assert spool.load(found.name) == record("a")
    os.close(spool._lock)
    assert [each.record.task_id for each in taken_over(tmp_path).found] == ["a"]


def test_E04_what_a_running_process_holds_is_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as first, opened(tmp_path) as second:
        name = first.save(record("a"))
        assert second.take_over().found == []
        assert first.load(name) == record("a")
        first.remove_all([name])


@pytest.mark.parametrize(("server", "host"), [("http://other/api", "here"), (SERVER, "there")])
def test_results_of_another_server_and_of_another_host_are_left_alone(tmp_path: Path, server: str, host: str) -> None:
    folder = killed(tmp_path, record("a", server=server), server=server, host=host)
    assert taken_over(tmp_path) == Takeover()
    assert len(list(folder.glob("*.json"))) == 1


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


BAD_FILES: dict[str, Callable[[Path], object]] = {
    "garbage.json": lambda path: path.write_bytes(os.urandom(1000)),
    "truncated.json": lambda path: path.write_bytes(encode_record(record())[:200]),
    "empty.json": lambda path: path.touch(),
    "newer.json": lambda path: path.write_text('{"podium_spool":9}'),
    "link.json": lambda path: path.symlink_to("/etc/passwd"),
    "folder.json": lambda path: path.mkdir(),
    "pipe.json": make_pipe,
    "what is this": lambda path: path.write_text("?"),
    "elsewhere.json": lambda path: path.write_bytes(encode_record(record("x", server="http://other/api"))),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_E03_S08_what_is_no_result_of_ours_is_set_aside_and_takes_nobody_along(tmp_path: Path, name: str) -> None:
    folder = killed(tmp_path, record("a"))
    BAD_FILES[name](folder / name)
    takeover = taken_over(tmp_path)
    assert [found.record.task_id for found in takeover.found] == ["a"]
    ((told, fault),) = takeover.bad
    assert told == name
    assert fault
    assert len(list((tmp_path / BAD).iterdir())) == 1
    assert not folder.exists()


def test_E03_file_of_another_owner_is_set_aside(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    folder = killed(tmp_path, record("a"))
    (planted,) = folder.glob("*.json")
    os.chown(planted, 12345, -1)
    takeover = taken_over(tmp_path)
    assert takeover.found == []
    assert takeover.bad == [(planted.name, "belongs to user 12345")]


def test_E03_folder_that_others_may_write_to_is_not_believed(tmp_path: Path) -> None:
    folder = killed(tmp_path, record("a"))
    folder.chmod(0o777)
    with opened(tmp_path) as spool:
        takeover = spool.take_over()
        assert takeover.found == []
        assert [name for name, _ in takeover.bad] == [folder.name]
        assert spool.take_over() == Takeover()  # told once


def test_E03_good_results_are_found_also_where_the_bad_ones_cannot_be_set_aside(tmp_path: Path) -> None:
    folder = killed(tmp_path, record("a"), record("b"))
    (folder / "garbage.json").write_text("?")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / BAD).symlink_to(tmp_path / "elsewhere")
    with opened(tmp_path) as spool:
        takeover = spool.take_over()
        assert {found.record.task_id for found in takeover.found} == {"a", "b"}
        assert [name for name, _ in takeover.bad] == ["garbage.json"]
        assert spool.take_over() == Takeover()  # told once
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_B25_fault_of_the_system_costs_none_of_the_results_that_were_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, *(record(f"t{number}") for number in range(5)))
    real, calls = Folder.read, []

    def read(folder: Folder, name: str) -> bytes:
        calls.append(name)
        if len(calls) == 3:
            raise OSError(24, "Too many open files")
        return real(folder, name)

    monkeypatch.setattr(Folder, "read", read)
    with opened(tmp_path) as spool:
        first = spool.take_over()
        assert len(first.found) == 2
        assert first.fault is not None
        second = spool.take_over()
        assert second.fault is None
        assert {found.record.task_id for found in first.found + second.found} == {f"t{number}" for number in range(5)}


# what came too late


def test_superseded_result_is_kept_with_the_reason(tmp_path: Path) -> None:
    with opened(tmp_path) as spool:
        name = spool.save(record("a"))
        spool.keep_superseded(record("a", problem="the task is TIMED_OUT"), name)
    (kept,) = (tmp_path / SUPERSEDED).iterdir()
    assert decode_record(kept.read_bytes()).problem == "the task is TIMED_OUT"
    assert not list(tmp_path.glob("results-*/*.json"))


def test_only_the_newest_superseded_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "MOST_KEPT", 3)
    monkeypatch.setattr(spool_module, "_PRUNE_EVERY", 1)
    with opened(tmp_path) as spool:
        for number in range(6):
            spool.keep_superseded(record(f"t{number}"), None)
            for kept in (tmp_path / SUPERSEDED).iterdir():  # so that their order is certain
                age = 10 - int(decode_record(kept.read_bytes()).task_id[1:])
                os.utime(kept, times=(kept.stat().st_mtime, time.time() - age))
        kept_ids = {decode_record(kept.read_bytes()).task_id for kept in (tmp_path / SUPERSEDED).iterdir()}
        assert {"t3", "t4", "t5"} >= kept_ids >= {"t4", "t5"}
        for kept in (tmp_path / SUPERSEDED).iterdir():
            os.utime(kept, times=(1, 1))
        spool.keep_superseded(record("new"), None)
    assert len(list((tmp_path / SUPERSEDED).iterdir())) == 1


# the settings


def test_default_folder_is_with_the_user_s_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert default_folder() == tmp_path / "state" / "podium" / "spool"
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".local" / "state" / "podium" / "spool"
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert default_folder() == tmp_path / f"podium-spool-{os.geteuid()}"


def test_spool_of_a_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = "http://user:planted@conductor/api"
    spool = spool_of(Configuration(server_api_url=url, spool_dir=tmp_path / "mine"))
    assert spool is not None
    assert spool.path == tmp_path / "mine"
    assert spool.server == "http://***@conductor/api"
    assert spool_of(Configuration(spool=False)) is None
    monkeypatch.setenv("CONDUCTOR_SPOOL", "off")
    assert spool_of(Configuration()) is None
    monkeypatch.setenv("CONDUCTOR_SPOOL", "on")
    monkeypatch.setenv("CONDUCTOR_SPOOL_DIR", "~/results")
    named = spool_of(Configuration())
    assert named is not None
    assert named.path == Path.home() / "results"


def test_folder_that_is_missing_is_only_made_if_wanted(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Folder.open(tmp_path / "missing", create=False)
    Folder.open(tmp_path / "a" / "b" / "spool").close()
    assert stat.S_IMODE((tmp_path / "a" / "b" / "spool").stat().st_mode) == 0o700
