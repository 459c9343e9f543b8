"""Log records of tasks: which task one belongs to, and its way out of a child.

A child sends each record to its parent with one system call, in the thread that made it: once the call to the logger
has returned, the record is with the kernel, and no crash of the child and no coroutine that blocks its loop can hold
it back. A message of the connection is one record, so that processes which a task forks may use it too.
"""

from __future__ import annotations

import errno
import logging
import socket
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import msgspec

from podium.context import get_task_context
from podium.errors import NoTaskContextError
from podium.execution import encodable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The attributes that say which task a record belongs to.
TASK_FIELDS: Final = ("task_id", "workflow_id", "task_type", "attempt")
#: Bytes of the longest message; what is longer is cut.
MAX_RECORD: Final = 64 * 1024
#: Seconds that a record may wait for a parent that does not read; it is dropped then, and counted.
SEND_SECONDS: Final = 3
#: What a full connection may hold; systems give less, or, for their own bookkeeping, more.
_BUFFER: Final = 256 * 1024
#: Characters that are left of each field of a record that is too long; the next number is tried if it still is.
_CUTS: Final = (40_000, 8_000, 1_000)
#: The attributes that every record has.
STANDARD_FIELDS: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", (), None))) | {"taskName"}

_encode = msgspec.msgpack.encode


class _Fields(dict[str, Any]):
    """The attributes of a record inside a task. Those of the task give way to what the user attaches by that name.

    logging refuses an ``extra`` that a record has already: it does not get to see these.
    """

    def __contains__(self, name: object) -> bool:
        return name not in TASK_FIELDS and super().__contains__(name)

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


class TaskRecords:
    """A factory of log records that adds the task's fields to what another factory makes."""

    def __init__(self, previous: Callable[..., logging.LogRecord]) -> None:
        self.previous = previous

    def __call__(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Make a record."""
        record = self.previous(*args, **kwargs)
        if fields := task_fields():
            record.__dict__ = _Fields(fields | record.__dict__)
        return record


def task_fields() -> dict[str, Any]:
    """Return the fields of the task that the calling code is running; empty outside a task."""
    try:
        context = get_task_context()
    except NoTaskContextError:
        return {}
    values = (
        context.get_task_id(),
        context.get_workflow_instance_id(),
        context.get_task_def_name(),
        context.get_retry_count(),
    )
    return dict(zip(TASK_FIELDS, values, strict=True))


class _Attachment:
    """Puts the task's fields on the records of this process while somebody wants it.

    There is no place but the factory that sees the records of all loggers. The one that was there before does its
    work as ever, and comes back with the last ``remove``, unless somebody has put another in the place meanwhile.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._factory: TaskRecords | None = None

    def add(self) -> None:
        """Put the fields on records from now on."""
        with self._lock:
            self._wanted += 1
            if self._wanted == 1:
                self._factory = TaskRecords(logging.getLogRecordFactory())
                logging.setLogRecordFactory(self._factory)

    def remove(self) -> None:
        """Take one ``add`` back."""
        with self._lock:
            self._wanted -= 1
            if self._wanted == 0 and self._factory is not None and logging.getLogRecordFactory() is self._factory:
                logging.setLogRecordFactory(self._factory.previous)


TASK_FIELDS_ON_RECORDS: Final = _Attachment()


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Return the parent's end and the child's end of a connection for records."""
    # Both kinds keep messages apart; the first one tells the end of the connection, too.
    kind = socket.SOCK_SEQPACKET if sys.platform == "linux" else socket.SOCK_DGRAM
    ours, theirs = socket.socketpair(type=kind)
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
    # Not Python's timeout: that one polls first, and a connection counts as writable only when it is almost empty.
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
    return ours, theirs


class RecordSender(logging.Handler):
    """Sends the records of a child to its parent, where logging is configured."""

    def __init__(self, channel: socket.socket) -> None:
        super().__init__()
        self._channel = channel
        #: Records that the parent did not take in time. While there are any, nothing waits for it any more.
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, or count it as dropped."""
        try:
            if self._dropped and self._send(_notice(self._dropped)):
                self._dropped = 0
            if self._dropped or not self._send(record):
                self._dropped += 1
        except Exception:
            self.handleError(record)

    def _send(self, record: logging.LogRecord) -> bool:
        flags = socket.MSG_DONTWAIT if self._dropped else 0
        fields = plain_fields(record)
        try:
            try:
                self._channel.send(encode_record(fields), flags)
            except OSError as error:
                if error.errno != errno.EMSGSIZE:
                    raise
                self._channel.send(_encode_short(fields), flags)
        except OSError:  # the parent did not read in time, or is gone
            return False
        return True


def _notice(dropped: int) -> logging.LogRecord:
    text = "%d log records of this process were dropped, because nobody took them within %d s"
    return logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (dropped, SEND_SECONDS), None)


def plain_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the attributes of a record as values that a message can carry; what it cannot carry goes as text."""
    fields = dict(record.__dict__, msg=message_of(record), args=None, exc_info=None)
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    try:
        plain: dict[str, Any] = _to_plain(fields)
        _encode(plain)
    except Exception:  # one of them is at fault
        return {encodable(str(name)): _plain_or_text(value) for name, value in fields.items()}
    return plain


def message_of(record: logging.LogRecord) -> str:
    """Return a record's message; if its arguments do not fit, a text with all of it."""
    try:
        return record.getMessage()
    except Exception as error:
        return (
            f"{text_of(record.msg)} (its arguments {text_of(record.args)} do not fit: {type(error).__name__}: {error})"
        )


def _to_plain(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=(bytes,), enc_hook=str, str_keys=True)


def _plain_or_text(value: Any) -> Any:
    try:
        plain = _to_plain(value)
        _encode(plain)
    except Exception:  # lone surrogates, integers beyond 64 bits, cycles, a __str__ that raises
        return encodable(text_of(value))
    return plain


def text_of(value: Any) -> str:
    """Return any value as text, whatever its own ``__str__`` does."""
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} whose __str__ raised {type(error).__name__}>"


def encode_record(fields: Mapping[str, Any]) -> bytes:
    """Return the message for a record's plain fields, cut to what a message may hold."""
    message = _encode(fields)
    for limit in _CUTS:
        if len(message) <= MAX_RECORD:
            return message
        message = _encode({name: _cut(value, limit) for name, value in fields.items()})
    return message if len(message) <= MAX_RECORD else _encode_short(fields)


def _encode_short(fields: Mapping[str, Any]) -> bytes:
    """Return the message for a record without what the user attached to it, and with short texts."""
    kept = {name: _cut(value, _CUTS[-1]) for name, value in fields.items() if name in _SHORT_FIELDS}
    kept["msg"] += f" ... {len(fields) - len(kept)} fields of this record were left out, it was too long"
    return _encode(kept)


_SHORT_FIELDS: Final = STANDARD_FIELDS | set(TASK_FIELDS)


def decode_record(message: bytes) -> dict[str, Any]:
    """Return a record's fields, for ``logging.makeLogRecord``; raises msgspec.DecodeError."""
    return msgspec.msgpack.decode(message, type=dict[str, Any])


def _cut(value: Any, limit: int) -> Any:
    if not isinstance(value, str) and len(_encode(value)) <= limit:
        return value
    text = value if isinstance(value, str) else str(value)
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]} ... {len(text) - 2 * half} characters left out ... {text[-half:]}"
