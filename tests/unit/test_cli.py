"""The command line without a running server: help, versions, wrong options."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

import podium
from podium.cli.app import app


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_lists_the_commands(arguments: list[str]) -> None:
    code, output = run(*arguments)
    assert code == 0
    for command in ("server", "demo", "migrate", "version"):
        assert f"\n  {command} " in output
    assert "..." not in output.partition("Commands:")[2], "each command is described by a whole sentence"


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(arguments: list[str]) -> None:
    assert run(*arguments) == (0, f"podium {podium.__version__}\n")


def test_no_command_shows_the_help() -> None:
    code, output = run()
    assert code == 2
    assert "Usage:" in output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nonsense"], "nonsense"),
        (["demo", "--nonsense"], "--nonsense"),
        (["demo", "--workflows", "0"], "--workflows"),
        (["demo", "--workflows", "many"], "--workflows"),
        (["demo", "--processes", "0"], "--processes"),
        (["demo", "--isolation", "prison"], "--isolation"),
        (["demo", "--start-method", "magic"], "--start-method"),
        (["demo", "--patience", "0"], "--patience"),
        (["server", "--port", "65536"], "--port"),
        (["server", "--port", "-1"], "--port"),
    ],
)
def test_wrong_option_is_named(arguments: list[str], complaint: str) -> None:
    code, output = run(*arguments)
    assert code == 2
    assert complaint in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    "arguments", [["--help"], ["demo", "--help"], ["--version"], ["demo", "--nonsense"], ["migrate", "-h"]]
)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["podium", *{arguments!r}]
from podium.cli import main
try:
    main()
finally:
    heavy = "rich uvicorn starlette pyreqwest uvloop podium.client podium.handler podium.server podium.demo".split()
    print([name for name in heavy if name in sys.modules])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.splitlines()[-1] == "[]"


def test_foreseen_error_is_one_line_and_exit_code_1() -> None:
    command = [sys.executable, "-m", "podium", "demo", "--server", "nonsense"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr == (
        "podium: server_api_url: not a server URL: 'nonsense'; expected e.g. http://localhost:8080/api\n"
    )
