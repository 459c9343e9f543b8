"""HTTP to one Conductor server: connections, token, errors. The only module that knows the HTTP library."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlsplit

import msgspec
from pyreqwest import exceptions as http_errors
from pyreqwest.client import Client as HttpClient
from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder

from podium.answers import LOGIN_LIMIT, Response, error_of, is_web_page, printable, refuses_token
from podium.config import Configuration, is_loopback, masked_url, proxy_for
from podium.errors import (
    AnswerError,
    ConfigError,
    ConnectError,
    CutError,
    NotFoundError,
    TimeoutExceededError,
    TransportError,
)
from podium.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyreqwest.request import StreamRequest
    from pyreqwest.response import Response as HttpResponse

    Query = Mapping[str, str | int] | Sequence[tuple[str, str | int]]
    #: Called after every request: method, path template, status (0 = no answer), seconds.
    RequestHook = Callable[[str, str, int, float], None]

logger = logging.getLogger(__name__)

#: Largest answer that is read, after decompression.
MAX_BODY: Final = 64 * 1024 * 1024
#: Conductor closes a connection that was idle for 60 s; leaving it first avoids the race.
_IDLE_LIMIT: Final = timedelta(seconds=50)

#: The process in which the HTTP library started its threads. They do not survive a fork.
_home_pid: int | None = None
_build_lock = threading.Lock()
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


class _Call(NamedTuple):
    method: str
    path: str
    query: Query | None
    body: bytes | None
    content_type: str
    timeout: float | None
    template: str


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
        self._http: HttpClient | None = None
        self._closed = False
        _check_security(configuration)

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
        call = _Call(method, path, query, body, content_type, timeout, template or path)
        self._ready()
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
        http, self._http = self._http, None
        if http is not None and _home_pid == os.getpid():
            await http.close()

    async def _login(self) -> str | None:
        settings = self._configuration.authentication_settings
        assert settings is not None, "tokens exist only with credentials"
        body = msgspec.json.encode({"keyId": settings.key_id, "keySecret": settings.key_secret})
        limit = min(self._configuration.request_timeout, LOGIN_LIMIT)
        call = _Call("POST", "/token", None, body, "application/json", limit, "/token")
        try:
            response = self._accepted(call, await self._exchange(call, None), settings.key_secret)
        except NotFoundError:
            return None  # an open server
        return _token_in(response, self._name(call))

    async def _exchange(self, call: _Call, token: str | None) -> Response:
        """Send and return whatever status comes back.

        A GET that was cut before its answer began is sent once more: that is how a kept-alive connection looks that
        the server closes in the same moment. Whether anything else may be repeated is the caller's decision.
        """
        again = call.method == "GET"
        while True:
            begun, status = time.monotonic(), 0
            try:
                async with self._built(call, token) as answer:
                    status = answer.status
                    return await _read(answer, self._name(call))
            except http_errors.PyreqwestError as error:
                fault = self._fault(error, call)
                if not (again and isinstance(fault, CutError) and _BEFORE_ANSWER in _causes(error)):
                    raise fault from None
                again = False
            finally:
                if self.on_request is not None:
                    self.on_request(call.method, call.template, status, time.monotonic() - begun)

    def _accepted(self, call: _Call, response: Response, *secrets: str | None) -> Response:
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

    def _built(self, call: _Call, token: str | None) -> StreamRequest:
        request = self._ready().request(call.method, self._configuration.host + call.path)
        if call.query:
            request = request.query(call.query)
        if call.body is not None:
            request = request.header("Content-Type", call.content_type).body_bytes(call.body)
        if token is not None:
            request = request.header("X-Authorization", token, is_sensitive=True)
        if call.timeout is not None:
            request = request.timeout(timedelta(seconds=call.timeout))
        return request.build_streamed()

    def _fault(self, error: http_errors.PyreqwestError, call: _Call) -> TransportError | ConfigError:
        kind, cause = classified(error)
        limit = call.timeout or self._configuration.request_timeout
        late = f" within {limit:g} s" if kind is TimeoutExceededError else ""
        proxy = proxy_for(self._configuration) if kind is ConnectError else None
        way = f" through the proxy {masked_url(proxy)}" if proxy else ""
        return kind(f"{self._name(call)}{way}: {cause}{late}")

    def _name(self, call: _Call) -> str:
        return f"{call.method} {self._origin}{call.path}"

    def _ready(self) -> HttpClient:
        """Return the open pool; open it if this is the first request."""
        global _home_pid  # noqa: PLW0603 - a fact about the process
        if self._closed:
            raise ConnectError(f"{self!r} is closed")
        if _home_pid not in {None, os.getpid()}:
            raise ConfigError(
                "this process was forked from one that had already talked to a server, and connections do not survive "
                'a fork: use start_method="forkserver" or "spawn", or fork before the first request'
            )
        if self._http is None:
            with _build_lock:
                if self._http is None:
                    _home_pid = os.getpid()
                    self._http = _pool(self._configuration)
        return self._http


async def _read(answer: HttpResponse, name: str) -> Response:
    if int(answer.get_header("content-length") or 0) > MAX_BODY:
        raise _too_large(name)
    chunks, size = [], 0
    while (chunk := await answer.body_reader.read_chunk()) is not None:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise _too_large(name)
    header = answer.get_header
    body = b"".join(chunks)
    return Response(answer.status, body, header("content-type"), header("retry-after"), header("location"))


def _too_large(name: str) -> AnswerError:
    return AnswerError(f"{name}: the answer is larger than {MAX_BODY >> 20} MB")


def _token_in(response: Response, name: str) -> str:
    try:
        token = msgspec.json.decode(response.body, type=dict[str, str])["token"]
    except (msgspec.DecodeError, KeyError):
        token = ""
    if not (token and token.isascii() and token.isprintable()):
        raise AnswerError(f"{name}: the answer holds no token")  # and is not shown: it may hold half of one
    return token


# --- errors of the HTTP library ------------------------------------------------------------------------------------

#: What each error means, looked up along the class's ancestors; ``classified`` knows the exceptions.
_MEANING: Final[dict[type[Exception], type[TransportError | ConfigError]]] = {
    http_errors.PyreqwestError: CutError,  # unknown trouble: the request may have arrived
    http_errors.BuilderError: ConfigError,
    http_errors.StatusError: AnswerError,
    http_errors.RedirectError: AnswerError,
    http_errors.DecodeError: AnswerError,
    http_errors.RequestTimeoutError: TimeoutExceededError,
    http_errors.PoolTimeoutError: ConnectError,
}
#: Texts in the chain of causes, the most telling first, and what they tell a user; {} is the innermost cause.
_CAUSES: Final = (
    ("UnknownIssuer", "the server's certificate comes from no trusted authority (set ssl_ca_cert to trust its own)"),
    ("CaUsedAsEndEntity", "the server shows a CA certificate as its own: issue a server certificate from it"),
    ("invalid peer certificate", "the server's certificate is not valid: {}"),
    ("proxy authorization required", "the proxy wants other credentials"),
    ("dns error", "the host name does not resolve: {}"),
    ("Connection refused", "connection refused"),
    ("tunnel error", "the proxy could not connect to the server"),
    ("InvalidContentType", "the server does not speak TLS: use http://"),
    ("tls handshake eof", "the server ended the TLS handshake: wrong TLS version, or it wants a client certificate"),
    ("CertificateRequired", "the server wants a client certificate (set cert_file and key_file)"),
    ("close_notify", "the server ended the TLS connection: it may want another client certificate"),
    ("received fatal alert", "the server refused the TLS connection: {}"),
    ("connection closed before message completed", "the server closed the connection without an answer"),
    ("operation timed out", "no answer"),
)
#: Links in the chain of causes: while connecting; after that and before the answer's head.
_CONNECTING: Final = "client error (Connect)"
_BEFORE_ANSWER: Final = "client error (SendRequest)"
#: Causes that are a time limit. The library's timeout errors are not enough: it makes one of every error whose text
#: has the word "timeout" in it, and the URL is part of that text.
_LATE: Final = frozenset({"operation timed out", "deadline has elapsed"})
#: What a cause says of an answer that is not HTTP.
_UNREADABLE: Final = (" parsed", "message head is too large")


def _causes(error: http_errors.PyreqwestError) -> list[str]:
    """Return the chain of causes, the innermost last, without the first one: it repeats the URL and so user data."""
    details = getattr(error, "details", None) or {}
    chain = [cause["message"] for cause in details.get("causes") or ()]
    return [cause for cause in chain if not cause.startswith("error sending request")]


def classified(error: http_errors.PyreqwestError) -> tuple[type[TransportError | ConfigError], str]:
    """Return the class of podium's errors for an error of the HTTP library, and its cause in words.

    The library's own classes do not tell "refused" from "cut after sending"; its chain of causes does.
    """
    causes = _causes(error)
    text = " ".join(causes)
    late = not _LATE.isdisjoint(causes)
    kind = next(_MEANING[base] for base in type(error).__mro__ if base in _MEANING)
    if kind is TimeoutExceededError and causes and not late:
        kind = AnswerError if any(sign in text for sign in _UNREADABLE) else CutError
    if _CONNECTING in causes and late:
        return ConnectError, "no connection in time"
    if _CONNECTING in causes or "CertificateRequired" in text:
        kind = ConnectError
    elif "error reading a body from connection" in causes:
        kind = CutError
    words = next((words for sign, words in _CAUSES if sign in text), "{}")
    return kind, words.format(printable(causes[-1] if causes else error.message))


# --- the connection pool and its thread ----------------------------------------------------------------------------


def _pool(configuration: Configuration) -> HttpClient:
    try:
        return _pool_builder(configuration).build()
    except http_errors.BuilderError as error:
        proxy = proxy_for(configuration) or ""
        if configuration.host.startswith("http:") and not proxy.startswith("https:"):
            # A system without any certificate authority, but no certificate will be looked at either.
            return _pool_builder(configuration).danger_accept_invalid_certs(enable=True).build()
        _, cause = classified(error)
        raise ConfigError(
            f"TLS cannot be set up: {cause}; install the system's CA certificates or set ssl_ca_cert"
        ) from None


def _pool_builder(configuration: Configuration) -> ClientBuilder:
    builder = (
        ClientBuilder()
        .user_agent("podium")
        .http1_only()
        .follow_redirects(enable=False)
        .referer(enable=False)
        .brotli(enable=False)
        .zstd(enable=False)
        .deflate(enable=False)
        .min_tls_version("TLSv1.2")
        .danger_accept_invalid_certs(enable=not configuration.verify_ssl)
        .connect_timeout(timedelta(seconds=configuration.connect_timeout))
        .timeout(timedelta(seconds=configuration.request_timeout))
        .pool_idle_timeout(_IDLE_LIMIT)
    )
    if configuration.ssl_ca_cert is not None:
        builder = builder.add_root_certificate_pem(Path(configuration.ssl_ca_cert).read_bytes())
    if configuration.cert_file is not None and configuration.key_file is not None:
        certificate, key = Path(configuration.cert_file), Path(configuration.key_file)
        builder = builder.identity_pem(certificate.read_bytes() + b"\n" + key.read_bytes())
    proxy = proxy_for(configuration)
    return builder.no_proxy() if proxy is None else builder.proxy(ProxyBuilder.all(proxy))


def _check_security(configuration: Configuration) -> None:
    """Warn of what is unsafe, refuse what cannot work."""
    for kind, url in (("server", configuration.host), ("proxy", proxy_for(configuration))):
        if url is not None and not Url.is_valid(url):
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


@atexit.register
def _leave_python() -> None:
    """Wait until the HTTP library's thread is done with Python before the interpreter goes down.

    That thread wakes event loops from outside. Caught at it by the interpreter's end, it aborts the whole process. It
    does one thing after the other, so once it has refused a request that it may not send, the waking is behind it.
    """
    if _home_pid == os.getpid():
        no_plain_http = SyncClientBuilder().https_only(enable=True).danger_accept_invalid_certs(enable=True).build()
        with suppress(http_errors.BuilderError):
            no_plain_http.get("http://never-sent.invalid/").build().send()
