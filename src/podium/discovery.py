"""Finding workers: importing the user's modules, so that their ``@worker_task`` declarations are seen.

Everything is imported by a name that a worker process can import too; a failure is raised, and names the module.
"""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from podium.errors import ConfigError, StartError
from podium.registry import Worker, get_registered_workers

logger = logging.getLogger(__name__)

_HINT = (
    "declare functions with @worker_task(...) at the top level of the modules that are scanned; "
    "a folder inside a package is only scanned if it has an __init__.py"
)

_MAIN_GUARD = '; put what a script does under `if __name__ == "__main__":`'


def import_modules(names: str | Iterable[str]) -> list[ModuleType]:
    """Import modules by name, and return them.

    Raises StartError, naming the module, for one that does not exist, with the nearest hint, and for one that fails
    to import, with its exception as the cause. ConfigError for what is no module name.
    """
    return [_import(name) for name in _listed("import_modules", names)]


class WorkerLoader:
    """Imports modules, packages and folders of worker files.

    A module that is loaded already is not loaded a second time. What fails to import raises StartError with the
    original exception as its cause, and stops the scan.
    """

    def __init__(self) -> None:
        #: Names of the modules that were scanned, in order; a dict for its order.
        self._modules: dict[str, None] = {}

    def scan_packages(self, names: str | Iterable[str], recursive: bool = True) -> None:
        """Import packages and the modules in them; a name may also be that of a plain module.

        ``recursive=False`` imports a package and its own modules, and none of its sub-packages. ``__main__.py`` is
        never imported: it would run the program.
        """
        for name in _listed("scan_packages", names):
            self._scan_package(name, recursive=recursive)

    def scan_module(self, name: str) -> None:
        """Import one module. Of a package, that is its ``__init__.py`` and nothing else."""
        for single in _listed("scan_module", [name]):
            self._add(_import(single))

    def scan_path(self, path: str | os.PathLike[str], package_prefix: str = "") -> None:
        """Import the Python files in a folder and in the folders below it.

        A file ``orders/refund.py`` in a folder ``workers`` becomes the module ``workers.orders.refund``, or, with
        ``package_prefix="my_app.workers"``, ``my_app.workers.orders.refund``; if the folder is part of a package, that
        package's name stands in front. Where the names are to be found is added to the end of ``sys.path``, if need
        be, so that worker processes find them too. Names that begin with ``_`` or ``.`` are left out, virtual
        environments and linked folders as well; ``__init__.py`` is imported as its package.

        Raises ConfigError (a ValueError) for a folder that is missing, or whose files cannot be imported under these
        names; StartError, naming the file, for a file that fails to import.
        """
        folder = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100 - which minds "..", and links stay
        if not folder.is_dir():
            problem = "is not a folder" if folder.exists() else "does not exist"
            raise ConfigError(f"scan_path: {folder} {problem}; expected a folder with Python files")
        prefix = package_prefix or _package_name(folder)
        _make_importable(folder, prefix)
        importlib.invalidate_caches()  # files that are younger than Python's last look at the folder count
        loaded = {file: name for name, file in _loaded_files()}
        for file in _python_files(folder):
            name = ".".join((prefix, *_module_parts(folder, file)))
            known = loaded.get(_real(file))
            if known is None:
                self._add(_import_file(name, file))
            else:
                self._modules.setdefault(known)

    def get_workers(self) -> list[Worker]:
        """Return every worker that is declared by now, also by modules that this loader did not scan.

        That is what ``TaskHandler`` runs by itself. Handing the list to it too runs none of them twice.
        """
        return get_registered_workers()

    def get_worker_count(self) -> int:
        """Return the number of workers."""
        return len(self.get_workers())

    def get_worker_names(self) -> list[str]:
        """Return the workers' names in the order of declaration; a name in several domains as often as that."""
        return [worker.task_definition_name for worker in self.get_workers()]

    def print_summary(self) -> None:
        """Print a line per worker, with the values that its declaration gives, or a hint if there is none."""
        print("\n".join(self._summary()))  # noqa: T201 - what the method is for

    def _summary(self) -> Iterator[str]:
        workers = get_registered_workers()
        yield f"{counted(len(workers), 'worker')}, {counted(len(self._modules), 'module')} scanned"
        yield from summary_of(workers)
        if not workers:
            yield f"  scanned: {', '.join(self._modules) or 'nothing'}"

    def _scan_package(self, name: str, *, recursive: bool) -> None:
        package = _import(name)
        self._add(package)
        for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
            inner = f"{name}.{found.name}"
            if found.name == "__main__":
                continue
            if not found.ispkg:
                self._add(_import(inner))
            elif recursive:
                self._scan_package(inner, recursive=True)
        for folder in _bare_folders(package):
            logger.info(
                "scan_packages: %s is not scanned, because it has no __init__.py; add one, or scan %s.%s",
                folder, name, folder.name,
            )  # fmt: skip

    def _add(self, module: ModuleType) -> None:
        self._modules.setdefault(module.__name__)


def summary_of(workers: Sequence[Worker], states: Mapping[tuple[str, str | None], str] | None = None) -> Iterator[str]:
    """Return a line per worker, or a hint if there is none.

    ``states``, if given, says what each worker does, by name and domain; one that it does not name is stopped.
    """
    width = max((len(worker.task_definition_name) for worker in workers), default=0)
    for worker in workers:
        options = worker.options
        module = getattr(worker.function, "__module__", None) or "?"
        state = "" if states is None else f" {states.get((worker.task_definition_name, worker.domain), 'stopped')}"
        yield (
            f"  {worker.task_definition_name:{width}}  module={module} domain={worker.domain or '-'} "
            f"threads={options.thread_count} poll_interval={options.poll_interval:g}ms{state}"
        )
    if not workers:
        yield f"  {_HINT}"


def scan_for_workers(*package_names: str, recursive: bool = True) -> WorkerLoader:
    """Import packages and the modules in them; see ``WorkerLoader.scan_packages``."""
    loader = WorkerLoader()
    loader.scan_packages(package_names, recursive=recursive)
    return loader


def auto_discover_workers(
    packages: str | Iterable[str] | None = None,
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
    print_summary: bool = True,
) -> WorkerLoader:
    """Import packages with their sub-packages, then the files of folders, and print what was found.

    See ``WorkerLoader.scan_packages`` and ``WorkerLoader.scan_path``.
    """
    loader = WorkerLoader()
    loader.scan_packages(packages or ())
    for path in [paths] if isinstance(paths, (str, os.PathLike)) else paths or ():
        loader.scan_path(path)
    if print_summary:
        loader.print_summary()
    return loader


def _listed(function: str, names: object) -> list[str]:
    listed: list[Any] = [names] if isinstance(names, str) or not isinstance(names, Iterable) else list(names)
    for name in listed:
        if not isinstance(name, str) or not all(name.split(".")):
            hint = "; relative names do not work here" if isinstance(name, str) and name.startswith(".") else ""
            raise ConfigError(f"{function}: {name!r} is no name of a module, such as 'my_app.workers'{hint}")
        if name.endswith(".py") or "/" in name:
            raise ConfigError(f"{function}: {name!r} is a file; give a module's name, such as {_as_name(name)!r}")
    return listed


def _as_name(file: str) -> str:
    return file.removesuffix(".py").strip("./").replace("/", ".")


def _import(name: str, file: Path | None = None) -> ModuleType:
    """Import a module; StartError says which, and where what went wrong is."""
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a script that ends the program when it is imported, too
        if _is_missing(error):
            raise StartError(f"there is no module {name!r}{_nearest(name)}") from error
        where = _place_of(error)
        what = f"module {name!r}" + (f" ({file})" if file and not where.startswith(str(file)) else "")
        why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        advice = _MAIN_GUARD if isinstance(error, SystemExit) else ""
        raise StartError(f"{what} could not be imported: {why}{where and f' (at {where})'}{advice}") from error


def _is_missing(error: BaseException | None) -> bool:
    """Whether the module itself is not there, and not one that it imports."""
    return isinstance(error, ModuleNotFoundError) and not frames_of_users(error)


def frames_of_users(error: BaseException) -> list[traceback.FrameSummary]:
    """Return the frames of an exception that lie neither here nor in Python's import machinery."""
    frames = traceback.extract_tb(error.__traceback__)
    own = {__file__, importlib.__file__}
    return [frame for frame in frames if frame.filename not in own and not frame.filename.startswith("<frozen ")]


def _place_of(error: BaseException) -> str:
    """Return the file and line where a user's module failed; empty if nobody can tell."""
    if isinstance(error, SyntaxError) and error.filename:
        return ""  # its own text says it
    frames = frames_of_users(error)
    return f"{frames[-1].filename}, line {frames[-1].lineno}" if frames else ""


def _nearest(name: str) -> str:
    """Return a hint at what a missing module's name may have been meant to be."""
    parent, _, last = name.rpartition(".")
    if parent and parent not in sys.modules:
        return f": there is no {parent!r}{_nearest(parent)}"
    path = getattr(sys.modules[parent], "__path__", None) if parent else None
    if parent and path is None:
        return f": {parent!r} is a module and not a package, nothing can be inside it"
    try:
        siblings = [module.name for module in pkgutil.iter_modules(path)]
    except Exception:  # a broken entry of sys.path, which only its own finder knows of
        siblings = []
    import difflib  # for whoever mistypes

    near = difflib.get_close_matches(last, siblings, n=1)
    meant = f"; did you mean {f'{parent}.{near[0]}' if parent else near[0]!r}?" if near else ""
    if parent:
        return meant or f"; in {parent!r} there are {', '.join(sorted(siblings)) or 'no modules'}"
    return (
        f"{meant}; is the folder that contains it on sys.path (the program's folder, PYTHONPATH, an installed package)?"
    )


def _bare_folders(package: ModuleType) -> list[Path]:
    """Return the folders of Python files in a package that Python does not count as sub-packages."""
    folders = [Path(entry) for entry in getattr(package, "__path__", ()) if Path(entry).is_dir()]
    inner = [folder for outer in folders for folder in sorted(outer.iterdir()) if folder.is_dir()]
    return [
        folder for folder in inner
        if folder.name.isidentifier() and not (folder / "__init__.py").exists() and any(folder.glob("*.py"))
    ]  # fmt: skip


def _package_name(folder: Path) -> str:
    """Return the name that Python has for a folder of modules: its own, and those of the packages it is in."""
    parts = [folder.name]
    while (folder := folder.parent).joinpath("__init__.py").is_file():
        parts.insert(0, folder.name)
    return ".".join(parts)


def _make_importable(folder: Path, prefix: str) -> None:
    """Let ``prefix`` mean that folder for Python, here and in worker processes; ConfigError if it cannot."""
    parts = prefix.split(".")
    if not all(parts) or tuple(parts) != folder.parts[-len(parts) :]:
        raise ConfigError(
            f"scan_path: package_prefix={prefix!r} does not fit {folder}: modules are imported by their names, so the "
            "folders must have those names, such as .../my_app/workers for 'my_app.workers'"
            + ("" if "." not in folder.name else "; a folder with a dot in its name cannot be a package")
        )
    root = str(folder.parents[len(parts) - 1])
    if not any(_real(Path(entry or ".")) == _real(Path(root)) for entry in sys.path):
        sys.path.append(root)  # at the end: nothing that could be imported before changes its meaning


def _python_files(folder: Path) -> Iterator[Path]:
    """Yield the files to import, in a stable order, each package before what is in it."""
    for base, folders, files in os.walk(folder):
        here = Path(base)
        folders[:] = sorted(name for name in folders if _is_wanted(name) and not (here / name / "pyvenv.cfg").exists())
        if "__init__.py" in files:
            yield here / "__init__.py"
        yield from (here / name for name in sorted(files) if name.endswith(".py") and _is_wanted(name))


def _is_wanted(name: str) -> bool:
    return not name.startswith(("_", "."))


def _module_parts(folder: Path, file: Path) -> Sequence[str]:
    parts = file.relative_to(folder).with_suffix("").parts
    if any("." in part for part in parts):
        raise ConfigError(f"scan_path: {file} cannot be imported, because of the dot in its name; rename it")
    return parts[:-1] if parts[-1] == "__init__" else parts


def _import_file(name: str, file: Path) -> ModuleType:
    try:
        module = _import(name, file)
    except StartError as error:
        if not _is_missing(error.__cause__):
            raise
        # There is such a file, so the names before it mean something else.
        raise _taken(name, file, sys.modules.get(name.partition(".")[0])) from error
    if _real(Path(getattr(module, "__file__", None) or "")) != _real(file):
        raise _taken(name, file, module)
    return module


def _taken(name: str, file: Path, other: ModuleType | None) -> ConfigError:
    place = getattr(other, "__file__", None) or ", ".join(getattr(other, "__path__", ())) or "a built-in module"
    return ConfigError(
        f"scan_path: {file} cannot be imported as {name!r}, because {other.__name__ if other else name} is {place}; "
        "rename the folder, or name the package that it belongs to in package_prefix"
    )


def _loaded_files() -> Iterator[tuple[str, str]]:
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            yield name, _real(Path(file))


def _real(path: Path) -> str:
    return os.path.realpath(path)


def counted(number: int, thing: str) -> str:
    """Return a number with its noun."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
