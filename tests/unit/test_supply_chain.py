"""What podium is built from and checked with: locked, pinned, and looked up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
LOCKS = {"requirements.lock": "dev", "requirements-audit.lock": "audit", "requirements-bench.lock": "bench"}
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.y*ml"))


def entries(lock: str) -> list[tuple[str, str, str]]:
    """Name, version and everything else that the lock file says; a name may stand twice, with two ranges of Python."""
    entry = re.compile(r"^([\w.-]+)==(\S+)((?:.*\\\n)*.*)$", re.MULTILINE)
    return [(found[1], found[2], found[3]) for found in entry.finditer((ROOT / lock).read_text())]


def locked(lock: str) -> dict[str, tuple[str, str]]:
    """Package -> its version and everything else that the lock file says of it."""
    return {name: (version, rest) for name, version, rest in entries(lock)}


@pytest.mark.parametrize("lock", LOCKS)
def test_S21_every_locked_package_has_a_version_and_hashes(lock: str) -> None:
    packages = entries(lock)
    lines = [line for line in (ROOT / lock).read_text().splitlines() if not line.startswith((" ", "#"))]
    assert len(lines) == len(packages) > 10
    for name, _, rest in packages:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", rest), name


@pytest.mark.parametrize(("lock", "group"), LOCKS.items())
def test_S21_lock_files_have_what_the_project_asks_for(lock: str, group: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["dependency-groups"][group] + (project["project"]["dependencies"] if group == "dev" else [])
    packages = locked(lock)
    for text in wanted:
        requirement = Requirement(text)
        version, _ = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), text


def test_S21_installation_checks_the_hashes() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert installs
    assert all("--require-hashes" in line or "--no-deps --no-build-isolation" in line for line in installs)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_S21_actions_are_pinned_by_commit_and_may_only_read(workflow: Path) -> None:
    text = workflow.read_text()
    used = re.findall(r"^\s*-?\s*uses:\s*(.+)$", text, re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*", action), action
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.MULTILINE)
    assert len(re.findall(r"permissions:", text)) == 1
    assert "pull_request_target" not in text
    assert "secrets." not in text
    runs = re.findall(r"run: (.+)", text)
    assert not any("${{" in line for line in runs)  # text of strangers is no part of a script


def test_S21_there_is_a_workflow_and_ci_audits_before_it_tests() -> None:
    assert WORKFLOWS
    lines = (ROOT / ".ci/run").read_text().splitlines()
    tests = next(line for line in lines if line.endswith("make test"))
    assert lines.index("make audit") < lines.index(tests)
    assert "set -euo pipefail" in lines


def audit(folder: Path, output: str, code: int = 0, complaint: str = "") -> subprocess.CompletedProcess[str]:
    """Run the audit with a pip-audit that gives this output."""
    auditor = folder / "pip-audit"
    auditor.write_text(
        f"#!{sys.executable}\nimport sys\nprint({output!r})\nprint({complaint!r}, file=sys.stderr)\nsys.exit({code})\n"
    )
    auditor.chmod(0o755)
    command = [sys.executable, str(ROOT / ".ci/audit.py"), str(auditor), "requirements.lock"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


GOOD: dict[str, Any] = {"name": "good", "version": "1.0", "vulns": []}
BAD: dict[str, Any] = {"name": "bad", "version": "2.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2.1"]}]}
UNKNOWN: dict[str, Any] = {"name": "unknown", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([GOOD], 0, "1 packages, no known vulnerability"),
        ([GOOD, BAD, UNKNOWN], 1, "VULNERABLE: bad 2.0: PYSEC-1, fixed in 2.1"),
        ([GOOD, UNKNOWN], 0, "NOT AUDITED, because the database does not know them: unknown"),
        ([UNKNOWN], 0, "SKIPPED, nothing was looked up: the database knows none of the 1 packages"),
    ],
)
def test_S21_known_vulnerability_is_red_and_what_nobody_knows_is_said(
    tmp_path: Path, packages: list[dict[str, Any]], code: int, words: str
) -> None:
    # pip-audit ends with 1 for vulnerabilities, and with 0 when it could look nothing up.
    done = audit(tmp_path, json.dumps({"dependencies": packages, "fixes": []}), code)
    assert (done.returncode, done.stderr) == (code, "")
    assert words in done.stdout


def test_S21_database_that_cannot_be_reached_is_said_and_not_red(tmp_path: Path) -> None:
    done = audit(tmp_path, "", 1, "Traceback ...\nConnectionError: no route")
    assert done.returncode == 0
    assert "SKIPPED, nothing was looked up: pip-audit ended with code 1: ConnectionError: no route" in done.stdout


def test_S21_bill_of_materials_names_what_runs_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "sbom.json"
    command = [sys.executable, str(ROOT / ".ci/sbom.py"), str(ROOT / "requirements.lock"), str(target)]
    subprocess.run(command, check=True, capture_output=True)
    components = {part["name"]: part for part in json.loads(target.read_text())["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {canonicalize_name(Requirement(text).name) for text in project["dependencies"]} <= components.keys()
    assert not {"pytest", "mypy", "hypothesis"} & components.keys()
    for name, part in components.items():
        assert part["purl"] == f"pkg:pypi/{name}@{locked('requirements.lock')[name][0]}"
        assert part["hashes"]
