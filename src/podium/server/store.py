"""Where everything is kept: one SQLite connection, one writer.

Writes join an open transaction; ``commit`` ends it. Definitions of running workflows are stored once per content
(blueprints), tasks and workflows as JSON beside the columns that searches need. Queues are not stored: they follow
from the tasks. In file mode a commit is on disk (WAL, synchronous=FULL) when it returns.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from podium.errors import ConfigError

_SCHEMA_VERSION = 1
#: Marks a database file as podium's, so that a wrong file is refused and not filled with tables.
_APPLICATION_ID = 0x706F6469

_SCHEMA = """
CREATE TABLE task_definition (name TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE workflow_definition (
    name TEXT NOT NULL, version INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (name, version)) WITHOUT ROWID;
CREATE TABLE blueprint (key TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE workflow (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL, status TEXT NOT NULL, correlation_id TEXT,
    start_time INTEGER NOT NULL, update_time INTEGER NOT NULL, end_time INTEGER NOT NULL, blueprint TEXT NOT NULL,
    body BLOB NOT NULL);
CREATE INDEX workflow_by_name ON workflow (name, start_time);
CREATE INDEX workflow_by_start ON workflow (start_time);
CREATE INDEX workflow_open ON workflow (status) WHERE status IN ('RUNNING', 'PAUSED');
CREATE TABLE task (
    id TEXT PRIMARY KEY, workflow_id TEXT NOT NULL, seq INTEGER NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL,
    scheduled_time INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX task_by_workflow ON task (workflow_id, seq);
CREATE INDEX task_by_time ON task (scheduled_time);
CREATE TABLE log (task_id TEXT NOT NULL, created_time INTEGER NOT NULL, line TEXT NOT NULL);
CREATE INDEX log_by_task ON log (task_id, created_time);
"""


class Store:
    """The database. ``path`` is a file, created if missing, or ``:memory:``. Raises ConfigError for a wrong file."""

    def __init__(self, path: str) -> None:
        if path != ":memory:" and (not path or not Path(path).absolute().parent.is_dir()):
            raise ConfigError(
                f"db: no such directory: {Path(path).absolute().parent}" if path else "db: the path is empty"
            )
        self._begun = False
        try:
            self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
        except sqlite3.Error as error:
            raise ConfigError(f"db: {path} cannot be used: {error}") from error
        try:
            self._prepare(path)
        except sqlite3.Error as error:
            self._connection.close()
            raise ConfigError(f"db: {path} cannot be used: {error}") from error
        except ConfigError:
            self._connection.close()
            raise

    def _prepare(self, path: str) -> None:
        # An exclusive lock: a second server on the same file would hand out the same tasks.
        self._connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        version = self.value("PRAGMA user_version")
        application = self.value("PRAGMA application_id")
        is_new = not self.value("SELECT count(*) FROM sqlite_master") and not version and not application
        if not is_new and application != _APPLICATION_ID:
            raise ConfigError(f"db: {path} is a database of something else")
        if not is_new and version != _SCHEMA_VERSION:
            raise ConfigError(f"db: {path} has schema version {version}, this podium reads {_SCHEMA_VERSION}")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        if is_new:
            self._connection.executescript(
                f"BEGIN EXCLUSIVE; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION};"
                f"PRAGMA application_id = {_APPLICATION_ID}; COMMIT;"
            )

    @property
    def dirty(self) -> bool:
        """Whether there is something to commit."""
        return self._begun

    def write(self, sql: str, parameters: Sequence[Any]) -> int:
        """Run one change inside the open transaction; return the number of rows it touched."""
        if not self._begun:
            self._connection.execute("BEGIN")
            self._begun = True
        return self._connection.execute(sql, parameters).rowcount

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Return the rows of a query; it sees the open transaction."""
        return self._connection.execute(sql, parameters)

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row of a query, or None."""
        row = self._connection.execute(sql, parameters).fetchone()
        return row[0] if row else None

    def commit(self) -> None:
        """End the open transaction, if any; what was written is durable now. Raises sqlite3.Error."""
        if not self._begun:
            return
        if not self._connection.in_transaction:  # SQLite ends it by itself on a full disk, for one
            raise sqlite3.OperationalError("the transaction was rolled back by an earlier error")
        self._connection.execute("COMMIT")
        self._begun = False

    def roll_back(self) -> None:
        """Forget the open transaction, if any."""
        self._begun = False
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Commit and close; closing twice is fine."""
        try:
            self.commit()
        finally:
            self._connection.close()
