"""One file's import statements, rewritten from the table; everything else stays as it is, to the character."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from podium.migrate.table import ALWAYS, PACKAGE, TABLE, Absent, Entry, Here, outside

_FROM = re.compile(r"from(?:\s|\\\r?\n)+(?P<module>[\w.]+)")
_LINE_END = re.compile(r"\r\n|\r|\n")
_DOTTED = re.compile(rf"{PACKAGE}\.client(\.\w+)+")


@dataclass(frozen=True, order=True)
class Finding:
    """Something that a person has to look at."""

    line: int
    text: str


@dataclass(frozen=True)
class Migration:
    """The new text of a file, and what it leaves to do."""

    text: str
    findings: list[Finding]


@dataclass(frozen=True)
class _Edit:
    start: int
    end: int
    text: str


@dataclass(frozen=True)
class _Move:
    """One name of an import statement on its way to another module."""

    alias: ast.alias
    module: str
    text: str


def migrate_source(source: str) -> Migration:
    """Return a file's text with its imports rewritten; raises SyntaxError for a text that is no Python."""
    rewriter = _Rewriter(source)
    text = rewriter.text()
    ast.parse(text)
    return Migration(text, sorted(rewriter.findings))


class _Rewriter:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tree = ast.parse(source)
        self._starts = [0, *(end.end() for end in _LINE_END.finditer(source))]
        ending = _LINE_END.search(source)
        self._newline = ending.group() if ending else "\n"
        self._edits: list[_Edit] = []
        #: A set: two names of one statement may have the same note.
        self.findings: set[Finding] = set()

    def text(self) -> str:
        """Return the new text."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.ImportFrom) and not node.level and _imports_ours(node):
                self._import_from(node)
            elif isinstance(node, ast.Import):
                self._import(node)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and _DOTTED.fullmatch(node.value):
                self._report(node.lineno, f"the text {node.value!r} names something of conductor-python")
        text = self._source
        for edit in sorted(self._edits, key=lambda edit: edit.start, reverse=True):
            text = text[: edit.start] + edit.text + text[edit.end :]
        return text

    def _report(self, line: int, text: str) -> None:
        self.findings.add(Finding(line, text))

    # from module import names

    def _import_from(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        names = TABLE.get(module)
        if names is None:
            self._report(node.lineno, outside(module))
            return
        moves: list[_Move] = []
        kept: list[ast.alias] = []
        for alias in node.names:
            entry = names.get(alias.name)
            problem = _problem(module, alias.name, entry)
            if problem:
                self._report(alias.lineno, problem)
                kept.append(alias)
            elif isinstance(entry, Here):
                home, _, attribute = entry.migrated.partition(":")
                moves.append(_Move(alias, home, _imported(attribute, alias.asname or alias.name)))
                self._notes(alias.asname or alias.name, alias.lineno, entry)
        if not moves:
            return
        match = _FROM.match(self._source, self._offset(node.lineno, node.col_offset))
        if not kept and len({move.module for move in moves}) == 1 and match and match["module"] == module:
            self._edits.append(_Edit(match.start("module"), match.end("module"), moves[0].module))
            self._edits += [self._replace(move.alias, move.text) for move in moves]
        else:
            self._edits.append(self._replace(node, self._split(node, moves, kept)))

    def _split(self, node: ast.ImportFrom, moves: list[_Move], kept: list[ast.alias]) -> str:
        """Return a statement per module instead of one, with the comments from inside it in front."""
        statements = {move.module: [other.text for other in moves if other.module == move.module] for move in moves}
        if kept:
            statements[node.module or ""] = [_imported(alias.name, alias.asname or alias.name) for alias in kept]
        start, end = self._range(node)
        before = self._source[self._starts[node.lineno - 1] : start]
        after = self._line_after(end)
        comments = list(_comments(self._source[start:end]))
        if before.strip() or (after and not after.startswith("#")):
            return self._in_line(statements, comments)
        many = node.end_lineno != node.lineno
        lines = comments
        for module, names in statements.items():
            if many and len(names) > 1:
                lines += [f"from {module} import (", *(f"    {name}," for name in names), ")"]
            else:
                lines.append(f"from {module} import {', '.join(names)}")
        return (self._newline + before).join(lines)

    def _in_line(self, statements: dict[str, list[str]], comments: list[str]) -> str:
        """Return statements for a line that has others too: comments need the parentheses of the first one."""
        first, *others = [(f"from {module} import ", ", ".join(names)) for module, names in statements.items()]
        start, names = first
        if comments:
            names = f"({self._newline.join(f'  {comment}' for comment in comments)}{self._newline}    {names})"
        return "; ".join([start + names, *map("".join, others)])

    def _notes(self, bound: str, line: int, entry: Here) -> None:
        """Report what the code does with a migrated name that it cannot do with podium's."""
        if ALWAYS in entry.notes:
            self._report(line, f"{bound}: {entry.notes[ALWAYS]}")
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute) and f".{node.attr}" in entry.notes and not _is_name(node.value, "self"):
                self._report(node.end_lineno or node.lineno, f".{node.attr}: {entry.notes[f'.{node.attr}']}")
            elif isinstance(node, ast.Call) and _is_name(node.func, bound):
                for keyword in node.keywords:
                    if f"{keyword.arg}=" in entry.notes:
                        note = entry.notes[f"{keyword.arg}="]
                        self._report(keyword.lineno, f"{bound}({keyword.arg}=...): {note}")

    # import module

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            if alias.name == "podium.compat":
                self._report(node.lineno, "import podium.compat: remove it when nothing imports conductor any more")
            if not _is_ours(alias.name):
                continue
            home = self._home_of_all(alias)
            if alias.name not in TABLE:
                self._report(alias.lineno, outside(alias.name))
            elif home is None:
                self._report(
                    alias.lineno, f"import {alias.name}: import the names instead, from podium; uses have to change too"
                )
            else:
                self._edits.append(self._replace(alias, f"{home} as {alias.asname}"))

    def _home_of_all(self, alias: ast.alias) -> str | None:
        """Return the module that has all that is used of ``import module as alias``, under the same names."""
        names = TABLE.get(alias.name)
        if names is None or alias.asname is None:
            return None
        homes: set[str] = set()
        used: set[ast.AST] = set()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute) and _is_name(node.value, alias.asname):
                entry = names.get(node.attr)
                target = entry.migrated if isinstance(entry, Here) else ""
                home, _, attribute = target.partition(":")
                homes.add(home if attribute == node.attr else "")
                used.add(node.value)
        for node in ast.walk(self._tree):
            other = node is not alias and getattr(node, "asname", None) == alias.asname
            if (_is_name(node, alias.asname) and node not in used) or _binds(node, alias.asname) or other:
                return None  # the module itself is used, or the name means something else somewhere
        return homes.pop() if len(homes) == 1 and homes != {""} else None

    # places in the text

    def _offset(self, line: int, column: int) -> int:
        """Return the index of a place that the parser names by its line and by bytes of UTF-8."""
        start = self._starts[line - 1]
        return start + len(self._source[start : start + column].encode()[:column].decode())

    def _range(self, node: ast.stmt | ast.alias) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._offset(node.lineno, node.col_offset), self._offset(node.end_lineno, node.end_col_offset)

    def _replace(self, node: ast.stmt | ast.alias, text: str) -> _Edit:
        return _Edit(*self._range(node), text)

    def _line_after(self, place: int) -> str:
        end = _LINE_END.search(self._source, place)
        return self._source[place : end.start() if end else None].strip()


def _is_ours(module: str) -> bool:
    return f"{module}.".startswith(f"{PACKAGE}.client.")


def _imports_ours(node: ast.ImportFrom) -> bool:
    client = node.module == PACKAGE and any(alias.name == "client" for alias in node.names)
    return client or _is_ours(node.module or "")


def _problem(module: str, name: str, entry: Entry | None) -> str | None:
    """Return why a name of an import statement stays where it is; None if it moves."""
    if name == "*":
        return f"from {module} import *: import the names that are used, from podium"
    if isinstance(entry, Absent):
        return f"{name} has no place in podium: {entry.reason}"
    if entry is None:
        if f"{module}.{name}" in TABLE:
            return f"{name} is a module: import the names in it instead, from podium; uses have to change too"
        return f"{name} of {module} is not known as something that workers use"
    return None if entry.migrated else f"{name} has no equal in podium: {entry.notes[ALWAYS]}"


def _imported(name: str, bound: str) -> str:
    return name if name == bound else f"{name} as {bound}"


def _is_name(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _binds(node: ast.AST, name: str) -> bool:
    return name in (getattr(node, "arg", None), getattr(node, "name", None)) and not isinstance(node, ast.keyword)


def _comments(statement: str) -> Iterator[str]:
    for token in tokenize.generate_tokens(io.StringIO(statement).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
