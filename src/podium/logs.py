"""Logging of the program: JSON lines and a level by environment, and failures that repeat.

Nothing here happens by itself, and nothing touches the root logger: an application that configures logging has done
all there is to do.

    CONDUCTOR_LOG_LEVEL     level of the logger "podium": DEBUG, INFO, WARNING, ERROR, CRITICAL, or a number
    CONDUCTOR_LOG_FORMAT    "json": podium's records, and those of children that no handler of the application takes,
                            are JSON lines on standard error. "text" (default): they are what they were.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING, Any, Final, TextIO

from podium.answers import harmless
from podium.errors import ConfigError
from podium.records import STANDARD_FIELDS, TASK_FIELDS, message_of, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FORMATS: Final = ("json", "text")
#: A failure that repeats is said again when this many seconds have passed.
REPEAT_SECONDS: Final = 60.0
_MOST_KINDS: Final = 100

#: Escapes in JSON text: a backslash, the two halves of a character, or one half alone, which is no character.
_ESCAPES: Final = re.compile(r"\\\\|\\ud[89ab]..\\ud[c-f]..|\\ud[89a-f]..")


class JsonFormatter(logging.Formatter):
    """Formats a record as one line of JSON in ASCII, whatever is in it.

    Keys: time (UTC, ISO 8601 with milliseconds), level, logger, message; task_id, workflow_id, task_type and attempt
    inside a task; process (its id); exception and stack, as text, if there are any; then what was attached to the
    record by ``extra=``, in front of whose name stands ``extra_`` if it is one of these.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        attached = {name: value for name, value in vars(record).items() if name not in STANDARD_FIELDS}
        created = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": created.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": message_of(record),
            **{name: attached.pop(name) for name in TASK_FIELDS if name in attached},
            "process": record.process,
        }
        attached.pop("message", None)  # left there by another handler's formatter, as is the time
        attached.pop("asctime", None)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        for name, value in attached.items():
            line[f"extra_{name}" if name in line else name] = value
        return "{" + ", ".join(f"{_json(str(name))}: {_json(value)}" for name, value in line.items()) + "}"


def _json(value: Any) -> str:
    try:
        text = json.dumps(value, default=text_of, allow_nan=False)
    except Exception:  # keys that are no text, NaN, cycles, what another thread changes meanwhile
        text = json.dumps(text_of(value))
    return _ESCAPES.sub(lambda found: found[0] if len(found[0]) != len(r"\udxxx") else r"\ufffd", text)


class TextFormatter(logging.Formatter):
    """Formats a record as text of which each line after the first is indented, with control characters escaped.

    So no text from elsewhere, such as a server's message or a task's name, can pass for a record, or command the
    terminal that shows it.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the text, without its end."""
        return harmless(super().format(record)).replace("\n", "\n    ")


class _OwnHandler(logging.StreamHandler[TextIO]):
    """podium's handler: writes to what standard error is at the time.

    In text form it is for programs without handlers: it falls silent as soon as the application has one.
    """

    def __init__(self, *, as_json: bool) -> None:
        super().__init__()
        self.as_json = as_json
        self.setFormatter(JsonFormatter() if as_json else TextFormatter())

    @property
    def stream(self) -> TextIO:
        """What standard error is now; as logging's own handler of last resort has it."""
        return sys.stderr

    @stream.setter
    def stream(self, _stream: TextIO) -> None:
        """Is always what the system module has."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Write a record, unless the application does by now."""
        return (self.as_json or not _others_take(_podium, self)) and super().handle(record)


_podium: Final = logging.getLogger("podium")


def _others_take(target: logging.Logger, own: logging.Handler) -> bool:
    """Whether another handler would get the records of a logger."""
    place: logging.Logger | None = target
    while place is not None:
        if any(handler is not own for handler in place.handlers):
            return True
        place = place.parent if place.propagate else None
    return False


class _Configuration:
    """What the environment asked for, in force while somebody who called for it wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self.handler: _OwnHandler | None = None
        self._level: int | None = None
        self._before = (logging.NOTSET, True)

    def enter(self, level: int | None, *, as_json: bool) -> None:
        with self._lock:
            self._wanted += 1
            if self._wanted > 1:
                return
            self._level, self._before = level, (_podium.level, _podium.propagate)
            if level is not None:
                _podium.setLevel(level)
            if as_json or not _podium.hasHandlers():
                self.handler = _OwnHandler(as_json=as_json)
                _podium.addHandler(self.handler)
            if as_json:
                _podium.propagate = False

    def leave(self) -> None:
        with self._lock:
            self._wanted -= 1
            if self._wanted:
                return
            level, propagate = self._before
            if self._level is not None and _podium.level == self._level:  # else the application has set another
                _podium.setLevel(level)
            if self.handler is not None:
                _podium.removeHandler(self.handler)
                if self.handler.as_json:
                    _podium.propagate = propagate
                self.handler = None


_configuration: Final = _Configuration()


def configure_logging(environment: Mapping[str, str] = os.environ) -> Callable[[], None]:
    """Do what CONDUCTOR_LOG_LEVEL and CONDUCTOR_LOG_FORMAT ask for; return what undoes it.

    Does nothing if neither is set. A level is that of the logger "podium", and if no handler takes its records, it
    gets one that writes text to standard error. With format json it gets one that writes JSON lines there, and hands
    nothing on to other handlers. Called again, it changes nothing; the last undo counts.

    Raises ConfigError for a value that is not allowed.
    """
    level, as_json = _level(environment), _format(environment) == "json"
    if level is None and not as_json:
        return lambda: None
    _configuration.enter(level, as_json=as_json)
    undone = threading.Event()

    def undo() -> None:
        if not undone.is_set():
            undone.set()
            _configuration.leave()

    return undo


def configure_program_logging(environment: Mapping[str, str] = os.environ) -> None:
    """Configure the root logger, for a program that is podium's own: text or JSON lines on standard error, from INFO.

    Raises ConfigError for a value that is not allowed.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if _format(environment) == "json" else TextFormatter())
    logging.basicConfig(level=_level(environment) or logging.INFO, handlers=[handler])


def hand_over(target: logging.Logger, record: logging.LogRecord) -> None:
    """Give a child's record to the handlers of its logger.

    If there is none, podium's own takes it, if there is that.
    """
    own = _configuration.handler
    if own is None or target.hasHandlers():
        target.handle(record)
    elif not target.disabled and target.filter(record):
        own.handle(record)


def _level(environment: Mapping[str, str]) -> int | None:
    value = environment.get("CONDUCTOR_LOG_LEVEL", "").strip()
    if not value:
        return None
    if value.upper() in _LEVELS:
        return int(getattr(logging, value.upper()))
    if re.fullmatch(r"[0-9]{1,4}", value) and int(value) > 0:
        return int(value)
    raise ConfigError(f"CONDUCTOR_LOG_LEVEL={value!r}: expected {', '.join(_LEVELS)}, or a whole number of 1 or more")


def _format(environment: Mapping[str, str]) -> str:
    value = environment.get("CONDUCTOR_LOG_FORMAT", "").strip()
    if not value or value.lower() in _FORMATS:
        return value.lower()
    raise ConfigError(f"CONDUCTOR_LOG_FORMAT={value!r}: expected {' or '.join(_FORMATS)}")


class Repeats:
    """Which of many failures are worth a log line: each new one, and the same again when a minute has passed."""

    def __init__(self) -> None:
        #: Of each kind: how often it happened, when first, and when it was said.
        self._seen: dict[str, tuple[int, float, float]] = {}

    def due(self, what: str) -> str | None:
        """Count a failure; return what to add to its log line, or None if it is to have none."""
        now = time.monotonic()
        count, first, said = self._seen.get(what, (0, now, -inf))
        count += 1
        due = now - said >= REPEAT_SECONDS
        if len(self._seen) >= _MOST_KINDS:  # failures that are all different are all said, and not all kept
            self._seen.clear()
        self._seen[what] = (count, first, now if due else said)
        if not due:
            return None
        return f" ({count} times in {now - first:.0f} s)" if count > 1 else ""
