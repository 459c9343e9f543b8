"""What children have of the program that started them, and what they leave to it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rig import Rig

PROGRAM = """
    import multiprocessing, os, sys
    from pathlib import Path
    from podium import Configuration, TaskHandler, worker_task
    {prelude}

    def end_of_input() -> str:
        try:
            return input()
        except EOFError:
            return "at its end"

    @worker_task({name!r}, poll_interval=20)
    def reports():
        return {{"report": {report}}}

    def main():
        {before}
        configuration = Configuration(server_api_url={url!r})
        with TaskHandler(configuration=configuration, start_method={method!r}, grace_seconds=5) as handler:
            handler.start_processes()
            {after}
            print("up", flush=True)
            print("read", *sys.stdin.readlines())

    if __name__ == "__main__":
        {start}
"""


def reports() -> None:
    """Name the worker of the program."""


def program(rig: Rig, *, method: str = "forkserver", report: str = "'here'", **parts: str) -> str:
    """Return a program with one worker, which reports the value of an expression."""
    parts = {"prelude": "", "before": "", "after": "", "start": "main()"} | parts
    fields = parts | {"name": rig.name_of(reports), "url": rig.url, "method": method, "report": report}
    return textwrap.dedent(PROGRAM).format(**fields)


def run(rig: Rig, *arguments: Any, **options: Any) -> tuple[Any, str]:
    """Run Python with these arguments, and a task in it; return what the task reported, and the program's output."""
    rig.define(reports)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("one\ntwo\n")
        process.stdin.flush()
        assert process.stdout.readline() == "up\n", process.communicate()[1]
        task = rig.run(reports)
        assert task.status == "COMPLETED", task.reason_for_incompletion
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0
        return task.output_data["report"], out
    finally:
        process.kill()
        process.communicate()


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


BY_IMPORT = pytest.mark.parametrize("method", ["forkserver", "spawn"])
EVERY_METHOD = pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])


# the main module


@BY_IMPORT
def test_script_without_a_suffix(rig: Rig, tmp_path: Path, method: str) -> None:
    assert run(rig, write(tmp_path / "script", program(rig, method=method)))[0] == "here"


@BY_IMPORT
@pytest.mark.parametrize("module", ["pkg", "pkg.app"])
def test_module_run_by_name_keeps_its_relative_imports(rig: Rig, tmp_path: Path, method: str, module: str) -> None:
    write(tmp_path / "pkg/__init__.py")
    write(tmp_path / "pkg/words.py", "word = 'from the package'")
    file = "__main__.py" if module == "pkg" else "app.py"
    write(tmp_path / "pkg" / file, program(rig, method=method, prelude="from .words import word", report="word"))
    assert run(rig, "-m", module, cwd=tmp_path)[0] == "from the package"


@BY_IMPORT
def test_folder_that_is_run_as_a_program(rig: Rig, tmp_path: Path, method: str) -> None:
    write(tmp_path / "app/words.py", "word = 'beside it'")
    write(tmp_path / "app/__main__.py", program(rig, method=method, prelude="from words import word", report="word"))
    assert run(rig, "app", cwd=tmp_path)[0] == "beside it"


@BY_IMPORT
def test_archive_that_is_run_as_a_program(rig: Rig, tmp_path: Path, method: str) -> None:
    path = tmp_path / "app.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", program(rig, method=method))
    assert run(rig, path)[0] == "here"


@BY_IMPORT
def test_program_that_multiprocessing_started(rig: Rig, tmp_path: Path, method: str) -> None:
    text = program(
        rig,
        method=method,
        start="process = multiprocessing.get_context('spawn').Process(target=main); process.start(); "
        "sys.stdin.read(); process.terminate(); process.join()",
        after="print('up', flush=True); handler.join_processes()",  # multiprocessing's children have no input
    )
    assert run(rig, write(tmp_path / "script.py", text))[0] == "here"


# what else comes from the parent


@EVERY_METHOD
def test_application_keeps_its_choice_of_a_multiprocessing_context(rig: Rig, tmp_path: Path, method: str) -> None:
    text = program(
        rig,
        method=method,
        after="multiprocessing.set_start_method('spawn')",
        report="multiprocessing.get_start_method(allow_none=True)",
    )
    assert run(rig, write(tmp_path / "script.py", text))[0] is None


@BY_IMPORT
def test_path_entry_that_is_no_text_is_left_out(rig: Rig, tmp_path: Path, method: str) -> None:
    text = program(rig, method=method, before="sys.path.insert(1, Path('/somewhere'))", report="sys.path")
    path = run(rig, write(tmp_path / "script.py", text))[0]
    assert path[0] == str(tmp_path)
    assert "/somewhere" not in path


@BY_IMPORT
def test_folders_and_arguments_need_not_be_unicode(rig: Rig, tmp_path: Path, method: str) -> None:
    odd = b"caf\xe9"
    folder = tmp_path / os.fsdecode(odd)
    report = "[os.fsencode(word).hex() for word in (sys.argv[1], sys.path[0], os.getcwd())]"
    write(folder / "script.py", program(rig, method=method, report=report))
    words = run(rig, "script.py", odd, cwd=folder)[0]
    assert [bytes.fromhex(word) for word in words] == [odd, os.fsencode(folder), os.fsencode(folder)]


@EVERY_METHOD
def test_file_in_the_current_folder_does_not_shadow_the_standard_library(rig: Rig, tmp_path: Path, method: str) -> None:
    for name in ("select", "random", "socket"):
        write(tmp_path / f"cwd/{name}.py", "raise SystemExit('the wrong module')")
    script = write(tmp_path / "app/script.py", program(rig, method=method))
    assert run(rig, script, cwd=tmp_path / "cwd")[0] == "here"


@BY_IMPORT
@pytest.mark.parametrize("flags", [["-O", "-B", "-E", "-s", "-Xdev", "-Wignore::UserWarning"], ["-I", "-OO"]])
def test_flags_of_the_interpreter_are_passed_on(rig: Rig, tmp_path: Path, method: str, flags: list[str]) -> None:
    names = ["optimize", "dont_write_bytecode", "ignore_environment", "no_user_site", "dev_mode", "isolated"]
    expression = f"[*(getattr(sys.flags, name) for name in {names}), *sys.warnoptions]"
    script = write(tmp_path / "script.py", program(rig, method=method, report=expression))
    told = subprocess.run(
        [sys.executable, *flags, "-c", f"import sys; print({expression})"], capture_output=True, text=True, check=True
    )
    assert str(run(rig, *flags, script)[0]) == told.stdout.strip()


# standard input


@EVERY_METHOD
def test_standard_input_stays_with_the_program(rig: Rig, tmp_path: Path, method: str) -> None:
    text = program(
        rig,
        method=method,
        before="sys.stdin.readline()",  # which reads ahead
        report="[end_of_input(), os.path.samestat(os.fstat(0), os.stat(os.devnull))]",
    )
    report, out = run(rig, write(tmp_path / "script.py", text))
    assert report == ["at its end", True]
    assert out == "read two\n\n"
