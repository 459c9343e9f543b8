"""conductor-python's Configuration, which may change after it was made; and its extra log level."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from podium import config
from podium.compat.absence import WithAbsent
from podium.errors import ConfigError

TRACE_LEVEL: Final = 5

#: Libraries that would fill the log with what each request does.
_CHATTY = ("urllib3", "httpx", "httpcore")
_TOKENS = "podium fetches and renews tokens by itself"


def trace(logger: logging.Logger, message: str, *args: Any, **kwargs: Any) -> None:
    """Log a message with level 5, below DEBUG. Nothing is added to ``logging.Logger``: call it as a function."""
    logger.log(TRACE_LEVEL, message, *args, **kwargs)


class Configuration(WithAbsent):
    """How to reach the server, and how an application logs.

    TLS and proxy settings are attributes that may be set until a TaskHandler gets the object. An attribute that
    would have no effect raises ConfigError when it is set.
    """

    absent: ClassVar[Mapping[str, str]] = {
        "temp_folder_path": "podium writes no temporary files",
        "assert_hostname": "the host name is checked with the certificate; verify_ssl=False checks neither",
        "http_connection": "podium has its own HTTP client; set verify_ssl, ssl_ca_cert, cert_file, key_file or proxy",
        "safe_chars_for_path_param": "podium escapes what stands in a path",
        "AUTH_TOKEN": _TOKENS,
        "token_update_time": _TOKENS,
        "update_token": _TOKENS,
    }

    #: Attributes that are passed on if they are set, with their values until then.
    verify_ssl: bool = True
    ssl_ca_cert: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    proxy: str | None = None

    def __init__(
        self,
        base_url: str | None = None,
        debug: bool = False,
        authentication_settings: config.AuthenticationSettings | None = None,
        server_api_url: str | None = None,
        auth_token_ttl_min: float = 45,
        register_schema: bool | None = None,
        log_level: int | None = None,
    ) -> None:
        native = config.Configuration(
            base_url=base_url, server_api_url=server_api_url, authentication_settings=authentication_settings
        )
        self.host = native.host
        self.authentication_settings = native.authentication_settings
        self.auth_token_ttl_msec = auth_token_ttl_min * 60_000
        self.register_schema = register_schema
        self.log_level = log_level if log_level is not None else _level_from_environment(debug=debug)
        self.logger_format = "%(asctime)s %(name)-12s %(levelname)-8s %(message)s"

    def __setattr__(self, name: str, value: Any) -> None:
        if type(self) is Configuration and name not in _ATTRIBUTES and value is not None:
            near = difflib.get_close_matches(name, _ATTRIBUTES, n=1)
            hint = self.absent.get(name) or (f"did you mean {near[0]!r}?" if near else "it would have no effect")
            raise ConfigError(f"Configuration.{name} has no place in podium: {hint}")
        super().__setattr__(name, value)

    @property
    def debug(self) -> bool:
        """Whether the log level is DEBUG or below."""
        return self.log_level <= logging.DEBUG

    @debug.setter
    def debug(self, value: bool) -> None:
        self.log_level = logging.DEBUG if value else logging.INFO

    @property
    def ui_host(self) -> str:
        """CONDUCTOR_UI_SERVER_URL, else the server's URL without ``/api``."""
        return os.environ.get("CONDUCTOR_UI_SERVER_URL") or self.host.removesuffix("/api")

    def apply_logging_config(self, log_format: str | None = None, level: int | None = None) -> None:
        """Let the root logger write to standard error, unless it has handlers already; silence HTTP libraries."""
        logging.basicConfig(format=log_format or self.logger_format, level=self.log_level if level is None else level)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)

    @staticmethod
    def get_logging_formatted_name(name: str) -> str:
        """Return the name with the process's id in front."""
        return f"[{os.getpid()}] {name}"

    def native(self) -> config.Configuration:
        """Return podium's Configuration with the values of now."""
        stated = {name: value for name, value in vars(self).items() if name in _PASSED_ON and value is not None}
        return config.Configuration(
            server_api_url=self.host, auth_token_ttl_min=self.auth_token_ttl_msec / 60_000, **stated
        )


_PASSED_ON = (
    "verify_ssl", "ssl_ca_cert", "cert_file", "key_file", "proxy", "authentication_settings", "register_schema",
)  # fmt: skip
_ATTRIBUTES = (*_PASSED_ON, "host", "auth_token_ttl_msec", "log_level", "logger_format", "debug")


def _level_from_environment(*, debug: bool) -> int:
    text = os.environ.get("CONDUCTOR_LOG_LEVEL", "").strip().upper()
    levels = {"TRACE": TRACE_LEVEL, **logging.getLevelNamesMapping()}
    if text and text not in levels and not text.isdecimal():
        raise ConfigError(f"CONDUCTOR_LOG_LEVEL: {text!r} is no log level; expected one of {', '.join(levels)}")
    if text:
        return levels[text] if text in levels else int(text)
    return logging.DEBUG if debug else logging.INFO
