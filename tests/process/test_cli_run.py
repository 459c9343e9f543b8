"""``podium run``: workers as a program."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from podium import StartWorkflowRequest, TaskDef, WorkflowDef, WorkflowTask
from programs import killed_at_the_end
from rig import Rig, unique, until

WORKERS = """
import logging
from podium import worker_task

@worker_task({name!r}, poll_interval=20)
def greet(name: str) -> str:
    logging.getLogger("greeter").info("greeting %s", name)
    return f"Hello, {{name}}!"
"""


@contextmanager
def running(rig: Rig, folder: Path, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "podium", "run", *arguments],
        cwd=folder,
        env=os.environ | environment | {"CONDUCTOR_SERVER_URL": rig.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with killed_at_the_end(process):
        yield process


def greeted(rig: Rig, name: str) -> object:
    rig.client.register_task_defs([TaskDef(name=name, retry_count=0)])
    step = WorkflowTask(name=name, task_reference_name="t", input_parameters={"name": "podium"})
    flow = WorkflowDef(name=f"{name}_flow", tasks=[step])
    return rig.last_task(rig.client.start_workflow(StartWorkflowRequest(name=flow.name, workflow_def=flow))).output_data


def test_workers_run_until_a_signal_and_say_what_they_do(rig: Rig, tmp_path: Path) -> None:
    name = unique("greet")
    (tmp_path / "greeter.py").write_text(WORKERS.format(name=name))
    arguments = ["greeter", "--thread-count", "3", "--isolation", "thread"]
    with running(rig, tmp_path, *arguments, CONDUCTOR_WORKER_ALL_CONCURRENCY="9") as process:
        assert greeted(rig, name) == {"result": "Hello, podium!"}
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "Conductor Worker[name=" in err
    assert "thread_count=3" in err
    assert "INFO greeter: greeting podium" in err
    assert re.search(r"podium.drain: stopped in \d+\.\d s$", err.rstrip())


def test_json_lines_and_health(rig: Rig, tmp_path: Path) -> None:
    name = unique("greet")
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "greeter.py").write_text(WORKERS.format(name=name))
    arguments = ["--path", "jobs", "--metrics-port", "0", "--metrics-host", "localhost"]
    with running(rig, tmp_path, *arguments, CONDUCTOR_LOG_FORMAT="json") as process:
        lines: list[dict[str, object]] = []
        assert process.stderr is not None
        while not any("/metrics" in str(line["message"]) for line in lines):
            lines.append(json.loads(process.stderr.readline()))
        url = str(lines[-1]["message"]).split()[1].removesuffix("/metrics")
        assert greeted(rig, name) == {"result": "Hello, podium!"}

        assert url.startswith("http://localhost:")

        def health() -> dict[str, object]:
            with urllib.request.urlopen(f"{url}/health/ready", timeout=10) as answer:
                content: dict[str, object] = json.load(answer)
                return content

        assert until(health, "health")["status"] == "UP"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    lines += [json.loads(line) for line in err.splitlines()]
    assert process.returncode == 0
    (greeting,) = [line for line in lines if line["logger"] == "greeter"]
    assert (greeting["message"], greeting["task_type"], greeting["attempt"]) == ("greeting podium", name, 0)


def test_what_is_wrong_is_told_without_a_traceback(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "greeter.py").write_text(WORKERS.format(name="g"))
    with running(rig, tmp_path, "greeter", "--thread-count", "0") as process:
        _, err = process.communicate(timeout=20)
    assert process.returncode == 2
    assert "Invalid value for --thread-count: '0': expected a whole number from 1 to 2147483647" in err
    with running(rig, tmp_path, "greter") as process:
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (3, "")
    assert err.startswith("podium: there is no module 'greter'; did you mean 'greeter'?")
    assert len(err.splitlines()) == 1
