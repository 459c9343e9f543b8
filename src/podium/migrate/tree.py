"""The files of a code base: which to look at, what would change in them, and changing them."""

from __future__ import annotations

import difflib
import os
import shutil
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from podium.migrate.rewrite import Finding, Migration, migrate_source
from podium.migrate.table import PACKAGE

#: Folders that are no part of a code base; all hidden ones and virtual environments are none either.
_SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages"})


@dataclass(frozen=True)
class FileMigration:
    """What one file would become. ``before`` and ``after`` are equal if only the findings are of interest."""

    path: Path
    before: str
    after: str
    encoding: str
    findings: list[Finding]

    @property
    def changes(self) -> bool:
        """Whether the file would be changed."""
        return self.before != self.after

    def diff(self) -> str:
        """Return a unified diff that ``patch -p1`` and ``git apply`` take; empty if nothing changes."""
        name = self.path.as_posix().lstrip("/")
        old, new = _lines(self.before), _lines(self.after)
        lines = difflib.unified_diff(old, new, f"a/{name}", f"b/{name}")
        return "".join(
            line if line.endswith(("\n", "\r")) else f"{line}\n\\ No newline at end of file\n" for line in lines
        )

    def write(self) -> None:
        """Put the new text in the file's place in one step, with its encoding, line ends and permissions."""
        target = self.path.resolve()  # a link stays a link
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(self.after.encode(self.encoding))
            shutil.copymode(target, name)
            os.replace(name, target)  # noqa: PTH105 - of a name that is a text
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def migrate_tree(path: Path) -> Iterator[FileMigration]:
    """Yield the files, below a folder or the one given, that would change or that a person has to look at."""
    for file in [path] if path.is_file() else _python_files(path):
        migration = _migrate_file(file)
        if migration is not None and (migration.changes or migration.findings):
            yield migration


def _python_files(folder: Path) -> Iterator[Path]:
    for base, folders, files in os.walk(folder):
        here = Path(base)
        folders[:] = sorted(
            name for name in folders
            if not name.startswith(".") and name not in _SKIPPED and not (here / name / "pyvenv.cfg").exists()
        )  # fmt: skip
        wanted = (here / name for name in sorted(files) if name.endswith((".py", ".pyi")))
        yield from (file for file in wanted if file.is_file())  # a pipe would be read for ever


def _migrate_file(file: Path) -> FileMigration | None:
    try:
        content = file.read_bytes()
    except OSError as error:
        return _unreadable(file, f"cannot be read: {error.strerror}")
    if PACKAGE.encode() not in content:
        return None
    try:
        encoding, _ = tokenize.detect_encoding(iter(content.splitlines(keepends=True)).__next__)
        text = content.decode(encoding)
        migration: Migration = migrate_source(text)
    except (SyntaxError, ValueError) as error:  # ValueError: no text of that encoding, or null bytes
        where = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        return _unreadable(file, f"cannot be parsed as Python: {where}{getattr(error, 'msg', error)}")
    return FileMigration(file, text, migration.text, encoding, migration.findings)


def _unreadable(file: Path, problem: str) -> FileMigration:
    return FileMigration(file, "", "", "utf-8", [Finding(1, problem)])


def _lines(text: str) -> list[str]:
    """Split where an editor does, and nowhere else: ``splitlines`` knows characters that end no line of a file."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
