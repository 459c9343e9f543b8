from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from podium import ConfigError, MetricsCollector, MetricsSettings


def test_defaults_write_a_file_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = MetricsSettings()
    assert settings.file_path == tmp_path / "tmp" / "metrics.prom"
    assert (settings.http_port, settings.http_host, settings.style) == (None, "127.0.0.1", "legacy")
    assert (settings.update_interval, settings.window) == (5.0, 1000)


def test_arguments_may_stand_in_the_other_sdk_s_order(tmp_path: Path) -> None:
    settings = MetricsSettings(str(tmp_path), "m.prom", 0.1, 8000)
    assert settings.file_path == tmp_path / "m.prom"
    assert (settings.update_interval, settings.http_port) == (0.1, 8000)


def test_a_port_alone_means_no_file_and_with_a_directory_both(tmp_path: Path) -> None:
    assert MetricsSettings(http_port=0).file_path is None
    assert MetricsSettings(directory=tmp_path, http_port=0).file_path == tmp_path / "metrics.prom"


def test_home_is_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert MetricsSettings(directory="~/here").file_path == tmp_path / "here" / "metrics.prom"
    with pytest.raises(ConfigError, match=r"directory='~nobody-of-that-name/here': .*give a full path"):
        _ = MetricsSettings(directory="~nobody-of-that-name/here").file_path


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        MetricsSettings().window = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("directory", "", "the path of a folder"),
        ("directory", 7, "the path of a folder"),
        ("directory", "a\0b", "the path of a folder"),
        ("file_name", "", "the name of a file"),
        ("file_name", "..", "the name of a file"),
        ("file_name", "../up.prom", "the name of a file"),
        ("file_name", None, "the name of a file"),
        ("update_interval", 0, "seconds, above 0"),
        ("update_interval", -1.0, "seconds, above 0"),
        ("update_interval", float("nan"), "seconds, above 0"),
        ("update_interval", float("inf"), "at most 86400"),
        ("update_interval", True, "seconds, above 0"),
        ("update_interval", "5", "seconds, above 0"),
        ("http_port", -1, "to 65535"),
        ("http_port", 65_536, "to 65535"),
        ("http_port", "8000", "to 65535"),
        ("http_port", True, "to 65535"),
        ("http_host", "", "an address or host name"),
        ("http_host", " localhost", "an address or host name"),
        ("http_host", None, "an address or host name"),
        ("style", "Legacy", "'legacy', 'canonical'"),
        ("style", "", "'legacy', 'canonical'"),
        ("window", 0, "from 1 to 100000"),
        ("window", 1.5, "from 1 to 100000"),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MetricsSettings(**{name: value})
    assert f"MetricsSettings.{name}={value!r}" in str(caught.value)
    assert allowed in str(caught.value)


@pytest.mark.parametrize("value", ["true", "1", "yes", "on", "TRUE", " On "])
def test_environment_chooses_canonical(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CANONICAL_METRICS", value)
    assert MetricsSettings().is_canonical
    assert MetricsSettings(style="legacy").style == "legacy"  # code wins


@pytest.mark.parametrize("value", ["false", "0", "no", "off", "", "No"])
def test_environment_chooses_legacy(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CANONICAL_METRICS", value)
    assert not MetricsSettings().is_canonical


def test_unreadable_environment_is_an_error_unless_code_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_CANONICAL_METRICS", "maybe")
    with pytest.raises(ConfigError, match="WORKER_CANONICAL_METRICS='maybe': expected true or false"):
        MetricsSettings()
    assert MetricsSettings(style="canonical").is_canonical
    with pytest.raises(ConfigError, match="WORKER_CANONICAL_METRICS"):
        MetricsCollector()


def test_collector_refuses_what_are_no_settings() -> None:
    with pytest.raises(ConfigError, match=r"expected MetricsSettings\(...\), not str"):
        MetricsCollector("canonical")  # type: ignore[arg-type]
