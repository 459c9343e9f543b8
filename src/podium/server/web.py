"""The HTTP side that all routes share: reading requests, writing answers, refusing what is wrong."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from podium.server.definitions import read_document
from podium.server.problems import Problem, parse_problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Bytes of a request body that are read at most.
BODY_LIMIT = 16 * 1024 * 1024

_encode = msgspec.json.Encoder().encode

Endpoint = Callable[[Request], Awaitable[Response]]


def json_answer(value: Any, status: int = 200) -> Response:
    """Return an answer with a JSON body."""
    return Response(_encode(value), status, media_type="application/json")


def text_answer(text: str) -> Response:
    """Return an answer with a text body."""
    return Response(text, media_type="text/plain")


def empty_answer(status: int = 200) -> Response:
    """Return an answer without a body."""
    return Response(b"", status)


async def read_body(request: Request) -> bytes:
    """Return the raw body. Raises Problem 413."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > BODY_LIMIT:
        raise _too_large()
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_LIMIT:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def missing_body(request: Request) -> Problem:
    """Return the refusal of a request without a body."""
    return Problem(500, f"Required request body is missing: {request.method} {request.url.path}")


def _too_large() -> Problem:
    return Problem(413, f"The request body is larger than {BODY_LIMIT} bytes")


async def read_json_bytes(request: Request, *, required: bool = True) -> bytes:
    """Return the body of a request that declares it as JSON; empty only if none is required. Raises Problem."""
    body = await read_body(request)
    if not body:
        if required:
            raise missing_body(request)
        return body
    content_type = request.headers.get("content-type", "")
    if not content_type.partition(";")[0].strip().lower().endswith(("/json", "+json")):
        raise Problem(500, f"Content-Type '{content_type}' is not supported")
    return body


async def read_json(request: Request, *, required: bool = True) -> Any:
    """Return the decoded JSON body, or None if there is none and none is required. Raises Problem."""
    body = await read_json_bytes(request, required=required)
    return decode_json(body) if body else None


def decode_json(body: bytes) -> Any:
    """Return the value of a JSON text. Raises Problem."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise parse_problem(str(error)) from None


async def read_as(request: Request, kind: type[T]) -> T:
    """Return the body as a struct. Raises Problem."""
    return read_document(await read_json(request), kind)


async def read_map(request: Request) -> dict[str, Any]:
    """Return the body as a JSON object with all its nulls. Raises Problem."""
    value = await read_json(request)
    if not isinstance(value, dict):
        raise parse_problem(f"Cannot deserialize an object from {_kind(value)} value")
    return value


async def read_list(request: Request) -> list[Any]:
    """Return the body as a JSON array. Raises Problem."""
    value = await read_json(request)
    if not isinstance(value, list):
        raise parse_problem(f"Cannot deserialize an array from {_kind(value)} value")
    return value


def _kind(value: Any) -> str:
    return {dict: "Object", list: "Array", str: "String", bool: "Boolean"}.get(type(value), "Number")


def integer(request: Request, name: str, default: int) -> int:
    """Return a query parameter as a number. Raises Problem 500, as the real server does."""
    found = optional_integer(request, name)
    return default if found is None else found


def optional_integer(request: Request, name: str) -> int | None:
    """Return a query parameter as a number, or None if it is not given. Raises Problem 500."""
    text = request.query_params.get(name)
    return None if not text else as_integer(text, name)


def as_integer(text: str, name: str) -> int:
    """Return a text as a 32-bit number. Raises Problem 500."""
    try:
        value = int(text)
    except ValueError:
        value = 2**31
    if not -(2**31) <= value < 2**31:
        raise Problem(
            500,
            f"Method parameter '{name}': Failed to convert value of type 'java.lang.String' to required type 'int'; "
            f'For input string: "{text}"',
        )
    return value


def flag(request: Request, name: str, *, default: bool = False) -> bool:
    """Return a query parameter as a boolean."""
    text = request.query_params.get(name)
    return default if text is None else text.lower() in {"true", "1", "yes", "on"}


def required_query(request: Request, name: str) -> str:
    """Return a query parameter. Raises Problem 500 if it is missing."""
    text = request.query_params.get(name)
    if text is None:
        raise Problem(500, f"Required request parameter '{name}' for method parameter type String is not present")
    return text


class Guard:
    """The outermost layer: refuses foreign hosts, and turns every error into Conductor's error body.

    ``hosts`` are the host names by which the server may be called, None for any. A server on the loopback
    interface answers to local names only, so that a web page cannot reach it through a name of its own.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["app"] = self  # makes the router raise its refusals, so that they are answered here
        try:
            self._check_host(scope)
            await self._app(scope, receive, send)
        except ClientDisconnect:
            logger.debug("the client of %s left before its request was read", scope["path"])
        except Exception as error:
            await _error_answer(scope, error)(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        if self._hosts is None:
            return
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.decode("latin-1").strip().lower()
                bare = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
                if bare not in self._hosts:
                    raise Problem(403, f"This server is local and does not answer for the host {bare!r}")


def _error_answer(scope: Scope, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        path = scope["path"].lstrip("/")
        missing = error.status_code == 404
        problem = Problem(
            error.status_code,
            f"No static resource {path}." if missing else f"Request method '{scope['method']}' is not supported",
        )
    elif isinstance(error, Problem):
        problem = error
    else:
        logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
        problem = Problem(500, f"{type(error).__name__}: {error}")
    return json_answer(problem.body(), problem.status)
