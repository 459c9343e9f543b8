"""Look locked packages up in a database of known vulnerabilities: ``audit.py PIP_AUDIT LOCK...``.

A known vulnerability ends it with 1. A database that cannot be reached, or does not know the packages, is no
statement about them: that is said, and ends it with 0, because it must not keep anybody from working.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

#: Seconds that the database may take.
LIMIT = 300


def main(auditor: str, *locks: str) -> int:
    """Return the exit code."""
    options = ["--disable-pip", "--require-hashes", "--progress-spinner=off", "--format=json", "--timeout=15"]
    requirements = [part for lock in locks for part in ("--requirement", lock)]
    try:
        done = subprocess.run(
            [auditor, *options, *requirements], capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return skipped(f"the database has not answered within {LIMIT} s")
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no word of it"])[-1]
        return skipped(f"pip-audit ended with code {done.returncode}: {last}")
    return judged(packages)


def judged(packages: list[dict[str, Any]]) -> int:
    """Tell what is known of the packages; return the exit code."""
    unknown = [package["name"] for package in packages if "skip_reason" in package]
    found = [(package, problem) for package in packages for problem in package.get("vulns", ())]
    for package, problem in found:
        fixed = ", ".join(problem["fix_versions"]) or "no version yet"
        print(f"audit: VULNERABLE: {package['name']} {package['version']}: {problem['id']}, fixed in {fixed}")
    if found:
        return 1
    if len(unknown) == len(packages):
        return skipped(f"the database knows none of the {len(packages)} packages")
    if unknown:
        print(f"audit: NOT AUDITED, because the database does not know them: {', '.join(unknown)}")
    print(f"audit: {len(packages) - len(unknown)} packages, no known vulnerability")
    return 0


def skipped(why: str) -> int:
    """Say that nothing is known, and why."""
    print(f"audit: SKIPPED, nothing was looked up: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
