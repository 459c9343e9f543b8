"""How much memory a process has resident, in bytes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import resource

_OWN: Final = Path("/proc/self/statm")


def resident_memory() -> int:
    """Return what this process has now; where the system does not tell that, the most that it ever had."""
    try:
        pages = int(_OWN.read_bytes().split()[1])
    except OSError:
        import resource  # there are systems without it, but they have no children

        return peak_memory(resource.getrusage(resource.RUSAGE_SELF))
    return pages * os.sysconf("SC_PAGE_SIZE")


def peak_memory(usage: resource.struct_rusage) -> int:
    """Return the most that a process had."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
