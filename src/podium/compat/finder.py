"""Imports of conductor-python's modules, answered from the table."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from podium.errors import StartError
from podium.migrate.table import PACKAGE, TABLE, Absent, Entry, outside


class InTheWayError(StartError, ImportError):
    """The name ``conductor`` is taken."""


class CompatModule(ModuleType):
    """A module of conductor-python. What a name stands for is imported when the name is used."""

    def __getattr__(self, name: str) -> Any:
        entry = TABLE[self.__name__].get(name)
        if entry is None:
            raise AttributeError(f"module {self.__name__!r}, which podium.compat stands in for, has no {name!r}")
        if isinstance(entry, Absent):
            # No AttributeError: Python would replace its text with one that says less.
            message = f"{self.__name__}.{name} has no place in podium: {entry.reason}"
            raise ImportError(message, name=self.__name__)  # noqa: TRY004
        module, _, attribute = entry.target.partition(":")
        value = getattr(importlib.import_module(module), attribute)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_present(TABLE[self.__name__])})


def _present(names: Mapping[str, Entry]) -> list[str]:
    return sorted(name for name, entry in names.items() if not isinstance(entry, Absent))


class CompatFinder(MetaPathFinder, Loader):
    """Finds what the table has, and says so for what it has not."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - Python's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """Return how to load a module below ``conductor``; None for all others."""
        if fullname in TABLE:
            is_package = any(module.startswith(fullname + ".") for module in TABLE)
            return ModuleSpec(fullname, self, origin="podium.compat", is_package=is_package)
        if fullname.startswith(f"{PACKAGE}.client."):
            raise ModuleNotFoundError(outside(fullname), name=fullname)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module, empty until its names are used."""
        return CompatModule(spec.name, "Stands in for conductor-python's module; see podium.compat.")

    def exec_module(self, module: ModuleType) -> None:
        """Say what ``from module import *`` brings."""
        names = _present(TABLE[module.__name__])
        vars(module)["__all__"] = [name for name in names if not name.startswith("_")]


def install() -> None:
    """Answer imports of conductor-python from now on, after all that can be imported anyway.

    Raises InTheWayError, an ImportError, if conductor-python itself is there. Installing twice is fine.
    """
    if any(isinstance(finder, CompatFinder) for finder in sys.meta_path):
        return
    client = f"{PACKAGE}.client"
    place = _place_of_the_real_one(client)
    if place:
        state = "has been imported from" if client in sys.modules else "is installed in"
        raise InTheWayError(
            f"podium.compat stands in for conductor-python, which {state} {place}: uninstall it (pip uninstall "
            "conductor-python), or import from podium instead (podium migrate rewrites the imports)"
        )
    # The last one: a package of the user's that happens to be called conductor still is what it was.
    sys.meta_path.append(CompatFinder())


def _place_of_the_real_one(client: str) -> str:
    """Return where conductor-python is; empty if it is nowhere."""
    if client in sys.modules:
        loaded = sys.modules[client]
        return getattr(loaded, "__file__", None) or next(iter(getattr(loaded, "__path__", ())), "somewhere")
    package = importlib.util.find_spec(PACKAGE)
    if package is None:
        return ""
    if package.submodule_search_locations is None:
        raise InTheWayError(
            f"podium.compat: {package.origin} is a module called {PACKAGE!r}, so nothing can be imported from below "
            "that name; rename the file"
        )
    folders = list(package.submodule_search_locations)
    # By its last name, for which nothing has to be imported: the package before the dot may be the user's.
    found = PathFinder.find_spec(client.rpartition(".")[2], folders)
    return "" if found is None else found.origin or folders[0]
