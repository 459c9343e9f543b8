"""Reading what a server answers when it does not answer as asked. Pure: no I/O, no HTTP library."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from podium.errors import AnswerError, ApiError, ConnectError, PodiumError
from podium.models import TaskIds

T = TypeVar("T")

#: Longest part of an error body that ends up in a message.
MAX_MESSAGE: Final = 500
_TEXT_LIMIT: Final = 200
#: Seconds that an answer may take beyond the time that the server was asked to wait. With the first pause after a
#: failure, a poll that is never answered is followed by the next one 5 s after the end of its long poll.
ANSWER_GRACE: Final = 4.5
#: Seconds that getting a token may take, at most: whoever waits for it polls nothing meanwhile.
LOGIN_LIMIT: Final = 10.0
#: Bytes of the longest body in which an error's fields are looked for.
_LONGEST_ERROR: Final = 1024 * 1024
_TITLE: Final = re.compile(rb"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)
#: What ends a line, commands a terminal, or turns the direction of writing.
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_UNPRINTABLE_IN_LINES: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
#: What a gateway says when a token, not a permission, is the trouble.
_TOKEN_CODES: Final = frozenset({"EXPIRED_TOKEN", "INVALID_TOKEN"})
_API_URL: Final = "the API's URL ends in /api, such as http://localhost:8080/api"
#: How many signs are looked at one by one, which takes half a second.
_MOST_SIGNS: Final = 1_000_000
#: Strings, brackets and commas. A string that does not end goes on to the end of everything, and nothing is looked at
#: twice: the time that a hostile text takes grows with its length, no faster.
_STRUCTURE: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},]', re.DOTALL)


class Response:
    """An answer: status, body and the few headers that mean something here."""

    __slots__ = ("body", "content_type", "location", "retry_after", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str | None = None,
        retry_after: str | None = None,
        location: str | None = None,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.retry_after = retry_after
        self.location = location

    def __repr__(self) -> str:
        return f"Response({self.status}, {len(self.body)} bytes, {self.content_type!r})"


def refuses_token(response: Response) -> bool:
    """Whether a new token may help: any 401, and a 403 that names the token as its reason."""
    return response.status == 401 or (response.status == 403 and _fields(response.body).get("error") in _TOKEN_CODES)


def is_web_page(response: Response) -> bool:
    """Whether a person was meant to read this: a login page of a gateway is no acknowledgement of a result."""
    return (response.content_type or "").startswith("text/html")


def error_of(
    response: Response,
    method: str,
    path: str,
    *,
    origin: str = "",
    credentials: bool = True,
    secrets: tuple[str, ...] = (),
) -> PodiumError:
    """Return the error for an answer that is not 2xx or is a web page.

    ``origin`` is the URL in front of ``path``, fit for a log line; ``credentials`` says whether there are any;
    ``secrets`` are blotted out of the error's text.
    """
    where = f"{method} {origin}{path}"
    if response.status < 300:
        return AnswerError(
            f"{where}: a web page came back, not an answer of Conductor: {_text(response.body)}; {_API_URL}"
        )
    if response.status < 400:
        return AnswerError(f"{where}: {_redirect(response)}")
    if response.status == 407:
        return ConnectError(f"{where}: the proxy wants other credentials (407)")
    fields = _fields(response.body)
    code = fields.get("error")
    message = fields.get("message") or (code if isinstance(code, str) else None)
    text = printable(str(message), MAX_MESSAGE) if message else _text(response.body)
    for secret in secrets:
        text = text.replace(secret, "***")
    return ApiError.of(response.status)(
        response.status,
        text or "(no message)",
        method=method,
        path=path,
        origin=origin,
        advice=_advice(response, text, path, origin, credentials=credentials),
        server_retryable=fields.get("retryable") is True,
        validation_errors=_validation_errors(fields.get("validationErrors")),
        retry_after=None if response.retry_after is None else _seconds(response.retry_after),
        code=code if isinstance(code, str) else None,
    )


def _advice(response: Response, text: str, path: str, origin: str, *, credentials: bool) -> str:
    """Return what a user can do about an error status, if that is known."""
    if response.status in {401, 403}:
        if not credentials:
            return "no credentials are set (CONDUCTOR_AUTH_KEY, CONDUCTOR_AUTH_SECRET)"
        return "the key or its secret was refused" if path == "/token" else ""
    # Below a URL that does end in /api, it is the endpoint that an old server lacks.
    astray = response.status == 404 and text.startswith("No static resource") and not origin.endswith("/api")
    return _API_URL if astray or (is_web_page(response) and response.status < 500) else ""


def printable(text: str, limit: int = _TEXT_LIMIT) -> str:
    """Return text of a stranger fit for a log line: control characters escaped, shortened."""
    short = text if len(text) <= limit else text[:limit] + "..."
    return _UNPRINTABLE.sub(_escape, short)


def harmless(text: str) -> str:
    """Return text of any number of lines fit for a terminal: control characters escaped, but for newlines and tabs."""
    return _UNPRINTABLE_IN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


def decoded(response: Response, kind: type[T]) -> T:
    """Return the JSON body as a value of that type; AnswerError if it is none."""
    try:
        return msgspec.json.decode(response.body, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        # The complaint names types and places, never values.
        raise AnswerError(f"unexpected answer, {response!r}: {error}") from None


def text_of(response: Response) -> str:
    """Return the body of a plain text answer; a gateway may have made a JSON string of it."""
    if (response.content_type or "").startswith("application/json"):
        return decoded(response, str)
    return response.body.decode("utf-8", "replace")


def elements_of(body: bytes) -> list[bytes]:
    """Return the tasks of a poll's answer as they were sent, unread.

    A task that is broken or nested too deeply comes back too, as long as its end can be told, so that it does not
    take its neighbours along.

    Raises AnswerError if the body is no array, or so large and so broken that taking it apart would hold up the rest.
    """
    try:
        if body.count(b",") > _MOST_SIGNS:  # of what is no task there could be as many, which would fill the memory
            _heads.decode(body)
        return [bytes(element) for element in _array.decode(body)]
    except (msgspec.DecodeError, RecursionError):
        return _split(body)


_array: Final = msgspec.json.Decoder(list[msgspec.Raw])
_heads: Final = msgspec.json.Decoder(list[TaskIds])


def _split(body: bytes) -> list[bytes]:
    """Cut an array at the commas of its own level, looking at nothing but strings and brackets."""
    text = body.strip()
    if not (text.startswith(b"[") and text.endswith(b"]")):
        raise AnswerError(f"expected a JSON array, got {_kind_of(text)}")
    elements, depth, start, sign = [], 0, 1, b""
    for sign, begin, end in _signs(text):
        if sign in b"[{":
            depth += 1
        elif sign in b"]}":
            depth -= 1
        if (depth == 1 and sign == b",") or depth == 0:
            elements.append(text[start:begin].strip())
            start = end
            if depth == 0:
                break
    if start != len(text) and depth > 0 and sign.startswith(b'"'):  # a string without an end took the rest along
        elements.append(text[start:-1].strip())
    elif start != len(text):
        raise AnswerError(f"the brackets of a JSON array of {len(body)} bytes do not match")
    return elements


def _kind_of(body: bytes) -> str:
    """Return in words what a body is that should have been tasks. Not its text: that may be their input."""
    if title := _TITLE.search(body[:4096]):
        return f"a web page: {_text(title[0])}"
    kinds = {b"{": "an object", b"[": "an array that does not end", b'"': "a text", b"n": "null", b"": "nothing"}
    return f"{kinds.get(body[:1], 'something else')} ({len(body)} bytes)"


def flattened(body: bytes) -> bytes:
    """Return the JSON of an object with null in place of each object and array in it, whatever is wrong inside.

    Raises AnswerError for one that has too much in it.
    """
    pieces, depth, start = [], 0, 0
    for sign, begin, end in _signs(body):
        if sign in b"[{":
            depth += 1
            if depth == 2:
                pieces.append(body[start:begin])
        elif sign in b"]}":
            depth -= 1
            if depth == 1:
                pieces.append(b"null")
                start = end
    return b"".join(pieces) + body[start:]


def _signs(text: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield strings, brackets and commas with their places; AnswerError if there are very many."""
    for number, match in enumerate(_STRUCTURE.finditer(text)):
        if number == _MOST_SIGNS:
            raise AnswerError(f"an answer of {len(text)} bytes is broken, and too large to be read piece by piece")
        yield match[0], match.start(), match.end()


def _fields(body: bytes) -> dict[str, Any]:
    if len(body) > _LONGEST_ERROR:
        return {}
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _text(body: bytes) -> str:
    title = _TITLE.search(body[:4096])
    return printable((title[1] if title else body[: 4 * _TEXT_LIMIT]).decode("utf-8", "replace").strip())


def _validation_errors(entries: object) -> tuple[str, ...]:
    if not isinstance(entries, list):
        return ()
    # The invalid value is left out: it is the user's data.
    return tuple(
        printable(f"{entry.get('path')}: {entry.get('message')}") for entry in entries if isinstance(entry, dict)
    )


def _redirect(response: Response) -> str:
    if response.location is None:
        return f"unexpected status {response.status}"
    host = urlsplit(response.location).netloc.rpartition("@")[2] or "a path of the same server"
    return (
        f"the server redirects ({response.status}) to {printable(host)}; podium does not follow, because the token "
        "and the data would go along: set the server URL to where the API is"
    )


def _seconds(retry_after: str) -> float | None:
    """Read a Retry-After header: seconds or an HTTP date."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None
