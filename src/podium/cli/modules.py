"""What commands share that look at the user's workers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from podium.discovery import WorkerLoader
from podium.errors import DeclarationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from podium.registry import Worker


def load_workers(modules: Iterable[str], paths: Iterable[str] = ()) -> list[Worker]:
    """Import packages or modules by name, and the files of folders; return the workers that they declare.

    The current folder is where Python looks first, as it is for a script in it. Raises StartError for what cannot be
    imported, DeclarationError if no worker is found.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    loader = WorkerLoader()
    loader.scan_packages(modules)
    for path in paths:
        loader.scan_path(path)
    if not loader.get_workers():
        looked = ", ".join([*modules, *paths])
        raise DeclarationError(f"no worker is declared in {looked}: decorate functions with @worker_task(...)")
    return loader.get_workers()
