"""The import statements of conductor-python's programs under podium.compat."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from podium.compat.finder import InTheWayError


def run(code: str, *paths: Path) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter of its own, with more folders in front of its path."""
    path = os.pathsep.join([*map(str, paths), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip


def printed(code: str) -> str:
    result = run("import podium.compat\n" + textwrap.dedent(code))
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


@pytest.mark.parametrize(
    "imports",
    [
        "import conductor.client.worker.worker_task\nfound = conductor.client.worker.worker_task.worker_task",
        "import conductor.client.worker.worker_task as module\nfound = module.worker_task",
        "from conductor.client.worker.worker_task import worker_task as found",
        "from conductor.client.worker import worker_task as module\nfound = module.worker_task",
        "import conductor.client.worker.worker_task\nfrom conductor import client\n\
found = client.worker.worker_task.worker_task",
        "from conductor.client.worker.worker_task import *\nfound = worker_task",
        "import importlib\nfound = importlib.import_module('conductor.client.worker.worker_task').worker_task",
    ],
)
def test_every_form_of_import(imports: str) -> None:
    assert printed(f"{imports}\nimport podium; print(found is podium.worker_task)") == "True"


def test_names_are_the_same_object_each_time() -> None:
    code = """
        from conductor.client.http.models import Task
        from conductor.client.http.models.task import Task as again
        import podium
        print(Task is again is podium.Task)
    """
    assert printed(code) == "True"


def test_module_lists_what_it_has() -> None:
    code = """
        import conductor.client.automator.task_handler as module
        for name in ("TaskHandler", "_run_sync_worker_process", "_decorated_functions"):
            print(name in dir(module), end=" ")
    """
    assert printed(code) == "True False True"


@pytest.mark.parametrize(
    ("imports", "kind", "reason"),
    [
        (
            "from conductor.client.automator.task_runner import TaskRunner",
            "ImportError",
            "conductor.client.automator.task_runner.TaskRunner has no place in podium: podium's runners are part of",
        ),
        (
            "from conductor.client.event import SyncEventDispatcher",
            "ImportError",
            "cannot import name 'SyncEventDispatcher'",
        ),
        (
            "from conductor.client.event import EventDispatcher",
            "ImportError",
            "TaskHandler(event_listeners=[...])",
        ),
        (
            "from conductor.client.orkes_clients import OrkesClients",
            "ModuleNotFoundError",
            "conductor.client.orkes_clients has no place in podium: podium.compat has what workers use",
        ),
        ("import conductor.client.http.api", "ModuleNotFoundError", "podium.Client"),
        ("import conductor.server", "ModuleNotFoundError", "No module named 'conductor.server'"),
    ],
)
def test_what_has_no_place_says_why(imports: str, kind: str, reason: str) -> None:
    code = f"""
        try:
            {imports}
        except ImportError as error:
            print(type(error).__name__, error)
    """
    assert printed(code).startswith(f"{kind} ")
    assert reason in printed(code)


def test_importing_it_is_cheap_and_the_names_come_when_they_are_used() -> None:
    code = """
        import sys
        def loaded(): return sorted(name for name in sys.modules if name.startswith("podium"))
        first = loaded()
        print(*first)
        import conductor.client.worker.worker_task, conductor.client.automator.task_handler
        print(loaded() == first)
        conductor.client.worker.worker_task.worker_task
        print("podium.registry" in loaded(), "podium.handler" in loaded())
    """
    lines = printed(code).splitlines()
    modules = "podium podium.compat podium.compat.finder podium.errors podium.migrate podium.migrate.table"
    assert lines == [modules, "True", "True False"]


def _package(folder: Path, *files: str) -> Path:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")
    return folder


@pytest.mark.parametrize(
    "files",
    [
        ["conductor/__init__.py", "conductor/client/__init__.py"],
        ["conductor/client/__init__.py"],
        ["conductor/client/worker/__init__.py"],
    ],
)
def test_refuses_where_the_real_one_is_installed(tmp_path: Path, files: list[str]) -> None:
    result = run("import podium.compat", _package(tmp_path, *files))
    assert result.returncode == 1
    (message,) = result.stderr.splitlines()[-1:]
    assert message.startswith(
        "podium.compat.finder.InTheWayError: podium.compat stands in for conductor-python, which is installed in "
    )
    assert str(tmp_path / "conductor") in message
    assert "pip uninstall conductor-python" in message
    assert issubclass(InTheWayError, ImportError)


def test_refuses_where_the_real_one_was_imported(tmp_path: Path) -> None:
    code = f"""
        import sys
        import conductor.client
        sys.path.remove({str(tmp_path)!r})
        import podium.compat
    """
    result = run(code, _package(tmp_path, "conductor/__init__.py", "conductor/client/__init__.py"))
    assert result.returncode == 1
    assert "which has been imported from" in result.stderr.splitlines()[-1]


def test_package_of_the_user_s_with_that_name_keeps_working(tmp_path: Path) -> None:
    code = """
        import podium.compat
        import conductor.mine
        from conductor.client.worker.worker_task import worker_task
        print(conductor.mine.__file__, worker_task.__module__)
    """
    result = run(code, _package(tmp_path, "conductor/__init__.py", "conductor/mine.py"))
    assert result.stdout == f"{tmp_path / 'conductor' / 'mine.py'} podium.registry\n"


def test_module_of_that_name_is_named(tmp_path: Path) -> None:
    (tmp_path / "conductor.py").write_text("raise SystemExit('it was run')")
    result = run("import podium.compat", tmp_path)
    assert "conductor.py is a module called 'conductor'" in result.stderr
    assert "it was run" not in result.stderr


def test_command_that_cannot_run_so_says_it_in_one_line(tmp_path: Path) -> None:
    _package(tmp_path, "conductor/__init__.py", "conductor/client/__init__.py")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    result = subprocess.run(
        [sys.executable, "-m", "podium", "run", "--compat", "json"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert result.returncode == 3
    assert result.stderr.startswith("podium: podium.compat stands in for conductor-python, which is installed in ")
    assert result.stderr.count("\n") == 1
