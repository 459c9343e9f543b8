"""The settings of the connection: what is refused, and how it is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from certificates import Authority
from podium.config import _VARIABLES, AuthenticationSettings, Configuration, masked_url
from podium.errors import ConfigError

NO_URL = [
    "http://[::1/api",
    "http://localhost:99999/api",
    "http://localhost:port/api",
    "http://exa mple/api",
    "http://exa\nmple/api",
    "ftp://localhost/api",
    "http:///api",
    "localhost:8080/api",
]


@pytest.mark.parametrize("url", NO_URL)
def test_an_address_that_is_no_url_is_refused_with_its_variable_and_value(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Configuration(server_api_url=url)
    assert str(caught.value).startswith(f"server_api_url: not a server URL: {url!r}; expected e.g. http")
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", url)
    with pytest.raises(ConfigError) as caught:
        Configuration()
    assert str(caught.value).startswith(f"CONDUCTOR_SERVER_URL: not a server URL: {url!r}; expected e.g. http")


@pytest.mark.parametrize("url", ["http://[::1]:8080/api", " http://localhost:8080/api/ ", "https://a.b/c/api"])
def test_an_address_that_is_a_url_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CONDUCTOR_SERVER_URL", url)
    assert Configuration().host == url.strip().rstrip("/")


def test_the_base_url_alone_may_be_given_by_position() -> None:
    assert Configuration("http://localhost:8080").host == "http://localhost:8080/api"
    assert Configuration("http://localhost:8080/").host == Configuration(base_url="http://localhost:8080").host
    assert Configuration("http://a", server_api_url="http://b/api").host == "http://b/api"
    with pytest.raises(TypeError, match="positional"):
        Configuration("http://localhost:8080", "http://localhost:8080/api")  # type: ignore[call-arg]


def test_a_base_url_with_the_path_of_the_api_is_refused_with_the_fix() -> None:
    with pytest.raises(ConfigError, match="base_url: leave out /api, or give it as server_api_url"):
        Configuration("http://localhost:8080/api/")


def test_credentials_of_another_type_are_refused_with_the_fix() -> None:
    credentials: Any = {"key_id": "key", "key_secret": "planted"}
    with pytest.raises(
        ConfigError, match=r"Configuration\.authentication_settings: expected Auth.*, not dict"
    ) as caught:
        Configuration(authentication_settings=credentials)
    assert "planted" not in str(caught.value)
    assert Configuration(authentication_settings=AuthenticationSettings(**credentials)).authentication_settings


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("http://host:1/a@b", "http://host:1/a@b"),
        ("http://me:planted@host:1/a@b", "http://***@host:1/a@b"),
        ("http://me:plan/ted@host/api", "***@host/api"),
        ("http://me:planted@[::1/api", "***@[::1/api"),
        ("me:planted@host/api", "***@host/api"),
        ("http://[::1/api", "http://[::1/api"),
    ],
)
def test_user_and_password_of_a_url_are_hidden_also_if_it_is_none(url: str, masked: str) -> None:
    assert masked_url(url) == masked


# settings from the environment


def test_environment_gives_what_the_code_leaves_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority(tmp_path).cert
    monkeypatch.setenv("CONDUCTOR_TLS_CA_PATH", authority)
    monkeypatch.setenv("CONDUCTOR_TLS_INSECURE", "yes")
    monkeypatch.setenv("CONDUCTOR_PROXY_URL", "proxy:3128")
    monkeypatch.setenv("CONDUCTOR_REGISTER_SCHEMAS", "ON")
    monkeypatch.setenv("CONDUCTOR_CONNECT_TIMEOUT_MS", "1500")
    configuration = Configuration(request_timeout=7)
    assert configuration.ssl_ca_cert == authority
    assert not configuration.verify_ssl
    assert configuration.proxy == "http://proxy:3128"
    assert configuration.register_schema
    assert (configuration.connect_timeout, configuration.request_timeout) == (1.5, 7)
    assert configuration.sources["connect_timeout"] == "CONDUCTOR_CONNECT_TIMEOUT_MS"
    assert configuration.sources["request_timeout"] == "code"
    assert configuration.sources["key_file"] == "default"


def test_code_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_REGISTER_SCHEMAS", "true")
    monkeypatch.setenv("CONDUCTOR_TLS_INSECURE", "true")
    monkeypatch.setenv("CONDUCTOR_PROXY_URL", "http://other:1")
    configuration = Configuration(register_schema=False, verify_ssl=True, proxy="http://mine:2")
    assert (configuration.register_schema, configuration.verify_ssl) == (False, True)
    assert configuration.proxy == "http://mine:2"


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("CONDUCTOR_REGISTER_SCHEMAS", "maybe", "CONDUCTOR_REGISTER_SCHEMAS='maybe': expected one of true"),
        ("CONDUCTOR_TLS_INSECURE", "2", "CONDUCTOR_TLS_INSECURE='2': expected one of true"),
        ("CONDUCTOR_CONNECT_TIMEOUT_MS", "soon", "CONDUCTOR_CONNECT_TIMEOUT_MS='soon': expected a number"),
        ("CONDUCTOR_REQUEST_TIMEOUT_MS", "0", "CONDUCTOR_REQUEST_TIMEOUT_MS must be above 0"),
        ("CONDUCTOR_TLS_CA_PATH", "/no/such.pem", "CONDUCTOR_TLS_CA_PATH: no such file: /no/such.pem"),
        ("CONDUCTOR_PROXY_URL", "http://[", "CONDUCTOR_PROXY_URL: not a proxy URL"),
    ],
)
def test_wrong_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, text: str, complaint: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigError) as caught:
        Configuration()
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", ["verify_ssl", "require_tls", "register_schema"])
def test_flag_in_code_is_a_bool(name: str) -> None:
    settings: dict[str, Any] = {name: "yes"}
    with pytest.raises(ConfigError, match=f"Configuration.{name}='yes': expected True or False"):
        Configuration(**settings)


def test_every_setting_is_described_with_its_variable() -> None:
    text = Configuration.__doc__ or ""
    for name, variable in _VARIABLES.items():
        assert f"    {name}\n" in text or f"{name}\n" in text or f"{name}," in text
        assert variable.name in text


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("base_url", 5, ": expected a text, not int"),
        ("server_api_url", b"http://x/api", ": expected a text, not bytes"),
        ("proxy", 3128, ": expected a text, not int"), ("ssl_ca_cert", 1, ": expected a text, not int"),
        ("connect_timeout", "5", " must be above 0 and at most 1000000, not '5'"),
        ("connect_timeout", True, " must be above 0 and at most 1000000, not True"),
        ("request_timeout", math.inf, " must be above 0 and at most 1000000, not inf"),
        ("request_timeout", 1e300, " must be above 0 and at most 1000000, not 1e+300"),
        ("auth_token_ttl_min", None, " must be above 0 and at most 1000000, not None"),
    ],
)  # fmt: skip
def test_value_of_a_wrong_type_or_beyond_all_measure_is_named(setting: str, value: Any, expected: str) -> None:
    options: dict[str, Any] = {setting: value}
    with pytest.raises(ConfigError) as caught:
        Configuration(**options)
    assert str(caught.value) == f"Configuration.{setting}{expected}"


def test_time_without_end_by_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONDUCTOR_REQUEST_TIMEOUT_MS", "inf")
    with pytest.raises(ConfigError, match="CONDUCTOR_REQUEST_TIMEOUT_MS must be above 0 and at most"):
        Configuration()


def test_query_of_a_url_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError, match="has no query or fragment after 'http://conductor/api'") as caught:
        Configuration(server_api_url="http://conductor/api?token=planted")
    assert "planted" not in str(caught.value)


def test_file_that_may_not_be_read_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    locked = tmp_path / "ca.pem"
    locked.touch()

    def refuse(*_: object) -> None:  # as root may read everything
        raise PermissionError(13, "Permission denied", str(locked))

    monkeypatch.setattr("ssl.SSLContext.load_verify_locations", refuse)
    with pytest.raises(ConfigError, match=r"Configuration\.ssl_ca_cert.*Permission denied"):
        Configuration(ssl_ca_cert=str(locked))
