"""One connection to a server and the answers that come over it, one at a time; httptools (llhttp) takes them apart."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from podium.answers import Response, printable
from podium.call import MAX_BODY, TOO_LARGE, Body, Fault
from podium.descriptor import readable_now
from podium.errors import AnswerError, CutError

if TYPE_CHECKING:
    from podium.errors import TransportError

#: Bytes that the head of an answer may have, and all that may come between two parts of its body, or after the last.
_MAX_HEAD: Final = 256 * 1024
#: Bytes of a body up to which head and body are sent as one.
_SMALL: Final = 64 * 1024


class Conversation(asyncio.Protocol):
    """One connection, and the answer that is being read from it; a pool has it among its busy or its idle ones."""

    def __init__(self, loop: asyncio.AbstractEventLoop, busy: set[Conversation], idle: list[Conversation]) -> None:
        self._loop = loop
        self._busy = busy
        self._idle = idle
        self._parser = HttpResponseParser(self)
        self.waiter: asyncio.Future[Response | Fault] | None = None
        self.deadline = self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's does not inherit it
        self._is_readable = readable_now(transport.get_extra_info("socket").fileno())

    def ask(self, head: bytes, body: bytes, deadline: float) -> asyncio.Future[Response | Fault]:
        """Send a request; the future resolves to its answer, or to the reason why there is none."""
        self._status = self._fruitless = 0
        self._headers: dict[bytes, bytes] = {}
        self._body = Body()
        self._broken: str | None = None
        self._is_complete = self._is_spoilt = False
        self.deadline = deadline
        self._busy.add(self)
        self.waiter = waiter = self._loop.create_future()
        if len(body) < _SMALL:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])
        return waiter

    def is_stale(self) -> bool:
        """Whether the server has closed it, or sent what nobody asked for; also if the loop does not know yet."""
        return self._transport.is_closing() or self._is_readable()

    def end(self) -> None:
        """Close the connection at once; whoever waits for an answer is not told."""
        self.waiter = None
        self._busy.discard(self)
        self._transport.abort()

    def fail(self, kind: type[TransportError], cause: str) -> None:
        """Close the connection, and tell whoever waits for an answer why there is none."""
        status = self._status if self.waiter is not None else 0
        self._settle(Fault(kind, cause, status=status, is_unanswered=kind is CutError and status == 0))
        self.end()

    def _settle(self, answer: Response | Fault) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(answer)

    # --- what the loop calls

    def data_received(self, data: bytes) -> None:
        """Read on; the answer is done with only when all of the data was looked at."""
        if self.waiter is None:  # nothing was asked
            self.end()
            return
        self._fruitless += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            self._spoil("the server changes to another protocol")
        except HttpParserError as error:
            self._spoil(f"the answer is not HTTP: {printable(str(error))}")
        if self._broken is not None:
            self.fail(AnswerError, self._broken)
        elif self._is_complete:
            self._finish()
        elif self._fruitless > _MAX_HEAD:
            self.fail(AnswerError, "the answer is not HTTP: its headers do not end")

    def eof_received(self) -> None:
        """The server sends no more: whatever of a request is not sent yet would be for nobody."""
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed: perhaps in the middle of something."""
        del self._parser  # which has this connection in turn: a cycle
        if self.waiter is None:
            with suppress(ValueError):
                self._idle.remove(self)
        elif exc is None and self._status and not {b"content-length", b"transfer-encoding"} & self._headers.keys():
            self._is_spoilt = True
            self._finish()  # an answer without a length is over when the connection is
        else:
            cut = "in the middle of its answer" if self._status else "without an answer"
            self.fail(CutError, f"the server closed the connection {cut}")

    def _finish(self) -> None:
        header = self._headers.get
        try:
            body = self._body.close()
        except Fault as fault:
            self.fail(AnswerError, fault.cause)
            return
        self._settle(
            Response(
                self._status, body, _text(header(b"content-type")), _text(header(b"retry-after")),
                _text(header(b"location")),
            )
        )  # fmt: skip
        if self._is_spoilt or self._transport.get_write_buffer_size():
            self.end()
        else:
            self._busy.discard(self)
            self.idle_since = self._loop.time()
            self._idle.append(self)

    def _spoil(self, broken: str) -> None:
        """See to it that the connection is not used again, and that an answer that is not complete yet is none."""
        self._is_spoilt = True
        if not self._is_complete and self._broken is None:
            self._broken = broken

    # --- what the parser calls

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self._is_complete:  # more than was asked for: what follows cannot be trusted
            self._is_spoilt = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one of the fields that may follow a body."""
        if not self._status:  # what comes after the body is none
            self._headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        """The head of an answer is complete."""
        status = self._parser.get_status_code()
        if status >= 200 and not self._status:
            self._status = status
            if int(self._headers.get(b"content-length", 0)) > MAX_BODY:
                self._spoil(TOO_LARGE)
            try:
                self._body.open(self._headers.get(b"content-encoding"))
            except Fault as fault:
                self._spoil(fault.cause)

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        self._fruitless = 0
        if self._status and not self._is_complete and self._broken is None:
            try:
                self._body.add(data)
            except Fault as fault:
                self._spoil(fault.cause)

    def on_message_complete(self) -> None:
        """The answer is complete, or the interim one before it."""
        if self._status:
            self._is_complete = True
            self._is_spoilt = self._is_spoilt or not self._parser.should_keep_alive()
        else:
            self._headers.clear()  # of an interim answer, such as 103 Early Hints


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
