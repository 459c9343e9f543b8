"""The documents say what is so."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from podium import TaskHandler
from podium.config import _VARIABLES
from podium.metrics.catalogue import CPU_SECONDS, RESIDENT_MEMORY, Catalogue
from podium.options import ALIASES, ENVIRONMENT_NAMES, OPTIONS

ROOT = Path(__file__).parent.parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/*.md")]


def test_readme_shows_the_example_as_it_is() -> None:
    assert f"```python\n{(ROOT / 'examples/hello_worker.py').read_text()}```" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_every_option_of_the_handler_is_described() -> None:
    assert TaskHandler.__doc__ is not None
    for name in inspect.signature(TaskHandler).parameters:
        assert name in TaskHandler.__doc__


def test_every_test_in_the_table_of_defects_exists() -> None:
    tests = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs/defects.md").read_text()))
    assert named
    assert named <= tests, named - tests


def test_every_known_defect_is_in_the_table() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \| `test_\w+`.* \|$", (ROOT / "docs/defects.md").read_text(), re.MULTILINE)
    assert rows == [str(number) for number in range(1, 51)]


def test_every_regression_test_is_in_the_table_of_defects() -> None:
    table = (ROOT / "docs/defects.md").read_text()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for name in re.findall(r"def (test_defect_\w+)", path.read_text()):
            assert f"`{name}`" in table, name


def test_every_point_of_security_has_tests_and_each_test_s_point_is_described() -> None:
    described = set(re.findall(r"^\| (S\d\d) \|", (ROOT / "docs/security.md").read_text(), re.MULTILINE))
    names = {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }
    tested = {point for name in names for point in re.findall(r"_(S\d\d)(?=_)", name)}
    assert described == tested
    assert {f"S{number:02}" for number in range(1, 15)} <= described


@pytest.mark.parametrize("style", ["legacy", "canonical"])
def test_every_metric_is_described_with_its_labels_and_kind(style: str) -> None:
    rows = [line.split(" | ") for line in (ROOT / "docs/metrics.md").read_text().splitlines() if line.startswith("| `")]
    column = 2 if style == "legacy" else 3
    described = {(row[0], row[1], row[column], row[4]) for row in rows if row[column] != "-"}
    families = Catalogue(canonical=style == "canonical", window=1)
    specs = [*(family.spec for family in families), RESIDENT_MEMORY, CPU_SECONDS]
    assert described == {(f"| `{s.name}`", ", ".join(s.labels), s.kind, f"{s.text} |") for s in specs}


def test_every_option_of_a_worker_is_in_the_page_on_configuration() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    for option in OPTIONS:
        others = ", ".join(f"`{alias}`" for alias, known in ALIASES.items() if known == option.name) or "-"
        variable = f"`{option.name.upper()}`" if option.name in ENVIRONMENT_NAMES else "-"
        row = f"| `{option.name}` | `{option.default!r}` | {variable} | {others} | {option.metadata['doc']} |"
        assert f"\n{row}\n" in page, row


def test_every_setting_of_the_connection_is_in_the_page_on_configuration() -> None:
    page = (ROOT / "docs/configuration.md").read_text()
    for name, variable in _VARIABLES.items():
        assert f"\n| `{name}` | `{variable.name}` | `{variable.default!r}` |\n" in page
