"""The page on reliability tells of every fault, and names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs/reliability.md"

#: The faults of the catalogue: so many in each section.
SECTIONS = {"A": 20, "B": 26, "C": 14, "D": 12, "E": 5}
CASES = [f"{section}{number:02}" for section, count in SECTIONS.items() for number in range(1, count + 1)]


def known_tests() -> set[str]:
    return {
        name for path in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())
    }


def rows() -> dict[str, str]:
    """Return the last column of each row of the catalogue."""
    return dict(re.findall(r"^\| ([A-E]\d\d) \| .+ \| (.+) \|$", PAGE.read_text(), re.MULTILINE))


def test_every_case_has_a_row_with_tests_or_with_the_reason_why_not() -> None:
    found = rows()
    assert list(found) == CASES
    for case, proof in found.items():
        assert "`test_" in proof or proof.startswith("No test: "), case


def test_every_test_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert named
    assert named <= known_tests(), named - known_tests()


def test_every_test_of_a_case_is_in_its_row() -> None:
    found = rows()
    for name in known_tests():
        for case in re.findall(r"_([A-E]\d\d)(?=_)", name):
            assert f"`{name}`" in found.get(case, ""), f"{name} is not in the row of {case}"
