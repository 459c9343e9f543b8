"""conductor-python's WorkerLoader, on top of podium's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from podium import discovery
from podium.compat.workers import Worker, get_registered_workers


class WorkerLoader:
    """podium's WorkerLoader, whose workers have conductor-python's attributes."""

    def __init__(self, native: discovery.WorkerLoader | None = None) -> None:
        self._native = discovery.WorkerLoader() if native is None else native

    def get_workers(self) -> list[Worker]:
        """Return every worker that is declared by now."""
        return get_registered_workers()

    def __getattr__(self, name: str) -> Any:
        if name == "_native":
            raise AttributeError(name)
        return getattr(self._native, name)


def scan_for_workers(*package_names: str, recursive: bool = True) -> WorkerLoader:
    """Import packages and the modules in them."""
    return WorkerLoader(discovery.scan_for_workers(*package_names, recursive=recursive))


def auto_discover_workers(
    packages: str | Iterable[str] | None = None,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    print_summary: bool = True,
) -> WorkerLoader:
    """Import packages with their sub-packages, then the files of folders, and print what was found."""
    return WorkerLoader(discovery.auto_discover_workers(packages, paths, print_summary))
