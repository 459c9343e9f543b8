"""The way to a server through the HTTP library: TLS, proxies. The only module that knows pyreqwest."""

from __future__ import annotations

import atexit
import os
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pyreqwest import exceptions as http_errors
from pyreqwest.client import ClientBuilder, SyncClientBuilder
from pyreqwest.http import Url
from pyreqwest.proxy import ProxyBuilder

from podium.answers import Response, printable
from podium.call import IDLE_LIMIT, MAX_BODY, TOO_LARGE, Fault
from podium.config import masked_url, proxy_for
from podium.errors import AnswerError, ConfigError, ConnectError, CutError, TimeoutExceededError, TransportError

if TYPE_CHECKING:
    from pyreqwest.client import Client as HttpClient
    from pyreqwest.request import StreamRequest
    from pyreqwest.response import Response as HttpResponse

    from podium.call import Call
    from podium.config import Configuration

#: The process in which the HTTP library started its threads. They do not survive a fork.
_home_pid: int | None = None
_build_lock = threading.Lock()


class Library:
    """The HTTP library's pool of connections to one server, for all event loops. It opens with the first request."""

    def __init__(self, configuration: Configuration) -> None:
        for url in (configuration.host, proxy_for(configuration)):
            if url is not None and not Url.is_valid(url):  # the library is harder to please than the configuration
                raise ConfigError(f"not a URL that can be used: {masked_url(url)!r}")
        self._configuration = configuration
        self._http: HttpClient | None = None

    async def exchange(self, call: Call, token: str | None) -> Response:
        """Send a request and return its answer, whatever its status; raises Fault if none came."""
        status = 0
        try:
            async with self._built(call, token) as answer:
                status = answer.status
                return await _read(answer)
        except http_errors.PyreqwestError as error:
            kind, cause = classified(error)
            unanswered = kind is CutError and _BEFORE_ANSWER in _causes(error)
            raise Fault(kind, cause, status=status, is_unanswered=unanswered) from None

    async def aclose(self) -> None:
        """Close all connections; requests under way end with a CutError."""
        http, self._http = self._http, None
        if http is not None and _home_pid == os.getpid():
            await http.close()

    def _built(self, call: Call, token: str | None) -> StreamRequest:
        request = self._ready().request(call.method, self._configuration.host + call.path)
        if call.query:
            request = request.query(call.query)
        if call.body is not None:
            request = request.header("Content-Type", call.content_type).body_bytes(call.body)
        if token is not None:
            request = request.header("X-Authorization", token, is_sensitive=True)
        return request.timeout(timedelta(seconds=call.timeout)).build_streamed()

    def _ready(self) -> HttpClient:
        """Return the open pool; open it if this is the first request."""
        global _home_pid  # noqa: PLW0603 - a fact about the process
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


async def _read(answer: HttpResponse) -> Response:
    if int(answer.get_header("content-length") or 0) > MAX_BODY:
        raise Fault(AnswerError, TOO_LARGE, status=answer.status)
    chunks, size = [], 0
    while (chunk := await answer.body_reader.read_chunk()) is not None:
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise Fault(AnswerError, TOO_LARGE, status=answer.status)
    headers = (_header(answer, name) for name in ("content-type", "retry-after", "location"))
    return Response(answer.status, b"".join(chunks), *headers)


def _header(answer: HttpResponse, name: str) -> str | None:
    """Return a header's value; None if there is none, or one that is no ASCII text."""
    try:
        return answer.get_header(name)
    except ValueError:
        return None


# --- its errors ---------------------------------------------------------------------------------------------------

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
        .pool_idle_timeout(timedelta(seconds=IDLE_LIMIT))
    )
    if configuration.ssl_ca_cert is not None:
        builder = builder.add_root_certificate_pem(Path(configuration.ssl_ca_cert).read_bytes())
    if configuration.cert_file is not None and configuration.key_file is not None:
        certificate, key = Path(configuration.cert_file), Path(configuration.key_file)
        builder = builder.identity_pem(certificate.read_bytes() + b"\n" + key.read_bytes())
    proxy = proxy_for(configuration)
    return builder.no_proxy() if proxy is None else builder.proxy(ProxyBuilder.all(proxy))


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
