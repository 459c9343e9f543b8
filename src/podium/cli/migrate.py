"""``podium migrate``: import statements of conductor-python's programs, rewritten."""

from __future__ import annotations

import sys
from pathlib import Path

from podium.migrate.tree import migrate_tree


def run_migrate(path: Path, *, write: bool) -> int:
    """Print what would change, and what is left to do; make the changes if ``write``. Return the exit code."""
    changed = 0
    findings: list[str] = []
    for migration in migrate_tree(path):
        findings += [f"{migration.path}:{finding.line}: {finding.text}" for finding in migration.findings]
        if migration.changes:
            changed += 1
            print(migration.diff(), end="")
            if write:
                migration.write()
    sys.stdout.flush()  # what goes to the other stream comes after it, also where the two are one
    for finding in findings:
        print(finding, file=sys.stderr)
    done = "changed" if write else "to change"
    advice = "" if write or not changed else "; --write changes them"
    print(f"{_counted(changed, 'file')} {done}, {_counted(len(findings), 'place')} to look at{advice}", file=sys.stderr)
    return 1 if findings else 0


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
