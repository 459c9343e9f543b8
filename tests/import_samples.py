"""Functions that tell what their process has imported since it was forked."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType


class _Witness:
    """A finder that finds nothing: Python asks it for every module that is not there yet."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self._pid = os.getpid()

    def find_spec(self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None) -> None:
        if os.getpid() != self._pid:
            self.seen.append(name)


_WITNESS = _Witness()
sys.meta_path.insert(0, _WITNESS)


def tells_imports() -> dict[str, list[str]]:
    return {"seen": _WITNESS.seen}


async def tells_imports_async() -> dict[str, list[str]]:
    return tells_imports()


def imports_and_fails() -> None:
    import wave  # noqa: F401 - nobody else does

    raise ValueError("to have a traceback")
