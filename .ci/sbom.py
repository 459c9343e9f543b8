"""Write a bill of materials (CycloneDX, JSON) of what podium needs at run time: ``sbom.py LOCK FILE``.

The packages are those that are installed beside it; versions and hashes are those of the lock file.
"""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed_by(name: str) -> set[str]:
    """Return the packages that a package needs on this system, and those that they need."""
    found: set[str] = set()
    left = [name]
    while left:
        for text in distribution(left.pop()).requires or ():
            requirement = Requirement(text)
            other = canonicalize_name(requirement.name)
            if other not in found and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                found.add(other)
                left.append(other)
    return found


def component(name: str, lock: str) -> dict[str, Any]:
    """Return the entry of a package."""
    entry = re.search(rf"^{re.escape(name)}==(\S+)(.*(?:\n    .*)*)", lock, re.MULTILINE)
    if entry is None:
        raise SystemExit(f"sbom: {name} is not in the lock file: make lock")
    hashes = [{"alg": "SHA-256", "content": value} for value in re.findall(r"sha256:([0-9a-f]{64})", entry[2])]
    purl = f"pkg:pypi/{name}@{entry[1]}"
    return {
        "type": "library", "bom-ref": purl, "name": name, "version": entry[1], "purl": purl, "hashes": hashes,
    }  # fmt: skip


def main(lock: str, target: str) -> None:
    """Write the file."""
    text = Path(lock).read_text()
    own = {"type": "library", "bom-ref": "podium", "name": "podium", "version": distribution("podium").version}
    components = [component(name, text) for name in sorted(needed_by("podium"))]
    bill = {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": own},
        "components": components,
    }
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(json.dumps(bill, indent=2) + "\n")
    print(f"sbom: {len(components)} packages in {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
