"""A request on its way: what goes out, what can go wrong, and the bounds of an answer. Below every way to a server."""

from __future__ import annotations

import re
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol
from urllib.parse import quote, unquote, urlencode, urlsplit

from podium.errors import AnswerError, ConfigError

if TYPE_CHECKING:
    from podium.answers import Response
    from podium.errors import TransportError

#: Largest answer that is read, after decompression.
MAX_BODY: Final = 64 * 1024 * 1024
TOO_LARGE: Final = f"the answer is larger than {MAX_BODY >> 20} MB"
#: Seconds after which an idle connection is not used again. Conductor closes one that was idle for 60 s; leaving it
#: first avoids the race.
IDLE_LIMIT: Final = 50.0
#: What stays as it is in the path of a server's URL.
_KEPT_AS_IT_IS: Final = "/%:@!$&'()*+,;=-._~"
#: How many heads are remembered. There are fewer endpoints; most of them would be for tokens that are over.
_MOST_KNOWN: Final = 100
#: Whether a text has nothing in it that could end the first line of a request, or a part of it.
_is_visible: Final = re.compile(r"[!-~]*").fullmatch

Query = Mapping[str, str | int] | Sequence[tuple[str, str | int]]


class Call(NamedTuple):
    """One request; ``timeout`` in seconds covers everything from connecting to the last byte."""

    method: str
    path: str
    query: Query | None
    body: bytes | None
    content_type: str
    timeout: float
    template: str


class Fault(Exception):  # noqa: N818 - a way's word for what becomes an error of podium's
    """Why there is no answer: the error that it is to a user, and its cause in words.

    ``status`` is 0 unless the head of an answer came; ``is_unanswered`` says that the connection was cut before that.
    """

    def __init__(
        self,
        kind: type[TransportError | ConfigError],
        cause: str,
        *,
        status: int = 0,
        is_unanswered: bool = False,
    ) -> None:
        super().__init__(cause)
        self.kind = kind
        self.cause = cause
        self.status = status
        self.is_unanswered = is_unanswered


class Way(Protocol):
    """A way to one server, with connections of its own; usable from any event loop of any thread."""

    async def exchange(self, call: Call, token: str | None) -> Response:
        """Send a request and return its answer, whatever its status; raises Fault if none came."""

    async def aclose(self) -> None:
        """Close all connections; requests under way end with a CutError."""


class Heads:
    """Makes the heads of requests; what many of them share is made once."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._prefix = quote(parts.path, safe=_KEPT_AS_IT_IS)
        host = (parts.hostname or "").encode("idna").decode()
        host = f"[{host}]" if ":" in host else host
        port = "" if parts.port is None else f":{parts.port}"
        lines = [f"Host: {host}{port}", "User-Agent: podium", "Accept: */*", "Accept-Encoding: gzip"]
        if parts.username is not None or parts.password is not None:
            pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            lines.append(f"Authorization: Basic {b64encode(pair.encode()).decode()}")
        self._lines = "".join(f"{line}\r\n" for line in lines)
        #: The heads of endpoints whose path is always the same, but for their ends; a token is new once in a while.
        self._known: dict[tuple[str, str, str, str | None], bytes] = {}

    def of(self, call: Call, token: str | None) -> bytes:
        """Return the head of a request; its path is encoded already, and Fault if it is not."""
        if call.query or call.path != call.template:
            head = self._without_length(call, token)
        else:
            key = (call.method, call.path, "" if call.body is None else call.content_type, token)
            known = self._known.get(key)
            if known is None:
                known = self._without_length(call, token)
                if len(self._known) >= _MOST_KNOWN:
                    self._known.clear()
                self._known[key] = known
            head = known
        if call.body is not None:
            return b"%bContent-Length: %d\r\n\r\n" % (head, len(call.body))
        return head + (b"\r\n" if call.method == "GET" else b"Content-Length: 0\r\n\r\n")

    def _without_length(self, call: Call, token: str | None) -> bytes:
        query = f"?{urlencode(call.query, safe='*')}" if call.query else ""
        target = f"{self._prefix}{call.path}{query}"
        if not _is_visible(target) or not (call.content_type.isascii() and call.content_type.isprintable()):
            raise Fault(ConfigError, "a path or content type that is not encoded cannot be sent")
        head = f"{call.method} {target} HTTP/1.1\r\n{self._lines}"
        if token is not None:
            head += f"X-Authorization: {token}\r\n"
        if call.body is not None:
            head += f"Content-Type: {call.content_type}\r\n"
        return head.encode("ascii")


class Body:
    """Collects the body of an answer without its content encoding; gzip is the only one that is asked for."""

    def __init__(self) -> None:
        self._plain = bytearray()  # not a list of parts: there may be one for every byte
        self._is_packed = False
        self._unpacker: zlib._Decompress | None = None

    def open(self, encoding: bytes | None) -> None:
        """Begin, with the value of the header Content-Encoding; raises Fault for one that was not asked for."""
        coding = (encoding or b"").strip().lower()
        if coding in {b"gzip", b"x-gzip"}:
            self._is_packed = True
        elif coding not in {b"", b"identity"}:
            raise Fault(AnswerError, "the answer has a content encoding that was not asked for")

    def add(self, data: bytes) -> None:
        """Add a part; raises Fault if it is broken, or too much, which is known before memory is filled."""
        if self._is_packed:
            data = self._unpacked(data)
        self._plain += data
        if len(self._plain) > MAX_BODY:
            raise Fault(AnswerError, TOO_LARGE)

    def close(self) -> bytes:
        """Return the whole; raises Fault if the end of it is missing."""
        if self._unpacker is not None and not self._unpacker.eof:
            raise Fault(AnswerError, "the answer's gzip does not end")
        plain, self._plain = bytes(self._plain), bytearray()  # whoever keeps this object does not keep an answer
        return plain

    def _unpacked(self, data: bytes) -> bytes:
        if self._unpacker is None:
            self._unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
        try:
            plain = self._unpacker.decompress(data, MAX_BODY + 1 - len(self._plain))
        except zlib.error:
            raise Fault(AnswerError, "the answer is not the gzip that it says it is") from None
        if self._unpacker.unused_data:
            raise Fault(AnswerError, "the answer goes on after the end of its gzip")
        return plain
