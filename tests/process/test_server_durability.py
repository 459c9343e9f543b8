"""A server that is killed loses nothing that it acknowledged."""

from __future__ import annotations

import http.client
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

CODE = "from podium.server import serve; serve(db={db!r}, ready=lambda url: print(url, flush=True))"


@contextmanager
def server(db: Path) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    command = [sys.executable, "-c", CODE.format(db=str(db))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        parts = urlsplit(process.stdout.readline())
        assert parts.hostname is not None
        assert parts.port is not None
        try:
            yield process, (parts.hostname, parts.port)
        finally:
            process.kill()


class Client:
    def __init__(self, address: tuple[str, int]) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=10)

    def close(self) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body)
        self._connection.request(method, f"/api{path}", data, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read().decode()
        assert answer.status in {200, 204}, content
        return json.loads(content) if (answer.headers["content-type"] or "").startswith("application/json") else content


class Record:
    """What one client was told before the server died."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.taken: dict[str, str] = {}
        self.completed: dict[str, int] = {}
        self.logged: list[str] = []

    def work(self, address: tuple[str, int], enough: threading.Event) -> None:
        number = 0
        client = Client(address)
        try:
            while True:
                number += 1
                self.started.append(client.call("POST", "/workflow", {"name": "flow", "input": {"n": number}}))
                for task in client.call("GET", "/tasks/poll/batch/t?count=1&timeout=0"):
                    self.taken[task["taskId"]] = task["workflowInstanceId"]
                    client.call("POST", f"/tasks/{task['taskId']}/log", "line")
                    self.logged.append(task["taskId"])
                    ids = {"taskId": task["taskId"], "workflowInstanceId": task["workflowInstanceId"]}
                    client.call("POST", "/tasks", {**ids, "status": "COMPLETED", "outputData": {"n": number}})
                    self.completed[task["taskId"]] = number
                if number > 40:
                    enough.set()
        except (OSError, http.client.HTTPException):
            return  # the server was killed
        finally:
            client.close()


def test_kill_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    db = tmp_path / "conductor.db"
    records = [Record() for _ in range(4)]
    enough = threading.Event()
    with server(db) as (process, address), closing(Client(address)) as client:
        client.call("POST", "/metadata/taskdefs", [{"name": "t", "retryCount": 0}])
        tasks = [{"name": "t", "taskReferenceName": "a"}, {"name": "next", "taskReferenceName": "b"}]
        client.call("POST", "/metadata/workflow", {"name": "flow", "tasks": tasks})
        threads = [threading.Thread(target=record.work, args=(address, enough)) for record in records]
        for thread in threads:
            thread.start()
        assert enough.wait(30)
        process.kill()
        for thread in threads:
            thread.join(20)

    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()

    with server(db) as (_, address), closing(Client(address)) as client:
        for record in records:
            for workflow_id in record.started:
                assert client.call("GET", f"/workflow/{workflow_id}?includeTasks=false")["status"] == "RUNNING"
            for task_id in record.taken.keys() - record.completed.keys():
                # Its report was on the way: it may have been applied, but the task was not handed out anew.
                assert client.call("GET", f"/tasks/{task_id}")["status"] in {"IN_PROGRESS", "COMPLETED"}
            for task_id, number in record.completed.items():
                task = client.call("GET", f"/tasks/{task_id}")
                assert (task["status"], task["outputData"]) == ("COMPLETED", {"n": number})
            for task_id in record.logged:
                assert len(client.call("GET", f"/tasks/{task_id}/log")) == 1
        done = sum(len(record.completed) for record in records)
        assert client.call("GET", "/tasks/queue/size?taskType=next") >= done
        handed_out = {task["taskId"] for task in client.call("GET", "/tasks/poll/batch/t?count=1000&timeout=0")}
        assert not handed_out & {task_id for record in records for task_id in record.taken}


def test_file_is_private_to_its_server_while_it_runs(tmp_path: Path) -> None:
    db = tmp_path / "conductor.db"
    with server(db) as (first, _):
        command = [sys.executable, "-c", CODE.format(db=str(db))]
        second = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode != 0
        assert "database is locked" in second.stderr
        assert first.poll() is None
    assert os.access(db, os.R_OK)
