"""The database file: what it accepts, what it keeps, what happens when it fails."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from podium.errors import ConfigError
from podium.server.actions import TaskReport
from podium.server.problems import Problem
from podium.server.repository import Repository
from podium.server.service import Service
from podium.server.store import Store
from unit.server.world import blueprint, operator, simple


def test_new_file_is_made_and_read_again(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    store = Store(path)
    store.write("INSERT INTO log VALUES ('t', 1, ?)", ("nul \0 and '; DROP TABLE log; --",))
    store.close()
    again = Store(path)
    assert again.value("SELECT line FROM log") == "nul \0 and '; DROP TABLE log; --"
    again.close()


def test_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "a.db"))
    with pytest.raises(ConfigError, match="cannot be used: database is locked"):
        Store(str(tmp_path / "a.db"))
    store.close()


def test_foreign_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_bytes(b"not a database, just text" * 100)
    with pytest.raises(ConfigError, match="cannot be used"):
        Store(str(text))
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE mine (x)")
    connection.close()
    before = other.read_bytes()
    with pytest.raises(ConfigError, match="something else"):
        Store(str(other))
    assert other.read_bytes() == before
    with pytest.raises(ConfigError, match="cannot be used: unable to open"):
        Store(str(tmp_path))
    with pytest.raises(ConfigError, match="the path is empty"):
        Store("")
    with pytest.raises(ConfigError, match="no such directory"):
        Store(str(tmp_path / "none" / "a.db"))


def test_file_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store(str(path)).close()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigError, match="schema version 99"):
        Store(str(path))


def test_roll_back_forgets() -> None:
    store = Store(":memory:")
    store.write("INSERT INTO log VALUES ('t', 1, 'x')", ())
    store.roll_back()
    assert not store.dirty
    assert store.value("SELECT count(*) FROM log") == 0


def test_commit_after_a_roll_back_of_sqlite_itself_is_an_error() -> None:
    store = Store(":memory:")
    store.write("INSERT INTO log VALUES ('t', 1, 'x')", ())
    store._connection.execute("ROLLBACK")
    with pytest.raises(sqlite3.OperationalError, match="rolled back by an earlier error"):
        store.commit()


def test_executions_survive_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "a.db")
    tasks = [simple("a"), operator("WAIT", "wait", inputParameters={"duration": "1 day"}), simple("b")]

    async def first_life() -> str:
        store = Store(path)
        service = Service(store)
        service.reload()
        made = service.repository.blueprint(bytes(blueprint(tasks).raw))
        run = service.start(made, {"n": 1}, task_to_domain={"t": "d"})
        service.start(made, {}, priority=5)
        await service.committed()
        service.close()
        store.close()
        return run.id

    async def second_life(workflow_id: str) -> None:
        store = Store(path)
        service = Service(store)
        service.reload()
        ((run, attempt),) = await service.poll("t", "d", "worker")
        assert run.id == workflow_id
        assert run.workflow.input == {"n": 1}
        service.update(TaskReport(workflow_instance_id=run.id, task_id=attempt.task_id, status="COMPLETED"))
        assert run.latest["wait"].status == "IN_PROGRESS"
        assert run.id in service.live._timers
        assert len(await service.poll("t", None, "worker")) == 1
        await service.committed()
        service.close()
        store.close()

    asyncio.run(second_life(asyncio.run(first_life())))


def test_failed_commit_is_told_to_who_waits_and_memory_goes_back() -> None:
    async def body() -> None:
        store = Store(":memory:")
        service = Service(store)
        service.reload()
        await service.committed()
        made = service.repository.blueprint(bytes(blueprint([simple("a")]).raw))
        run = service.start(made, {})
        store._connection.execute("ROLLBACK")  # as a full disk would
        with pytest.raises(Problem, match="rolled back"):
            await service.committed()
        with pytest.raises(Problem, match="No such workflow"):
            service.run(run.id)
        assert await service.poll("t", None, None) == []
        again = service.start(service.repository.blueprint(bytes(blueprint([simple("a")]).raw)), {})
        await service.committed()
        assert service.run(again.id).open_attempts()
        service.close()

    asyncio.run(body())


def test_fault_in_a_change_leaves_nothing_of_it() -> None:
    async def body() -> None:
        service = Service(Store(":memory:"))
        run = service.start(service.repository.blueprint(bytes(blueprint([simple("a")]).raw)), {})
        await service.committed()

        def broken(_turn: object) -> None:
            run.workflow.status = "PAUSED"
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            service.control(run, broken)
        assert service.run(run.id).workflow.status == "RUNNING"
        service.close()

    asyncio.run(body())


def test_unused_blueprints_are_pruned() -> None:
    repository = Repository(Store(":memory:"))
    repository.blueprint(bytes(blueprint([simple("a")]).raw))
    repository.prune_blueprints()
    assert repository.store.value("SELECT count(*) FROM blueprint") == 0
