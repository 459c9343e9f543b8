"""Requests to one Conductor server: token, errors, repetition of what was cut. How they travel is a Way's business."""

from __future__ import annotations

import logging
import re
import socket
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

import msgspec

from podium.answers import LOGIN_LIMIT, Response, error_of, is_web_page, refuses_token
from podium.call import Call, Fault
from podium.config import Configuration, is_loopback, masked_url, proxy_for
from podium.direct import Direct
from podium.errors import (
    AnswerError,
    ConfigError,
    ConnectError,
    NotFoundError,
    TimeoutExceededError,
    TransportError,
)
from podium.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable

    from podium.call import Query, Way

    #: Called after every request: method, path template, status (0 = no answer), seconds.
    RequestHook = Callable[[str, str, int, float], None]

logger = logging.getLogger(__name__)

#: What no host name can have in it.
_NO_HOST: Final = re.compile(r"[\x00-\x20\"#%/<>?@\[\\\]^`{|}\x7f]")

#: What was warned of already, once per process.
_warned: set[str] = set()


def quoted(segment: str) -> str:
    """Return a name or id as one path segment.

    Raises ConfigError for what could change the path: empty, ``.``, ``..``, a slash, NUL.
    """
    if segment in {"", ".", ".."} or "/" in segment or "\0" in segment:
        raise ConfigError(
            f"{segment!r} cannot be a name or id in a URL: it is empty, a dot path, or has / or NUL in it"
        )
    return quote(segment, safe="")


class Transport:
    """The way to one server, with a connection pool and a token.

    Bound to no event loop: any loop of any thread may use the same transport, also several at once. The pool opens
    with the first request. Close it with ``aclose`` when it is no longer needed.
    """

    def __init__(self, configuration: Configuration, *, on_request: RequestHook | None = None) -> None:
        if not isinstance(configuration, Configuration):
            raise ConfigError(
                f"expected a Configuration, e.g. Configuration(server_api_url=...), not {type(configuration).__name__}"
            )
        self.on_request = on_request
        self._configuration = configuration
        self._origin = masked_url(configuration.host)
        self._tokens = Tokens.of(configuration)
        self._closed = False
        _check_security(configuration)
        self._way = _way(configuration)

    def __repr__(self) -> str:
        return f"Transport({self._origin!r})"

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
        timeout: float | None = None,  # noqa: ASYNC109 - a limit that ends the request itself, also for metrics
        template: str | None = None,
    ) -> Response:
        """Send a request and return its 2xx answer.

        ``path`` is below the API URL and encoded (see ``quoted``), ``timeout`` in seconds covers everything from
        connecting to the last byte (default: the configured request_timeout), ``template`` names the endpoint for
        metrics.

        Raises ApiError subclasses for error statuses and TransportError subclasses if no usable answer came.
        """
        limit = self._configuration.request_timeout if timeout is None else timeout
        call = Call(method, path, query, body, content_type, limit, template or path)
        tokens = self._tokens
        if tokens is None:
            return self._accepted(call, await self._exchange(call, None))
        token = await tokens.current(self._login)
        response = await self._exchange(call, token)
        if refuses_token(response):
            newer = await tokens.replacement(token, self._login)
            if newer != token:
                token = newer
                response = await self._exchange(call, token)
        return self._accepted(call, response, token)

    async def aclose(self) -> None:
        """Close all connections; requests under way fail with CutError, later ones with ConnectError."""
        self._closed = True
        await self._way.aclose()

    async def _login(self) -> str | None:
        settings = self._configuration.authentication_settings
        assert settings is not None, "tokens exist only with credentials"
        body = msgspec.json.encode({"keyId": settings.key_id, "keySecret": settings.key_secret})
        limit = min(self._configuration.request_timeout, LOGIN_LIMIT)
        call = Call("POST", "/token", None, body, "application/json", limit, "/token")
        try:
            response = self._accepted(call, await self._exchange(call, None), settings.key_secret)
        except NotFoundError:
            return None  # an open server
        return _token_in(response, self._name(call))

    async def _exchange(self, call: Call, token: str | None) -> Response:
        """Send and return whatever status comes back.

        A GET that was cut before its answer began is sent once more: that is how a kept-alive connection looks that
        the server closes in the same moment. Whether anything else may be repeated is the caller's decision.
        """
        again = call.method == "GET"
        if self._closed:
            raise ConnectError(f"{self!r} is closed")
        while True:
            begun, status = time.monotonic(), 0
            try:
                response = await self._way.exchange(call, token)
            except Fault as fault:
                status = fault.status
                if not again or not fault.is_unanswered or self._closed:
                    raise self._error(fault, call) from None
                again = False
            else:
                status = response.status
                return response
            finally:
                if self.on_request is not None:
                    self.on_request(call.method, call.template, status, time.monotonic() - begun)

    def _accepted(self, call: Call, response: Response, *secrets: str | None) -> Response:
        if 200 <= response.status < 300 and not is_web_page(response):
            return response
        raise error_of(
            response,
            call.method,
            call.path,
            origin=self._origin,
            credentials=self._tokens is not None,
            secrets=tuple(secret for secret in secrets if secret),
        )

    def _error(self, fault: Fault, call: Call) -> TransportError | ConfigError:
        late = f" within {call.timeout:g} s" if fault.kind is TimeoutExceededError else ""
        proxy = proxy_for(self._configuration) if fault.kind is ConnectError else None
        way = f" through the proxy {masked_url(proxy)}" if proxy else ""
        return fault.kind(f"{self._name(call)}{way}: {fault.cause}{late}")

    def _name(self, call: Call) -> str:
        return f"{call.method} {self._origin}{call.path}"


def _way(configuration: Configuration) -> Way:
    if urlsplit(configuration.host).scheme == "http" and proxy_for(configuration) is None:
        return Direct(configuration)
    from podium.library import Library  # most programs need none of it: its import and its memory are saved

    return Library(configuration)


def _token_in(response: Response, name: str) -> str:
    try:
        token = msgspec.json.decode(response.body, type=dict[str, str])["token"]
    except (msgspec.DecodeError, KeyError):
        token = ""
    if not (token and token.isascii() and token.isprintable()):
        raise AnswerError(f"{name}: the answer holds no token")  # and is not shown: it may hold half of one
    return token


def _check_security(configuration: Configuration) -> None:
    """Warn of what is unsafe, refuse what cannot work."""
    for kind, url in (("server", configuration.host), ("proxy", proxy_for(configuration))):
        if url is not None and not _is_host(urlsplit(url).hostname or ""):
            raise ConfigError(f"not a {kind} URL: {masked_url(url)!r}")
    server = urlsplit(configuration.host)
    if not configuration.verify_ssl:
        _warn_once(f"verify_ssl is False: whoever answers for {server.netloc.rpartition('@')[2]} is believed")
    if server.scheme == "http" and configuration.authentication_settings and not is_loopback(server.hostname):
        _warn_once(f"credentials and data travel unencrypted: {masked_url(configuration.host)} is plain http")


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        logger.warning("%s", message)


def _is_host(name: str) -> bool:
    try:
        plain = name.encode("idna").decode()
    except UnicodeError:
        return False
    is_number = plain.rpartition(".")[2].isdigit() and ":" not in plain
    return not _NO_HOST.search(plain) and (not is_number or _is_ipv4(plain))


def _is_ipv4(name: str) -> bool:
    try:
        socket.inet_aton(name)
    except OSError:
        return False
    return True
