"""Rewriting imports: what changes, what stays to the character, and what is left to a person."""

from __future__ import annotations

import ast
import os
import subprocess
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from podium.cli.app import app
from podium.migrate.rewrite import migrate_source
from podium.migrate.table import TABLE, Absent, Here
from podium.migrate.tree import migrate_tree

TASK = "from conductor.client.worker.worker_task import worker_task"


def migrated(source: str) -> str:
    """Return what a text becomes; nothing may be left to do."""
    migration = migrate_source(textwrap.dedent(source))
    assert migration.findings == []
    return migration.text


def findings(source: str) -> list[str]:
    migration = migrate_source(textwrap.dedent(source))
    return [f"{finding.line}: {finding.text}" for finding in migration.findings]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (TASK, "from podium import worker_task"),
        (f"{TASK} as wt", "from podium import worker_task as wt"),
        (f"{TASK}  # the decorator", "from podium import worker_task  # the decorator"),
        ("from conductor.client.http.rest import ApiException", "from podium import ApiError as ApiException"),
        ("from conductor.client.http.rest import ApiException as E", "from podium import ApiError as E"),
        ("from  conductor.client.http.models  import Task,TaskDef", "from  podium  import Task,TaskDef"),
        ("from conductor.client.http.models import \\\n    Task, \\\n    TaskDef",
         "from podium import \\\n    Task, \\\n    TaskDef"),
        ("from conductor.client.http.models import Task, SchemaDef",
         "from podium import Task\nfrom podium.models import SchemaDef"),
        (f"é = 1; {TASK}; y = 2", "é = 1; from podium import worker_task; y = 2"),
        ("if x: from conductor.client.http.models import Task, SchemaDef",
         "if x: from podium import Task; from podium.models import SchemaDef"),
        ("import conductor.client.worker.worker_task as wt\n\n@wt.worker_task('a')\ndef f(): ...\n",
         "import podium as wt\n\n@wt.worker_task('a')\ndef f(): ...\n"),
        ("import os, conductor.client.http.models as m, sys\nm.Task", "import os, podium as m, sys\nm.Task"),
        ("from .conductor.client.worker.worker_task import worker_task\n", None),
        ("from conductor import mine\nimport conductor, conductor.mine\n", None),
        ("import os\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_statement(before: str, after: str | None) -> None:
    assert migrated(before) == (before if after is None else after)


def test_parenthesised_import_keeps_its_form_and_comments() -> None:
    before = """
        from conductor.client.event.task_runner_events import (  # events
            TaskRunnerEventsListener, TaskExecutionCompleted,   # two
            TaskUpdateFailure as Failure
        )  # end
    """
    after = """
        from podium import (  # events
            TaskRunnerEventsListener, TaskExecutionCompleted,   # two
            TaskUpdateFailure as Failure
        )  # end
    """
    assert migrated(before) == textwrap.dedent(after)


def test_import_that_is_split_keeps_its_comments_in_front() -> None:
    before = """
        def f():
            from conductor.client.http.models import (
                Task,  # one
                SchemaDef,
                TaskResultStatus as Status,
            )  # end
            return Task
    """
    after = """
        def f():
            # one
            from podium import (
                Task,
                TaskResultStatus as Status,
            )
            from podium.models import SchemaDef  # end
            return Task
    """
    assert migrated(before) == textwrap.dedent(after)


def test_imports_everywhere_are_found() -> None:
    before = f"""
        from typing import TYPE_CHECKING
        if TYPE_CHECKING:
            {TASK}
        try:
            {TASK}
        except ImportError:
            worker_task = None
        class A:
            def f(self):
                {TASK}
        async def g():
            {TASK}
    """
    assert migrated(before) == textwrap.dedent(before).replace("conductor.client.worker.worker_task", "podium")


def test_mixed_statement_leaves_what_has_no_place() -> None:
    module = "conductor.client.automator.task_handler"
    before = f"from {module} import TaskHandler, _run_sync_worker_process, get_registered_workers"
    migration = migrate_source(before)
    assert migration.text == (
        "from podium import TaskHandler, get_registered_workers\n"
        "from conductor.client.automator.task_handler import _run_sync_worker_process"
    )
    (finding,) = migration.findings
    assert finding.line == 1
    assert "_run_sync_worker_process has no place in podium: podium's runners are part of its engine" in finding.text


@pytest.mark.parametrize(
    ("source", "finding"),
    [
        ("from conductor.client.worker.worker_task import *", "1: from conductor.client.worker.worker_task import *: "),
        ("\nfrom conductor.client.worker.worker_interface import WorkerInterface",
         "2: WorkerInterface has no equal in podium: podium's workers are functions"),
        ("from conductor.client.automator.task_runner import TaskRunner", "1: TaskRunner has no place in podium: "),
        ("from conductor.client.orkes_clients import OrkesClients", "1: conductor.client.orkes_clients has no place"),
        ("from conductor.client.http.models import WorkflowDef", "1: WorkflowDef of conductor.client.http.models is"),
        ("from conductor.client.worker import worker_task", "1: worker_task is a module: import the names in it"),
        ("from conductor import client", "1: client is a module"),
        ("import conductor.client.worker.worker_task", "1: import conductor.client.worker.worker_task: "),
        ("import conductor.client.orkes_clients as o", "1: conductor.client.orkes_clients has no place"),
        # The alias stands for more than podium has, or for something else.
        ("import conductor.client.worker.worker_task as w\nprint(w)\nw.worker_task", "1: import conductor.client."),
        ("import conductor.client.http.rest as r\nr.ApiException", "1: import conductor.client.http.rest: import"),
        ("import conductor.client.http.models as m\ndef f(m): return m.Task", "1: import conductor.client.http.models"),
        ("import conductor.client.http.models as m\nm.Task\nm = None", "1: import conductor.client.http.models"),
        ("import conductor.client.http.models as m\nm.Task, m.SchemaDef", "1: import conductor.client.http.models"),
        ("x = 1\npatch('conductor.client.worker.worker_task.worker_task')", "2: the text 'conductor.client.worker."),
        ("import podium.compat", "1: import podium.compat: remove it"),
    ],
)  # fmt: skip
def test_what_is_left_to_a_person_is_named_and_stays(source: str, finding: str) -> None:
    (found,) = findings(source)
    assert found.startswith(finding)
    assert migrate_source(source).text == source


def test_use_that_podium_does_not_have_is_named_where_it_is() -> None:
    found = findings("""
        from conductor.client.configuration.configuration import Configuration as C
        from conductor.client.context.task_context import get_task_context
        c = C(
            server_api_url="x",
            debug=True)
        c.apply_logging_config()
        c.verify_ssl = False
        D(debug=True)
        class A:
            def f(self):
                return self.task, get_task_context().task
    """)
    assert [text.partition(":")[0] for text in found] == ["6", "7", "8", "12"]
    assert found[0].startswith("6: C(debug=...): podium sets no log level")
    assert found[1].startswith("7: .apply_logging_config: podium leaves the application's logging alone")
    assert found[3].startswith("12: .task: the context's task is get_task()")
    found = findings("""
        from conductor.client.http.rest import ApiException
        try: pass
        except ApiException as error: print(error.is_not_found(), error.status)
    """)
    assert found == ["4: .is_not_found: catch podium.errors.NotFoundError"]


_MIGRATABLE = [
    (module, name)
    for module, names in TABLE.items()
    for name, entry in names.items()
    if isinstance(entry, Here) and entry.migrated
]
_OTHERS = [
    (module, name)
    for module, names in TABLE.items()
    for name, entry in names.items()
    if isinstance(entry, Absent) or not entry.migrated
]


@st.composite
def statements(draw: st.DrawFn) -> str:
    """Return one statement, an import of ours or something else."""
    if draw(st.integers(0, 3)) == 0:
        return draw(
            st.sampled_from(["x = 'é\\u2028' # ü", "import os", "def f():\n    '''a\n    b'''\n    return 1", ""])
        )
    module = draw(st.sampled_from(sorted({module for module, _ in _MIGRATABLE})))
    names = draw(st.lists(st.sampled_from(sorted(TABLE[module])), min_size=1, max_size=4, unique=True))
    parts = [name + draw(st.sampled_from(["", " as y", " as\ty2"])) for name in names]
    if draw(st.booleans()):
        comment = draw(st.sampled_from(["", "  # ö"]))
        statement = f"from {module} import ({comment}\n" + "".join(f"  {part},{comment}\n" for part in parts) + ")"
    else:
        statement = f"from {module} import {', '.join(parts)}"
    return draw(st.sampled_from(["{}", "{}  # after", "x = 1; {}", "{}; x = 1", "if x:\n    y = 1\n"])).format(
        statement
    )


def _others(tree: ast.AST) -> list[str]:
    """Return what a module says besides its imports."""
    return [ast.dump(node) for node in ast.walk(tree) if isinstance(node, ast.expr | ast.FunctionDef)]


def _bound(tree: ast.AST) -> list[str]:
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return sorted(alias.asname or alias.name for node in imports for alias in node.names)


def _comments(text: str) -> list[str]:
    return [line[line.index("#") :] for line in text.split("\n") if "#" in line]


@given(st.lists(statements(), max_size=6), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_result_parses_binds_the_same_names_and_leaves_the_rest_alone(
    parts: list[str], newline: str, ends: bool
) -> None:
    before = ("\n".join(parts) + ("\n" if ends else "")).replace("\n", newline)
    migration = migrate_source(before)
    after = migration.text
    assert _bound(ast.parse(after)) == _bound(ast.parse(before))
    assert _others(ast.parse(after)) == _others(ast.parse(before))
    assert sorted(_comments(after)) == sorted(_comments(before))
    assert after.count("\r") == (after.count("\n") if "\r" in before else 0)
    # What is left of conductor is named, and a second run has nothing more to change.
    again = migrate_source(after)
    assert again.text == after
    assert {finding.text for finding in again.findings} <= {finding.text for finding in migration.findings}
    kept = [node for node in ast.walk(ast.parse(after)) if isinstance(node, ast.ImportFrom)]
    for node in kept:
        for alias in node.names:
            assert (node.module, alias.name) not in _MIGRATABLE


# files


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for skipped in (".venv/lib", ".git", "__pycache__", "env/lib", "node_modules/x"):
        (tmp_path / skipped).mkdir(parents=True)
        (tmp_path / skipped / "other.py").write_text(TASK)
    (tmp_path / "env" / "pyvenv.cfg").touch()
    (tmp_path / "app").mkdir()
    return tmp_path


def test_files_outside_the_code_base_are_left_alone(base: Path) -> None:
    (base / "app" / "a.py").write_text(TASK)
    (base / "app" / "types.pyi").write_text(TASK)
    (base / "app" / "notes.txt").write_text(TASK)
    (base / "app" / "other.py").write_text("import os")
    os.mkfifo(base / "app" / "pipe.py")
    assert [migration.path.name for migration in migrate_tree(base)] == ["a.py", "types.pyi"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf# bom\r\n%s  # \xc3\xa9\r\nx = '\xc3\xa9'",
        b"# -*- coding: latin-1 -*-\n%s  # \xe9\nx = '\xe9'\n",
        b"x = 'a\x0cb'\x0c\n%s\n",
    ],
)
def test_bytes_around_the_imports_stay(base: Path, content: bytes) -> None:
    file = base / "app" / "a.py"
    file.write_bytes(content % TASK.encode())
    file.chmod(0o754)
    (base / "link.py").symlink_to(file)
    (migration,) = migrate_tree(base / "link.py")
    migration.write()
    assert file.read_bytes() == content % b"from podium import worker_task"
    assert file.stat().st_mode & 0o777 == 0o754
    assert (base / "link.py").is_symlink()
    assert sorted(path.name for path in file.parent.iterdir()) == ["a.py"]


def test_diff_can_be_applied(base: Path) -> None:
    contents = {
        "a.py": f"import os\n{TASK}\n",
        "b.py": f"import os\r\n{TASK}\r\nx = 1\r\n",
        "c.py": TASK,  # no line end at the end
    }
    for name, text in contents.items():
        (base / "app" / name).write_bytes(text.encode())
    result = CliRunner().invoke(app, ["migrate", str(base)])
    assert result.exit_code == 0
    patch = subprocess.run(
        ["git", "apply", "-p1", "--directory", "", "--unsafe-paths", "-"],
        input=result.stdout_bytes, cwd="/", check=False, capture_output=True,
        env={**os.environ, "GIT_DIR": "/nonexistent"},
    )  # fmt: skip
    assert patch.returncode == 0, patch.stderr
    for name, text in contents.items():
        expected = text.replace("conductor.client.worker.worker_task", "podium")
        assert (base / "app" / name).read_bytes().decode() == expected


def test_command_shows_changes_and_writes_on_request(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(base)
    file = base / "app" / "workers.py"
    file.write_text(f"{TASK}\nfrom conductor.client.automator.task_runner import TaskRunner\n")
    result = CliRunner().invoke(app, ["migrate", "app"])
    assert result.exit_code == 1
    assert result.stdout == (
        "--- a/app/workers.py\n+++ b/app/workers.py\n@@ -1,2 +1,2 @@\n"
        f"-{TASK}\n+from podium import worker_task\n from conductor.client.automator.task_runner import TaskRunner\n"
    )
    assert result.stderr.startswith("app/workers.py:2: TaskRunner has no place in podium: ")
    assert result.stderr.endswith("\n1 file to change, 1 place to look at; --write changes them\n")
    assert file.read_text().startswith(TASK)
    written = CliRunner().invoke(app, ["migrate", "app", "--write"])
    assert (written.exit_code, written.stdout) == (1, result.stdout)
    assert written.stderr.endswith("1 file changed, 1 place to look at\n")
    assert file.read_text().startswith("from podium import worker_task\n")
    again = CliRunner().invoke(app, ["migrate", "app", "--write"])
    assert (again.exit_code, again.stdout) == (1, "")
    assert again.stderr.endswith("0 files changed, 1 place to look at\n")


def test_command_exits_with_0_when_nothing_is_left_to_do(base: Path) -> None:
    (base / "app" / "a.py").write_text(TASK)
    assert CliRunner().invoke(app, ["migrate", str(base), "--write"]).exit_code == 0
    assert CliRunner().invoke(app, ["migrate", str(base / "app" / "a.py")]).exit_code == 0
    assert CliRunner().invoke(app, ["migrate", str(base / "nowhere")]).exit_code == 2


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"import conductor.client\ndef f(:\n", "cannot be parsed as Python: line 2: invalid syntax"),
        (b"# conductor \xff\n", "cannot be parsed as Python: "),
        (b"# conductor\x00\n", "cannot be parsed as Python: "),
        (b"# coding: klingon\n# conductor\n", "cannot be parsed as Python: unknown encoding: klingon"),
    ],
)
def test_file_that_cannot_be_read_is_named(base: Path, content: bytes, complaint: str) -> None:
    (base / "app" / "bad.py").write_bytes(content)
    (base / "app" / "good.py").write_text(TASK)
    result = CliRunner().invoke(app, ["migrate", str(base), "--write"])
    assert result.exit_code == 1
    assert f"bad.py:1: {complaint}" in result.stderr
    assert (base / "app" / "bad.py").read_bytes() == content
    assert (base / "app" / "good.py").read_text() == "from podium import worker_task"


def test_file_that_has_nothing_to_do_with_it_may_be_anything(base: Path) -> None:
    (base / "app" / "template.py").write_bytes(b"{% if x %}\xff\x00")
    result = CliRunner().invoke(app, ["migrate", str(base)])
    assert (result.exit_code, result.stdout) == (0, "")


def test_document_shows_what_the_command_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = (Path(__file__).parent.parent.parent / "docs" / "migrating.md").read_text()
    _, _, source = document.partition("For this `orders.py`\n\n```python\n")
    _, _, output = document.partition("```\n$ podium migrate orders.py\n")
    (tmp_path / "orders.py").write_text(source.partition("```\n")[0])
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["migrate", "orders.py"])
    assert result.stdout + result.stderr == output.partition("```\n")[0]
