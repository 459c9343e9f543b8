"""Settings of the connection to a Conductor server."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from podium.backoff import is_duration
from podium.errors import ConfigError
from podium.options import read_flag

DEFAULT_SERVER_URL = "http://localhost:8080/api"


@dataclass(frozen=True)
class AuthenticationSettings:
    """Credentials of an application: exchanged for a token at ``POST /token``. Neither of the two shows in a repr."""

    key_id: str = field(repr=False)
    key_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        for name in ("key_id", "key_secret"):
            if not getattr(self, name):
                raise ConfigError(f"AuthenticationSettings.{name} is empty")


#: Seconds, or minutes for a token, of the longest time: no system can wait for one that is much longer.
_LONGEST: Final = 1_000_000

#: Settings that are text, and those that are the path of a file.
_TEXTS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("base_url", "server_api_url", "proxy"), str | None),
    **dict.fromkeys(("ssl_ca_cert", "cert_file", "key_file", "spool_dir"), str | os.PathLike | None),
}

#: The default of a setting that the environment may give.
_ENVIRONMENT: Final[Any] = None


class _Variable(NamedTuple):
    """An environment variable for a setting; ``read`` raises ValueError with what is expected instead."""

    name: str
    read: Callable[[str], Any]
    default: Any


@dataclass(frozen=True, repr=False)
class Configuration:
    """How to reach the server.

    An argument wins over the environment variable named beside it, which wins over the default in parentheses.

    server_api_url
        CONDUCTOR_SERVER_URL. URL of the API, used as it is (``http://localhost:8080/api``).
    base_url
        The same without ``/api``; ``server_api_url`` wins. The only setting that may be given by position.
    authentication_settings
        CONDUCTOR_AUTH_KEY and CONDUCTOR_AUTH_SECRET. Credentials (none).
    auth_token_ttl_min
        Age in minutes at which a token is renewed (45).
    verify_ssl
        CONDUCTOR_TLS_INSECURE, which says the opposite. Check the server's certificate (True). False is logged as a
        warning at each start.
    ssl_ca_cert
        CONDUCTOR_TLS_CA_PATH. PEM file with certificate authorities to trust besides those of the system (none).
    cert_file, key_file
        CONDUCTOR_TLS_CERT_PATH, CONDUCTOR_TLS_KEY_PATH. PEM files of the client certificate and its unencrypted key,
        for servers that ask for one (none).
    require_tls
        CONDUCTOR_REQUIRE_TLS. Refuse a plain http URL unless it is of this machine (False).
    proxy
        CONDUCTOR_PROXY_URL. URL of an HTTP proxy, with user and password if it wants them; NO_PROXY does not limit it.
        Without one, the variables HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY decide.
    register_schema
        CONDUCTOR_REGISTER_SCHEMAS. Whether workers register JSON schemas of their input and output, if they do not
        say so themselves (False).
    spool
        CONDUCTOR_SPOOL. Keep results that the server has not taken on disk (True). They are there in clear text, in
        files that only this user may read. Without it they wait in memory, and do not survive the process.
    spool_dir
        CONDUCTOR_SPOOL_DIR. The folder for them (``podium/spool`` in XDG_STATE_HOME or ``~/.local/state``; without a
        home that can be written to, ``podium-spool-<uid>`` among the temporary files). Several processes may share it.
    connect_timeout, request_timeout
        CONDUCTOR_CONNECT_TIMEOUT_MS, CONDUCTOR_REQUEST_TIMEOUT_MS. Seconds (10, 60); the variables are in
        milliseconds. A poll has its own limit: its long-poll time plus 5 s.

    Raises ConfigError for a value that cannot work, also of an environment variable.
    """

    base_url: str | None = None
    _: KW_ONLY
    server_api_url: str | None = None
    authentication_settings: AuthenticationSettings | None = None
    auth_token_ttl_min: float = 45
    verify_ssl: bool = _ENVIRONMENT
    ssl_ca_cert: str | None = _ENVIRONMENT
    cert_file: str | None = _ENVIRONMENT
    key_file: str | None = _ENVIRONMENT
    require_tls: bool = _ENVIRONMENT
    proxy: str | None = _ENVIRONMENT
    register_schema: bool = _ENVIRONMENT
    spool: bool = _ENVIRONMENT
    spool_dir: str | os.PathLike[str] | None = _ENVIRONMENT
    connect_timeout: float = _ENVIRONMENT
    request_timeout: float = _ENVIRONMENT
    #: The resolved API URL without a trailing slash.
    host: str = field(init=False)
    #: Setting -> "code", "default", or the name of the environment variable that its value comes from.
    sources: dict[str, str] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self._check_texts()
        source, host = self._resolve_host()
        object.__setattr__(self, "host", host)
        object.__setattr__(self, "sources", {"host": source})
        for name, variable in _VARIABLES.items():
            self._resolve(name, variable)
        self._resolve_credentials()
        for name in ("verify_ssl", "require_tls", "register_schema", "spool"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"Configuration.{name}={getattr(self, name)!r}: expected True or False")
        for name in ("ssl_ca_cert", "cert_file", "key_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"{self._named(name)}: no such file: {path}")
        if (self.cert_file is None) != (self.key_file is None):
            raise ConfigError("Configuration.cert_file and key_file belong together: give both or neither")
        self._check_pem_files()
        if self.proxy is not None:
            object.__setattr__(self, "proxy", _checked_proxy(self._named("proxy"), self.proxy))
        self._check_scheme()
        self._check_times()

    def _resolve(self, name: str, variable: _Variable) -> None:
        if getattr(self, name) is not None:
            self.sources[name] = "code"
            return
        text = os.environ.get(variable.name, "")
        try:
            value = variable.read(text) if text else variable.default
        except ValueError as error:
            raise ConfigError(f"environment variable {variable.name}={text!r}: expected {error}") from None
        object.__setattr__(self, name, value)
        self.sources[name] = variable.name if text else "default"

    def _resolve_credentials(self) -> None:
        if self.authentication_settings is None:
            found = _credentials_from_environment()
            object.__setattr__(self, "authentication_settings", found)
            self.sources["authentication"] = "default" if found is None else "CONDUCTOR_AUTH_KEY"
        elif isinstance(self.authentication_settings, AuthenticationSettings):
            self.sources["authentication"] = "code"
        else:
            raise ConfigError(
                "Configuration.authentication_settings: expected AuthenticationSettings(key_id=..., key_secret=...), "
                f"not {type(self.authentication_settings).__name__}"
            )

    def _named(self, name: str) -> str:
        """Return what a user has to change: the variable if the setting comes from one."""
        source = self.sources.get(name, "code")
        return f"Configuration.{name}" if source in {"code", "default"} else source

    def _resolve_host(self) -> tuple[str, str]:
        if self.server_api_url is not None:
            source, url = "server_api_url", self.server_api_url
        elif self.base_url is not None:
            source, url = "base_url", self.base_url.strip().rstrip("/") + "/api"
            if url.endswith("/api/api"):
                raise ConfigError(
                    f"base_url: leave out /api, or give it as server_api_url: {masked_url(self.base_url)!r}"
                )
        elif os.environ.get("CONDUCTOR_SERVER_URL"):
            source, url = "CONDUCTOR_SERVER_URL", os.environ["CONDUCTOR_SERVER_URL"]
        else:
            source, url = "default", DEFAULT_SERVER_URL
        return source, _checked_url(source, url)

    def __repr__(self) -> str:
        auth = "set" if self.authentication_settings else "none"
        proxy = masked_url(self.proxy) if self.proxy else None
        return f"Configuration(host={masked_url(self.host)!r}, authentication={auth}, proxy={proxy!r})"

    def _check_texts(self) -> None:
        for name, kinds in _TEXTS.items():
            if not isinstance(getattr(self, name), kinds):
                raise ConfigError(f"Configuration.{name}: expected a text, not {type(getattr(self, name)).__name__}")

    def _check_times(self) -> None:
        for name in ("connect_timeout", "request_timeout", "auth_token_ttl_min"):
            value = getattr(self, name)
            if not is_duration(value) or not 0 < value <= _LONGEST:
                raise ConfigError(f"{self._named(name)} must be above 0 and at most {_LONGEST}, not {value!r}")

    def _check_scheme(self) -> None:
        parts = urlsplit(self.host)
        if self.require_tls and parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ConfigError(
                f"TLS is required (require_tls or CONDUCTOR_REQUIRE_TLS), but {masked_url(self.host)} is http"
            )

    def _check_pem_files(self) -> None:
        """Raise ConfigError for files that hold no certificate: the HTTP library takes them without a word."""
        if self.ssl_ca_cert is None and self.cert_file is None:
            return
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ssl_ca_cert is not None:
            try:
                context.load_verify_locations(self.ssl_ca_cert)
            except OSError as error:  # that of TLS, or of a file that may not be read
                raise ConfigError(f"Configuration.ssl_ca_cert: no PEM certificates in it: {error}") from None
        if self.cert_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password="")
            except OSError as error:
                raise ConfigError(
                    f"Configuration.cert_file and key_file: not an unencrypted PEM certificate with its key: {error}"
                ) from None


def proxy_for(configuration: Configuration) -> str | None:
    """Return the proxy on the way to the server: the setting, or else what the environment says.

    NO_PROXY lists hosts, domains with their subdomains, addresses and networks (10.0.0.0/8), each perhaps with a
    port; ``*`` means every host.
    """
    if configuration.proxy is not None:
        return configuration.proxy
    server = urlsplit(configuration.host)
    exempt = [entry.strip().lower() for entry in _proxy_variable("no")[1].split(",")]
    if any(_covers(entry, server.hostname or "", server.port) for entry in exempt if entry):
        return None
    for kind in (server.scheme, "all"):
        source, proxy = _proxy_variable(kind)
        if proxy:
            return _checked_proxy(source, proxy)
    return None


def _proxy_variable(kind: str) -> tuple[str, str]:
    """Return the name and the value of an environment variable that is set in small or in capital letters."""
    small = f"{kind}_proxy"
    name = small if os.environ.get(small) else small.upper()
    return name, os.environ.get(name, "")


def _covers(entry: str, host: str, port: int | None) -> bool:
    entry = entry.removesuffix(f":{port}")
    if entry in {"*", host}:
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return host.endswith("." + entry.removeprefix("*").removeprefix("."))


def _checked_proxy(source: str, proxy: str) -> str:
    url = proxy if "://" in proxy else f"http://{proxy}"
    _split(source, url, "proxy URL", "http://proxy:3128")
    return url


def is_loopback(host: str | None) -> bool:
    """Whether a host of a URL is this machine itself."""
    if host is None:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _read_seconds(text: str) -> float:
    """Read milliseconds as seconds."""
    try:
        return float(text) / 1000
    except ValueError:
        raise ValueError("a number of milliseconds above 0") from None


#: The settings that the environment may give. The names are those of the other SDKs.
_VARIABLES: Final[Mapping[str, _Variable]] = {
    "verify_ssl": _Variable("CONDUCTOR_TLS_INSECURE", lambda text: not read_flag(text), default=True),
    "ssl_ca_cert": _Variable("CONDUCTOR_TLS_CA_PATH", str, None),
    "cert_file": _Variable("CONDUCTOR_TLS_CERT_PATH", str, None),
    "key_file": _Variable("CONDUCTOR_TLS_KEY_PATH", str, None),
    "require_tls": _Variable("CONDUCTOR_REQUIRE_TLS", read_flag, default=False),
    "proxy": _Variable("CONDUCTOR_PROXY_URL", str, None),
    "register_schema": _Variable("CONDUCTOR_REGISTER_SCHEMAS", read_flag, default=False),
    "spool": _Variable("CONDUCTOR_SPOOL", read_flag, default=True),
    "spool_dir": _Variable("CONDUCTOR_SPOOL_DIR", str, None),
    "connect_timeout": _Variable("CONDUCTOR_CONNECT_TIMEOUT_MS", _read_seconds, 10.0),
    "request_timeout": _Variable("CONDUCTOR_REQUEST_TIMEOUT_MS", _read_seconds, 60.0),
}


def _checked_url(source: str, url: str) -> str:
    url = url.strip()
    parts = _split(source, url, "server URL", DEFAULT_SERVER_URL)
    if parts.query or parts.fragment:
        rest = masked_url(urlunsplit(parts._replace(query="", fragment="")))  # they may hold a secret
        raise ConfigError(f"{source}: a server URL has no query or fragment after {rest!r}")
    return url.rstrip("/")


def _split(source: str, url: str, kind: str, example: str) -> SplitResult:
    """Return the parts of an http or https URL; ConfigError if it is none."""
    parts = _parts(url)
    if parts is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError(f"{source}: not a {kind}: {masked_url(url)!r}; expected e.g. {example}")
    return parts


def _parts(url: str) -> SplitResult | None:
    if any(char.isspace() or not char.isprintable() for char in url):
        return None  # urlsplit would overlook some of them
    try:
        parts = urlsplit(url)
        _ = parts.port  # is read on demand, and may be none
    except ValueError:
        return None
    return parts


def masked_url(url: str) -> str:
    """Return the URL with user name and password hidden, for messages and logs."""
    parts = _parts(url)
    if parts is None or not parts.netloc:  # where they end is not certain: hide rather more
        _, at, rest = url.rpartition("@")
        return f"***@{rest}" if at else url
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rpartition("@")[2]))


def _credentials_from_environment() -> AuthenticationSettings | None:
    key, secret = os.environ.get("CONDUCTOR_AUTH_KEY"), os.environ.get("CONDUCTOR_AUTH_SECRET")
    if not key and not secret:
        return None
    if not key or not secret:
        missing = "CONDUCTOR_AUTH_SECRET" if key else "CONDUCTOR_AUTH_KEY"
        raise ConfigError(f"{missing} is not set, but its partner is: set both or neither")
    return AuthenticationSettings(key_id=key, key_secret=secret)


def default_worker_id() -> str:
    """Return the worker id that Conductor shows for this host: its name."""
    return socket.gethostname()
