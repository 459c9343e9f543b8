"""``podium config``, and the command line's options of workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from podium.cli.app import app
from podium.options import ENVIRONMENT_NAMES, OPTIONS

WORKERS = """
from podium import worker_task

@worker_task("bill-it", thread_count=3, domain="billing")
def bill(amount: float) -> float:
    return amount
"""


def config(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "podium", "config", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=environment | {"PATH": "/usr/bin:/bin"}
    )


def rows(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_table_names_property_value_and_source(tmp_path: Path) -> None:
    (tmp_path / "billing.py").write_text(WORKERS)
    result = config(
        tmp_path, "billing",
        CONDUCTOR_SERVER_URL="http://user:secret@conductor:1/api",
        CONDUCTOR_AUTH_KEY="the-key", CONDUCTOR_AUTH_SECRET="the-secret",
        CONDUCTOR_WORKER_BILL_IT_THREAD_COUNT="9", CONDUCTOR_WORKER_ALL_POLL_INTERVAL="250",
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    shown = rows(result.stdout)
    assert ["host", "http://***@conductor:1/api", "CONDUCTOR_SERVER_URL"] in shown
    assert ["authentication", "set", "CONDUCTOR_AUTH_KEY"] in shown
    assert "secret" not in result.stdout
    assert "worker bill-it in domain 'billing'" in result.stdout
    assert ["thread_count", "9", "CONDUCTOR_WORKER_BILL_IT_THREAD_COUNT"] in shown
    assert ["poll_interval", "250", "CONDUCTOR_WORKER_ALL_POLL_INTERVAL"] in shown
    assert ["domain", "billing", "code"] in shown
    assert ["paused", "False", "default"] in shown


def test_without_modules_the_settings_of_every_worker_are_shown(tmp_path: Path) -> None:
    result = config(tmp_path, CONDUCTOR_WORKER_ALL_PAUSED="yes")
    assert "every worker" in result.stdout
    assert ["paused", "True", "CONDUCTOR_WORKER_ALL_PAUSED"] in rows(result.stdout)


def test_spool_is_shown_as_the_folder_that_it_is(tmp_path: Path) -> None:
    shown = rows(config(tmp_path, XDG_STATE_HOME="/somewhere").stdout)
    assert ["spool", "True", "default"] in shown
    assert ["spool_dir", "/somewhere/podium/spool", "default"] in shown
    shown = rows(config(tmp_path, CONDUCTOR_SPOOL_DIR="/mine", CONDUCTOR_SPOOL="off").stdout)
    assert ["spool", "False", "CONDUCTOR_SPOOL"] in shown
    assert ["spool_dir", "/mine", "CONDUCTOR_SPOOL_DIR"] in shown


def test_folder_is_scanned(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "billing.py").write_text(WORKERS)
    assert "worker bill-it" in config(tmp_path, "--path", "jobs").stdout


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    worker = WORKERS.replace("bill-it", "w[red]x").replace("domain=", 'worker_id=":x: [b]", domain=')
    (tmp_path / "odd.py").write_text(worker)
    output = config(tmp_path, "odd").stdout
    assert "worker w[red]x in domain 'billing'\n" in output
    assert "worker_id             :x: [b]  " in output


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        (["nowhere"], {}, "podium: there is no module 'nowhere'"),
        (["empty"], {}, "podium: no worker is declared in empty"),
        ([], {"CONDUCTOR_WORKER_ALL_THREAD_COUNT": "x"}, "podium: environment variable CONDUCTOR_WORKER_ALL_THREAD_C"),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], complaint: str
) -> None:
    (tmp_path / "empty.py").write_text("")
    result = config(tmp_path, *arguments, **environment)
    assert result.returncode == 1
    assert result.stderr.startswith(complaint)
    assert "Traceback" not in result.stderr


def test_help_of_run_has_every_option_of_a_worker() -> None:
    text = " ".join(CliRunner().invoke(app, ["run", "--help"]).output.split())
    for option in OPTIONS:
        flag = f"--{option.name.replace('_', '-')} VALUE"
        assert (flag in text) == (option.name in ENVIRONMENT_NAMES)
        if flag in text:
            assert f"All workers: {option.metadata['doc']}."[:60] in text


def test_help_of_config_names_the_variables() -> None:
    text = " ".join(CliRunner().invoke(app, ["config", "--help"]).output.split())
    assert "CONDUCTOR_WORKER_ALL_<PROPERTY>" in text
    assert all(name in text for name in ENVIRONMENT_NAMES.values())


def test_run_wants_to_know_what() -> None:
    result = CliRunner().invoke(app, ["run"])
    assert result.exit_code == 2
    assert "name at least one module or --path" in result.output
